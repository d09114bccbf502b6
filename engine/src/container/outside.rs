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
use crate::id::ContainerId;
use crate::settings::{OciRuntime, Settings};
use crate::snapshot::{Upper, merged};

/// The name of the engine's own runtime that tools know.
pub(super) const RUNTIME: &str = "runc";
/// Its other names.
const OWN: [&str; 2] = ["engine", "io.containerd.runc.v2"];

/// The runtime of the host that is meant by a name; `None` for the engine's own.
fn find(name: &str, settings: &Settings) -> Result<Option<OciRuntime>, Error> {
    match settings.runtimes.get(name) {
        Some(found) => Ok(Some(found.clone())),
        // Containers of earlier engines have no name of one.
        None if name == RUNTIME || name.is_empty() || OWN.contains(&name) => Ok(None),
        None => Err(Error::invalid(format!("unknown or invalid runtime name: {name}"))),
    }
}

/// Refuses a runtime that nobody knows, and what cannot be had with it.
pub(super) fn check(host: &HostConfig, settings: &Settings) -> Result<(), Error> {
    if find(&host.runtime, settings)?.is_some() && host.init == Some(true) {
        return Err(Error::unsupported(format!("an init of the engine's (--init) with the runtime {}", host.runtime)));
    }
    Ok(())
}

/// What is written down of the runtime of a new container: what its name means now, and the path of its program.
pub(super) fn decide(host: &HostConfig, settings: &Settings) -> Result<Option<OciRuntime>, Error> {
    let Some(named) = find(&host.runtime, settings)? else { return Ok(None) };
    let found = External::new(named.path.as_str()).found().map_err(|error| {
        Error::invalid(format!("the program of the runtime {} cannot be used: {error}", host.runtime))
    })?;
    Ok(Some(OciRuntime { path: found.program, ..named }))
}

/// By whom the next run of a container is made; `None`: by the engine itself.
pub(super) fn of(record: &Record) -> Option<External> {
    let by = record.outside.as_ref()?;
    Some(External { arguments: by.arguments.clone(), ..External::new(by.path.as_str()) })
}

/// Has the runtime that made a container forget it. What it does not take away is taken away without it.
pub(super) fn forget(shared: &Shared, id: &ContainerId) {
    if let Err(error) = shared.parts.runtime.delete_external(id.as_str()) {
        tracing::warn!(container = %id, %error, "the runtime of the container cannot delete it");
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
        assert_eq!(find("crun", &settings).unwrap().unwrap().path, "/usr/bin/crun");
        for own in ["", "runc", "engine", "io.containerd.runc.v2"] {
            assert_eq!(find(own, &settings).unwrap(), None);
        }
        let error = find("kata", &settings).unwrap_err();
        assert_eq!(error.to_string(), "unknown or invalid runtime name: kata");
        // Who calls another one so means that.
        let settings = settings.runtime("runc", "/usr/sbin/runc");
        assert_eq!(find("runc", &settings).unwrap().unwrap().path, "/usr/sbin/runc");
        assert_eq!(find("engine", &settings).unwrap(), None);
    }

    #[test]
    fn what_a_name_means_is_decided_once() {
        let settings = Settings::default().runtime("one", "true").runtime("none", "/no/such/runtime");
        let decide = |name: &str| decide(&HostConfig { runtime: name.to_owned(), ..HostConfig::default() }, &settings);
        assert_eq!(decide("runc").unwrap(), None);
        assert!(decide("one").unwrap().unwrap().path.ends_with("/bin/true"));
        let error = decide("none").unwrap_err().to_string();
        assert!(error.contains("the runtime none") && error.contains("/no/such/runtime"), "{error}");
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
