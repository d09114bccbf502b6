//! Containers that another OCI runtime of the host makes: which one a name means, and what such a runtime is to be told in numbers
//! that the engine's own finds out by itself.

use std::path::Path;

use engine_runtime::{Bundle, External, spec};
use engine_sys::namespace;
use engine_sys::path::Root;

use super::inventory::Shared;
use super::live::Live;
use super::record::Record;
use super::{Error, HostConfig, accounts};
use crate::settings::Settings;
use crate::snapshot::{Upper, merged};

/// The name of the engine's own runtime that tools know.
pub(super) const RUNTIME: &str = "runc";
/// Its other names.
const OWN: [&str; 2] = ["engine", "io.containerd.runc.v2"];

/// The runtime of the host that is meant by a name; `None` for the engine's own.
pub(super) fn find(name: &str, settings: &Settings) -> Result<Option<External>, Error> {
    match settings.runtimes.get(name) {
        Some(found) => Ok(Some(External { program: found.path.clone(), arguments: found.arguments.clone() })),
        // Containers of earlier engines have no name of one.
        None if name == RUNTIME || name.is_empty() || OWN.contains(&name) => Ok(None),
        None => Err(Error::invalid(format!("unknown or invalid runtime name: {name}"))),
    }
}

/// Refuses a runtime that is not there, and what cannot be had with it.
pub(super) fn check(host: &HostConfig, settings: &Settings) -> Result<(), Error> {
    if find(&host.runtime, settings)?.is_some() && host.init == Some(true) {
        return Err(Error::unsupported(format!("an init of the engine's (--init) with the runtime {}", host.runtime)));
    }
    Ok(())
}

/// Has the runtime forget a container. What it does not take away is taken away without it.
pub(super) fn forget(shared: &Shared, record: &Record) {
    let Ok(Some(by)) = find(&record.config.host.runtime, &shared.parts.settings) else { return };
    if let Err(error) = shared.parts.runtime.delete_external(record.id.as_str(), &by) {
        tracing::warn!(container = %record.id, %error, "the runtime of the container cannot delete it");
    }
}

/// Puts numbers for the user and groups of a container that is about to be made.
pub(super) fn name_users(bundle: &mut Bundle, overlay: &Upper) -> Result<(), Error> {
    let user = bundle.user.take().unwrap_or_default();
    let groups = std::mem::take(&mut bundle.additional_groups);
    let failed = |error| Error::io("mount the root file system of the container", &overlay.upper, error);
    let root = Root::from_fd(merged::reopened(merged::writable(overlay).map_err(failed)?).map_err(failed)?);
    let known = accounts::identity(&root, &user, &groups)?;
    if let Some(process) = bundle.spec.process_mut() {
        set_user(process, known);
    }
    Ok(())
}

/// Puts numbers for the user and groups of a process in a container that runs.
pub(super) fn name_users_of(
    command: &mut spec::Process,
    live: &Live,
    user: Option<&str>,
    groups: &[String],
) -> Result<(), Error> {
    let failed = |error| Error::io("look into", "the container's root", error);
    let root = namespace::in_mounts(live.process(), || {
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        Ok(rustix::fs::open(Path::new("/"), flags, rustix::fs::Mode::empty())?)
    });
    let root = Root::from_fd(root.map_err(failed)?);
    set_user(command, accounts::identity(&root, user.unwrap_or_default(), groups)?);
    Ok(())
}

fn set_user(process: &mut spec::Process, known: accounts::Identity) {
    let mut user = process.user().clone();
    user.set_uid(known.uid).set_gid(known.gid);
    user.set_additional_gids(Some(known.groups).filter(|groups| !groups.is_empty()));
    process.set_user(user);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_mean_runtimes() {
        let settings = Settings::default().runtime("crun", "/usr/bin/crun");
        assert_eq!(find("crun", &settings).unwrap(), Some(External::new("/usr/bin/crun")));
        for own in ["", "runc", "engine", "io.containerd.runc.v2"] {
            assert_eq!(find(own, &settings).unwrap(), None);
        }
        let error = find("kata", &settings).unwrap_err();
        assert_eq!(error.to_string(), "unknown or invalid runtime name: kata");
        // Who calls another one so means that.
        let settings = settings.runtime("runc", "/usr/sbin/runc");
        assert_eq!(find("runc", &settings).unwrap(), Some(External::new("/usr/sbin/runc")));
        assert_eq!(find("engine", &settings).unwrap(), None);
    }

    #[test]
    fn an_init_of_the_engine_is_the_engines() {
        let settings = Settings::default().runtime("crun", "crun");
        let mut host = HostConfig { runtime: "crun".to_owned(), ..HostConfig::default() };
        check(&host, &settings).unwrap();
        host.init = Some(true);
        assert!(check(&host, &settings).is_err());
    }
}
