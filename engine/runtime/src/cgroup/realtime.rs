//! Processors' time for processes of realtime scheduling, of which a cgroup of version 1 has none until the one above gives it some.

use std::path::Path;

use super::{Cgroup, files, make_parents, refused};
use crate::Error;

/// A part of the processors' time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Realtime {
    /// Of so many microseconds each time …
    pub period: u64,
    /// … processes may run so many.
    pub runtime: u64,
}

impl Cgroup {
    /// Gives those above this one, which are made when they are missing, a part of the time for processes of realtime
    /// scheduling. Who has some keeps what he has.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when this kernel does not share that time out, [`Error::Resource`] when there is not so much of it.
    pub fn allow_realtime(&self, part: Realtime) -> Result<(), Error> {
        let mount = self.places.layout().hierarchy("cpu");
        let (Some(mount), Some(parent)) = (mount, self.places.relative().parent()) else {
            return Err(Error::Unsupported("a limit of realtime: cgroup version 2 does not have it".to_owned()));
        };
        make_parents(mount, &mount.join(parent), |_, made| give(made, part))
    }
}

fn give(directory: &Path, part: Realtime) -> Result<(), Error> {
    let runtime = directory.join("cpu.rt_runtime_us");
    match files::read(&runtime) {
        Ok(present) if present.trim() != "0" => return Ok(()),
        Ok(_) => {}
        Err(_) => return Err(Error::Unsupported(format!("{}: this kernel has no such file", runtime.display()))),
    }
    for (file, value) in [(directory.join("cpu.rt_period_us"), part.period), (runtime, part.runtime)] {
        let value = value.to_string();
        files::write(&file, &value).map_err(refused(&file, &value))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;
    use crate::cgroup::{Hierarchy, Layout, Places};

    /// A directory in the place of the kernel's: it has the files, and bounds nothing.
    fn layout(directory: &Path, names: &[&str]) -> Layout {
        for name in names {
            let made = directory.join(name);
            fs::create_dir_all(&made).unwrap();
            fs::write(made.join("cpu.rt_period_us"), "100000\n").unwrap();
            fs::write(made.join("cpu.rt_runtime_us"), "0\n").unwrap();
        }
        let cpu = Hierarchy { mount: directory.to_owned(), controllers: vec!["cpu".to_owned()] };
        Layout { hierarchies: vec![cpu], ..Layout::default() }
    }

    #[test]
    fn all_above_get_a_part_and_who_has_one_keeps_it() {
        let room = tempfile::tempdir().unwrap();
        let layout = layout(room.path(), &["a", "a/b", "a/b/c"]);
        fs::write(room.path().join("a/cpu.rt_runtime_us"), "700000\n").unwrap();
        let cgroup = Cgroup::new(Places::at(Path::new("a/b/c"), &layout).unwrap());
        cgroup.allow_realtime(Realtime { period: 500_000, runtime: 40_000 }).unwrap();
        let read = |name: &str| fs::read_to_string(room.path().join(name)).unwrap().trim().to_owned();
        assert_eq!(read("a/cpu.rt_runtime_us"), "700000");
        assert_eq!((read("a/b/cpu.rt_period_us"), read("a/b/cpu.rt_runtime_us")), ("500000".into(), "40000".into()));
        assert_eq!(read("a/b/c/cpu.rt_runtime_us"), "0");
    }

    #[test]
    fn a_kernel_that_does_not_share_it_out_says_so() {
        let room = tempfile::tempdir().unwrap();
        let without = layout(room.path(), &[]);
        let part = Realtime { period: 1_000_000, runtime: 1 };
        let at = |layout: &Layout| Cgroup::new(Places::at(Path::new("a/b"), layout).unwrap());
        assert!(at(&without).allow_realtime(part).unwrap_err().to_string().contains("no such file"));
        assert!(at(&Layout::default()).allow_realtime(part).unwrap_err().to_string().contains("version 2"));
    }
}
