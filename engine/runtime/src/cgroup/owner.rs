//! Whose the cgroup of a container is: its user's, where the container shares it out further itself.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::Cgroup;
use crate::Error;

/// Where the kernel says which files of a cgroup go to who may share it out.
const DELEGATE: &str = "/sys/kernel/cgroup/delegate";
/// Those that a kernel without that file has.
const FILES: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

/// The user of the host to whom a container's cgroup is given, as the specification has it: that of its process, when it has a
/// cgroup namespace of its own and its cgroups to write to. Of version 2 only.
pub(crate) fn owner(spec: &Spec) -> Option<u32> {
    let linux = spec.linux().as_ref()?;
    let mut namespaces = linux.namespaces().iter().flatten();
    let own = namespaces.any(|one| one.typ() == LinuxNamespaceType::Cgroup && one.path().is_none());
    let mut mounts = spec.mounts().iter().flatten();
    let writes = mounts.any(|mount| {
        matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2"))
            && mount.destination() == Path::new("/sys/fs/cgroup")
            && !mount.options().iter().flatten().any(|option| option == "ro")
    });
    let user = spec.process().as_ref()?.user().uid();
    if !own || !writes {
        return None;
    }
    match linux.uid_mappings().as_deref().unwrap_or_default() {
        [] => Some(user),
        maps => maps.iter().find_map(|map| {
            let beyond = user.checked_sub(map.container_id()).filter(|beyond| *beyond < map.size())?;
            map.host_id().checked_add(beyond)
        }),
    }
}

impl Cgroup {
    /// Gives the directory of version 2, and what of it is for who shares it out, to a user. The limits stay the host's.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn give_to(&self, user: u32) -> Result<(), Error> {
        let Some(directory) = self.places.unified().filter(|_| self.places.layout().is_unified()) else {
            return Ok(());
        };
        let named = fs::read_to_string(DELEGATE).unwrap_or_else(|_| FILES.to_owned());
        give(&directory, user)?;
        for name in named.lines().filter(|name| !name.contains('/')) {
            give(&directory.join(name), user)?;
        }
        Ok(())
    }
}

/// What a kernel does not have need not be given.
fn give(path: &Path, user: u32) -> Result<(), Error> {
    match chown(path, Some(user), None) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("give away", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::cgroup::{Layout, Places, Unified};

    fn spec(namespace: &str, options: &str, maps: &str) -> Spec {
        let text = format!(
            r#"{{"ociVersion": "1.0.2", "process": {{"user": {{"uid": 5, "gid": 6}}, "cwd": "/"}},
                "mounts": [{{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [{options}]}}],
                "linux": {{"namespaces": [{namespace}], "uidMappings": [{maps}]}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn it_is_the_containers_when_it_may_write_to_it() {
        let own = r#"{"type": "cgroup"}"#;
        assert_eq!(owner(&spec(own, r#""nosuid""#, "")), Some(5));
        let maps = r#"{"containerID": 0, "hostID": 9, "size": 1}, {"containerID": 1, "hostID": 1000, "size": 10}"#;
        assert_eq!(owner(&spec(own, "", maps)), Some(1004));
        assert_eq!(owner(&spec(own, "", r#"{"containerID": 0, "hostID": 9, "size": 5}"#)), None, "nobody on the host");
        assert_eq!(owner(&spec(own, r#""ro""#, "")), None);
        assert_eq!(owner(&spec("", "", "")), None);
        assert_eq!(owner(&spec(r#"{"type": "cgroup", "path": "/proc/1/ns/cgroup"}"#, "", "")), None);
    }

    #[test]
    fn the_files_of_limits_stay_the_hosts() {
        let room = tempfile::tempdir().unwrap();
        let directory = room.path().join("c1");
        fs::create_dir(&directory).unwrap();
        for name in ["cgroup.procs", "cgroup.subtree_control", "memory.max"] {
            fs::write(directory.join(name), "").unwrap();
        }
        let unified = Unified { mount: room.path().to_owned(), controllers: Vec::new(), kills: true };
        let layout = Layout { unified: Some(unified), ..Layout::default() };
        Cgroup::new(Places::at(Path::new("c1"), &layout).unwrap()).give_to(4242).unwrap();
        let uid = |path: &Path| path.metadata().unwrap().uid();
        assert_eq!(uid(&directory), 4242);
        assert_eq!(uid(&directory.join("cgroup.procs")), 4242);
        assert_eq!(uid(&directory.join("cgroup.subtree_control")), 4242);
        assert_eq!(uid(&directory.join("memory.max")), uid(room.path()));
    }
}
