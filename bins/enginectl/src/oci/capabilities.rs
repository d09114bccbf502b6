//! Capabilities that a container asks for and does not get, which the specification wants told and not refused.

use engine_runtime::Runtime;
use engine_runtime::capabilities::{mask, name, set};
use engine_runtime::spec::{LinuxNamespaceType, Process, Spec};

use super::Call;

/// Tells which capabilities a process is without: those that nobody knows, and those that this process lacks itself.
pub(super) fn warn_of_missing(
    call: &Call<'_>,
    runtime: &Runtime,
    spec: &Spec,
    process: Option<&Process>,
    unknown: &[String],
) {
    let missing = missing(spec, process, unknown, runtime.host().bounding);
    if !missing.is_empty() {
        call.warn(&format!("ignoring unknown or unavailable capabilities: {}", missing.join(", ")));
    }
}

fn missing(spec: &Spec, process: Option<&Process>, unknown: &[String], bounding: u64) -> Vec<String> {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    // Who is superuser of other users has all of them there.
    let of_users = namespaces.into_iter().flatten().any(|namespace| namespace.typ() == LinuxNamespaceType::User);
    let sets = process.and_then(|process| process.capabilities().as_ref()).filter(|_| !of_users);
    let asked = sets.map_or(0, |sets| {
        let all = [sets.bounding(), sets.effective(), sets.permitted(), sets.inheritable(), sets.ambient()];
        all.into_iter().flatten().fold(0, |asked, set| asked | mask(set))
    });
    let mut names: Vec<String> = set(asked & !bounding).into_iter().map(name).collect();
    names.sort();
    names.extend_from_slice(unknown);
    names
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_nobody_can_give_is_named() {
        let spec = |namespaces: &str| -> Spec {
            let text = format!(
                r#"{{"ociVersion":"1.0.2","linux":{{"namespaces":[{namespaces}]}},"process":{{"user":{{"uid":0,"gid":0}},"cwd":"/",
                    "capabilities":{{"bounding":["CAP_KILL","CAP_SYS_RESOURCE"],"ambient":["CAP_BPF"]}}}}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let unknown = ["CAP_NEW".to_owned()];
        let without = !mask(&[name_of("BPF"), name_of("SYS_RESOURCE")].into_iter().collect());
        let of = |spec: &Spec, unknown: &[String]| missing(spec, spec.process().as_ref(), unknown, without);
        assert_eq!(of(&spec(""), &unknown), ["CAP_BPF", "CAP_SYS_RESOURCE", "CAP_NEW"]);
        assert_eq!(of(&spec(r#"{"type":"user"}"#), &[]), Vec::<String>::new());
        assert_eq!(missing(&spec(""), None, &[], 0), Vec::<String>::new());
    }

    fn name_of(text: &str) -> engine_runtime::spec::Capability {
        engine_runtime::capabilities::parse(text).unwrap()
    }
}
