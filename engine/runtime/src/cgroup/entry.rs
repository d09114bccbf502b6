//! Where a further process comes into the cgroup of a container: into its own directories, or into some beneath them.

use std::fs;
use std::os::fd::BorrowedFd;
use std::path::{Component, Path, PathBuf};

use engine_sys::process;

use super::{Cgroup, Hierarchy, Places, files};
use crate::Error;

/// A cgroup beneath that of a container, which somebody has made there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subgroup {
    /// The controllers of version 1 in whose hierarchies it is entered; in the others the container's own is. None: in all
    /// hierarchies.
    pub controllers: Vec<String>,
    /// Its path from the container's own.
    pub path: PathBuf,
}

/// The directories that a process enters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Of version 2: it is born there.
    pub(crate) unified: Option<PathBuf>,
    /// Of version 1, one for each hierarchy.
    pub(crate) hierarchies: Vec<PathBuf>,
}

impl Places {
    /// The container's own directories.
    pub(crate) fn entry(&self) -> Entry {
        Entry { unified: self.unified(), hierarchies: self.hierarchies().map(|(_, directory)| directory).collect() }
    }

    fn entry_into(&self, subgroups: &[Subgroup]) -> Result<Entry, Error> {
        let invalid = |text: String| Err(Error::Invalid(text));
        let mut asked = Vec::with_capacity(subgroups.len());
        for subgroup in subgroups {
            let Some(path) = relative(&subgroup.path) else {
                return invalid(format!("cgroup path {} leaves the container's cgroup", subgroup.path.display()));
            };
            for controller in &subgroup.controllers {
                if self.layout().is_unified() {
                    return invalid(format!(
                        "cgroup controller {controller}: in version 2 a path is for all controllers"
                    ));
                }
                if self.layout().hierarchy(controller).is_none() {
                    return invalid(format!("cgroup controller {controller}: this machine has no hierarchy of it"));
                }
            }
            asked.push((subgroup, path));
        }
        let enter = |own: PathBuf, hierarchy: Option<&Hierarchy>| {
            let is_of = |name: &String| hierarchy.is_some_and(|hierarchy| hierarchy.controllers.contains(name));
            let wanted = asked
                .iter()
                .find(|(subgroup, _)| subgroup.controllers.is_empty() || subgroup.controllers.iter().any(is_of));
            wanted.map_or(own.clone(), |(_, path)| own.join(path))
        };
        Ok(Entry {
            unified: self.unified().map(|own| enter(own, None)),
            hierarchies: self.hierarchies().map(|(hierarchy, own)| enter(own, Some(hierarchy))).collect(),
        })
    }
}

impl Cgroup {
    /// Whether the container can share its controllers out among cgroups beneath its own.
    pub(crate) fn shares_out(&self) -> bool {
        self.places.layout().unified.as_ref().is_some_and(|unified| !unified.controllers.is_empty())
    }

    /// Where a further process of the container comes in, whose first process is `init`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a subgroup that is none.
    pub(crate) fn entry(&self, subgroups: &[Subgroup], init: BorrowedFd<'_>) -> Result<Entry, Error> {
        if !subgroups.is_empty() {
            return self.places.entry_into(subgroups);
        }
        let mut entry = self.places.entry();
        let shares = self.shares_out();
        // Version 2 has processes in the leaves only. An init that has shared its controllers out among cgroups beneath the
        // container's, as systemd and a daemon for containers do, has gone beneath it itself: the new process comes to it.
        if let Some(own) = entry.unified.as_mut().filter(|_| shares)
            && files::read(&own.join("cgroup.subtree_control")).is_ok_and(|shared| !shared.trim().is_empty())
            && let Ok(Some(pid)) = process::pid(init)
            && let Ok(cgroups) = fs::read_to_string(format!("/proc/{pid}/cgroup"))
            && let Some(beneath) = beneath(self.places.relative(), &cgroups)
        {
            own.push(beneath);
        }
        Ok(entry)
    }
}

/// The path of version 2 in a file such as `/proc/PID/cgroup`, from a cgroup on that it lies beneath.
fn beneath(own: &Path, cgroups: &str) -> Option<PathBuf> {
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Path::new(path).strip_prefix(own).ok().map(Path::to_path_buf)
}

/// A path without a root; `None` when it leads elsewhere or nowhere.
fn relative(path: &Path) -> Option<PathBuf> {
    let mut parts = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (!parts.as_os_str().is_empty()).then_some(parts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cgroup::{Layout, Unified};

    fn subgroup(controllers: &[&str], path: &str) -> Subgroup {
        Subgroup { controllers: controllers.iter().map(|&name| name.to_owned()).collect(), path: path.into() }
    }

    fn both() -> Places {
        let hierarchy = |name: &str, controllers: &[&str]| Hierarchy {
            mount: Path::new("/cg").join(name),
            controllers: controllers.iter().map(|&name| name.to_owned()).collect(),
        };
        let layout = Layout {
            hierarchies: vec![hierarchy("cpu,cpuacct", &["cpu", "cpuacct"]), hierarchy("memory", &["memory"])],
            unified: Some(Unified { mount: "/cg/unified".into(), controllers: Vec::new(), kills: true }),
            systemd: None,
        };
        Places::at(Path::new("a/b"), &layout).unwrap()
    }

    fn entered(places: &Places, subgroups: &[Subgroup]) -> String {
        let entry = places.entry_into(subgroups).unwrap();
        let all = entry.unified.iter().chain(&entry.hierarchies).map(|path| path.display().to_string());
        all.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_subgroup_is_entered_where_it_was_asked_for() {
        let places = both();
        assert_eq!(places.entry(), places.entry_into(&[]).unwrap());
        assert_eq!(
            entered(&places, &[subgroup(&[], "/x/./y")]),
            "/cg/unified/a/b/x/y /cg/cpu,cpuacct/a/b/x/y /cg/memory/a/b/x/y"
        );
        assert_eq!(
            entered(&places, &[subgroup(&["cpuacct"], "x"), subgroup(&["memory"], "y")]),
            "/cg/unified/a/b /cg/cpu,cpuacct/a/b/x /cg/memory/a/b/y"
        );
    }

    #[test]
    fn what_is_no_subgroup_is_refused() {
        let refused = |places: &Places, wish: Subgroup| places.entry_into(&[wish]).unwrap_err().to_string();
        for path in ["", "/", "..", "x/../../y"] {
            assert!(refused(&both(), subgroup(&[], path)).contains("leaves"), "{path}");
        }
        assert!(refused(&both(), subgroup(&["rdma"], "x")).contains("no hierarchy"));
        let unified = Some(Unified { mount: "/cg".into(), controllers: Vec::new(), kills: true });
        let two = Places::at(Path::new("a"), &Layout { unified, ..Layout::default() }).unwrap();
        assert!(refused(&two, subgroup(&["memory"], "x")).contains("version 2"));
        assert_eq!(entered(&two, &[subgroup(&[], "x")]), "/cg/a/x");
    }

    #[test]
    fn an_init_is_found_beneath_its_container_only() {
        let beneath = |cgroups| super::beneath(Path::new("engine/c1"), cgroups);
        assert_eq!(beneath("4:memory:/engine/c1\n0::/engine/c1/init\n"), Some(PathBuf::from("init")));
        assert_eq!(beneath("0::/engine/c1\n"), Some(PathBuf::new()));
        for elsewhere in ["0::/engine/c10/init\n", "0::/\n", "0::/../x\n", "4:memory:/engine/c1/init\n", ""] {
            assert_eq!(beneath(elsewhere), None, "{elsewhere}");
        }
    }
}
