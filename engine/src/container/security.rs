//! What a container may do: its capabilities and its security options.

use engine_runtime::seccomp::Profile;
use engine_runtime::spec::{Capabilities, Capability};
use engine_runtime::{Host, capabilities, defaults};

use super::Error;
use super::host_config::HostConfig;

/// Which system calls are let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seccomp {
    Unconfined,
    Builtin,
    Own(Box<Profile>),
}

/// The security options of a container, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Security {
    pub(super) no_new_privileges: bool,
    pub(super) seccomp: Seccomp,
}

/// Reads `--security-opt`. Labels and profiles of security modules that the kernel does not have are taken or refused as
/// Docker does.
pub(super) fn options(host: &HostConfig) -> Result<Security, Error> {
    let mut security = Security { no_new_privileges: false, seccomp: Seccomp::Builtin };
    if host.privileged {
        security.seccomp = Seccomp::Unconfined;
    }
    for option in &host.security_opt {
        if option == "no-new-privileges" {
            security.no_new_privileges = true;
            continue;
        }
        // Labels are for SELinux; without it there are none to disable.
        if option == WRITABLE_CGROUPS || option == "disable" {
            continue;
        }
        let (name, value) = option
            .split_once(['=', ':'])
            .ok_or_else(|| Error::invalid(format!("invalid --security-opt 1: \"{option}\"")))?;
        match (name, value) {
            ("no-new-privileges", value) if truth(value).is_some() => {
                security.no_new_privileges = truth(value) == Some(true);
            }
            ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
            ("seccomp", "builtin") => security.seccomp = Seccomp::Builtin,
            ("seccomp", profile) => {
                security.seccomp = Seccomp::Own(Box::new(Profile::parse(profile.as_bytes()).map_err(runtime_invalid)?));
            }
            // Without SELinux they mean nothing.
            ("label", _) => {}
            ("apparmor", "unconfined" | "") => {}
            ("apparmor", profile) => {
                return Err(Error::invalid(format!(
                    "AppArmor is not supported by this engine, but the profile '{profile}' was specified: use apparmor=unconfined"
                )));
            }
            ("systempaths", "unconfined") => {}
            (WRITABLE_CGROUPS, value) if truth(value).is_some() => {}
            _ => return Err(Error::invalid(format!("invalid --security-opt 2: \"{option}\""))),
        }
    }
    Ok(security)
}

/// The option that lets a container make cgroups below its own one.
const WRITABLE_CGROUPS: &str = "writable-cgroups";

/// Whether a container may write to its cgroups; the last word counts.
pub(super) fn writes_cgroups(host: &HostConfig) -> bool {
    let words = host.security_opt.iter().rev().filter_map(|option| option.strip_prefix(WRITABLE_CGROUPS));
    let mut values = words.map(|value| value.is_empty() || truth(value.trim_start_matches(['=', ':'])) == Some(true));
    values.next().unwrap_or(host.privileged)
}

/// Go's words for true and false.
fn truth(word: &str) -> Option<bool> {
    match word {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Whether the kernel's files are left as they are, neither hidden nor read-only.
pub(super) fn system_paths_unconfined(host: &HostConfig) -> bool {
    host.privileged || host.security_opt.iter().any(|option| option == "systempaths=unconfined")
}

fn runtime_invalid(error: engine_runtime::Error) -> Error {
    Error::invalid(error.to_string())
}

/// The capabilities of a container: the default ones, with what is added and without what is dropped; all of them for a
/// privileged one.
pub(super) fn capability_set(config: &HostConfig, host: &Host) -> Result<Capabilities, Error> {
    let added = read("CapAdd", &config.cap_add)?;
    let dropped = read("CapDrop", &config.cap_drop)?;
    let all = || capabilities::set(host.bounding);
    if config.privileged {
        return Ok(all());
    }
    let mut held = match (&added, &dropped) {
        (Words::All, _) => all(),
        (Words::Some(_), Words::All) => Capabilities::new(),
        (Words::Some(_), Words::Some(_)) => defaults::capabilities(),
    };
    if let Words::Some(dropped) = dropped {
        held.retain(|capability| !dropped.contains(capability));
    }
    if let Words::Some(added) = added {
        held.extend(added);
    }
    Ok(held)
}

enum Words {
    All,
    Some(Vec<Capability>),
}

fn read(which: &str, words: &[String]) -> Result<Words, Error> {
    if words.iter().any(|word| word.eq_ignore_ascii_case("all")) {
        return Ok(Words::All);
    }
    let mut read = Vec::with_capacity(words.len());
    for word in words {
        let name = word.to_ascii_uppercase();
        let shown = if name.starts_with("CAP_") { name } else { format!("CAP_{name}") };
        let known = capabilities::parse(word);
        read.push(known.ok_or_else(|| Error::invalid(format!("invalid {which}: unknown capability: \"{shown}\"")))?);
    }
    Ok(Words::Some(read))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn held(add: &[&str], drop: &[&str]) -> Capabilities {
        let config = HostConfig { cap_add: strings(add), cap_drop: strings(drop), ..HostConfig::default() };
        capability_set(&config, &Host::probe().unwrap()).unwrap()
    }

    #[test]
    fn capabilities_are_added_and_dropped() {
        assert_eq!(held(&[], &[]), defaults::capabilities());
        assert!(held(&["net_admin"], &[]).contains(&Capability::NetAdmin));
        assert!(!held(&[], &["CAP_CHOWN"]).contains(&Capability::Chown));
        assert_eq!(held(&["CHOWN"], &["ALL"]), [Capability::Chown].into());
        assert!(held(&[], &["all"]).is_empty());
        let all_but = held(&["ALL"], &["CHOWN"]);
        assert!(!all_but.contains(&Capability::Chown) && all_but.contains(&Capability::SysAdmin));
    }

    #[test]
    fn unknown_capabilities_are_refused() {
        let config = HostConfig { cap_add: strings(&["fly"]), ..HostConfig::default() };
        let error = capability_set(&config, &Host::probe().unwrap()).unwrap_err().to_string();
        assert_eq!(error, "invalid CapAdd: unknown capability: \"CAP_FLY\"");
    }

    #[test]
    fn options_are_read() {
        let with = |options: &[&str]| options_of(options, false);
        fn options_of(words: &[&str], privileged: bool) -> Result<Security, Error> {
            options(&HostConfig { security_opt: strings(words), privileged, ..HostConfig::default() })
        }
        assert_eq!(with(&[]).unwrap(), Security { no_new_privileges: false, seccomp: Seccomp::Builtin });
        assert!(with(&["no-new-privileges:true"]).unwrap().no_new_privileges);
        assert_eq!(with(&["seccomp=unconfined", "label=disable"]).unwrap().seccomp, Seccomp::Unconfined);
        assert_eq!(options_of(&[], true).unwrap().seccomp, Seccomp::Unconfined);
        let own = with(&["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"]).unwrap().seccomp;
        assert!(matches!(own, Seccomp::Own(_)));
        assert!(with(&["seccomp={"]).unwrap_err().to_string().contains("Decoding seccomp profile failed"));
        let writes = |words: &[&str], privileged| {
            writes_cgroups(&HostConfig { security_opt: strings(words), privileged, ..HostConfig::default() })
        };
        with(&["writable-cgroups", "writable-cgroups=false"]).unwrap();
        assert!(writes(&["writable-cgroups"], false) && writes(&["writable-cgroups=true"], false));
        assert!(!writes(&[], false) && writes(&[], true) && !writes(&["writable-cgroups=false"], true));
        assert_eq!(
            with(&["writable-cgroups=x"]).unwrap_err().to_string(),
            "invalid --security-opt 2: \"writable-cgroups=x\""
        );
        assert_eq!(with(&["bogus"]).unwrap_err().to_string(), "invalid --security-opt 1: \"bogus\"");
        assert_eq!(with(&["a=b"]).unwrap_err().to_string(), "invalid --security-opt 2: \"a=b\"");
        assert!(with(&["apparmor=strict"]).unwrap_err().to_string().contains("'strict'"));
    }
}
