//! Writing what a container may use, and changing it while it runs: all of it, or nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use super::setting::{self, Setting, Version};
use super::{Cgroup, devices, files, refused};
use crate::Error;

/// What was there before each write, in the order of the writes.
#[derive(Debug, Default)]
struct Journal {
    before: Vec<(PathBuf, String)>,
}

impl Cgroup {
    /// Changes what a container may use while it runs: everything that `resources` speaks of, or nothing. Device rules, when
    /// there are any, are all that counts from then on.
    ///
    /// # Errors
    /// As [`Cgroup::create`], and [`Error::NotFound`] when there is no such cgroup. What was changed before the failure is as it
    /// was.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        if !self.exists() {
            return Err(Error::NotFound(format!("cgroup {}", self.path().display())));
        }
        let resources = self.completed(resources);
        let settings = setting::settings(&resources, self.places.layout())?;
        let rules = resources.devices().as_deref().unwrap_or_default();
        devices::lines(rules)?;
        self.check_memory(&resources)?;
        if let Some(unit) = self.places.unit() {
            unit.set(self.places.layout(), &resources)?;
        }
        let mut journal = Journal::default();
        let changed =
            self.write(&settings, &mut |file| journal.note(file)).and_then(|()| self.set_devices(rules, true));
        if changed.is_err() {
            for (file, value) in journal.before.iter().rev() {
                // The failure that led here is the one that is reported.
                let _ = files::write(file, value);
            }
        }
        changed
    }

    /// What version 2 keeps in one file is written together: what is not to change is taken from there.
    fn completed(&self, resources: &LinuxResources) -> LinuxResources {
        let mut resources = resources.clone();
        let Some(directory) = self.places.unified() else { return resources };
        let two = |controller: &str| self.places.controller(controller).is_none();
        let set = |value: Option<i64>| value.is_some_and(|value| value != 0);
        if let Some(cpu) = resources.cpu_mut()
            && two("cpu")
            && cpu.period().is_some_and(|period| period != 0)
            && !set(cpu.quota())
        {
            let present = files::read(&directory.join("cpu.max")).unwrap_or_default();
            cpu.set_quota(present.split_whitespace().next().map(|quota| quota.parse().unwrap_or(-1)));
        }
        if let Some(memory) = resources.memory_mut()
            && two("memory")
            && memory.swap().is_some_and(|swap| swap > 0)
            && !set(memory.limit())
        {
            let present = files::number(&directory.join("memory.max")).ok().flatten();
            memory.set_limit(present.and_then(|limit| i64::try_from(limit).ok()));
        }
        resources
    }

    /// Who asks for it is told that the processes use more than the new limit, in place of seeing them killed.
    fn check_memory(&self, resources: &LinuxResources) -> Result<(), Error> {
        let Some(memory) = resources.memory().as_ref().filter(|memory| memory.check_before_update() == Some(true))
        else {
            return Ok(());
        };
        let limit = memory.limit().and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0);
        let usage = self.usage().map_err(Error::io("read the memory usage of", self.path()))?.memory.usage;
        match limit {
            Some(limit) if limit < usage => {
                Err(Error::Invalid(format!("unable to set memory limit to {limit} (current usage: {usage})")))
            }
            _ => Ok(()),
        }
    }

    fn directory(&self, setting: &Setting) -> Option<PathBuf> {
        match setting.version {
            Version::One => self.places.controller(&setting.controller),
            Version::Two => self.places.unified(),
        }
    }

    /// Writes the settings; `before` is told of each file that is about to be written, and the value.
    pub(super) fn write(&self, settings: &[Setting], before: &mut dyn FnMut((&Path, &str))) -> Result<(), Error> {
        let mut put = |file: &Path, value: &str| {
            before((file, value));
            files::write(file, value)
        };
        let mut index = 0;
        while let Some(setting) = settings.get(index) {
            index += 1;
            let Some(directory) = self.directory(setting) else { continue };
            let file = directory.join(&setting.file);
            let mut result = put(&file, &setting.value);
            if let (Err(error), Some((name, value))) = (&result, &setting.otherwise)
                && error.kind() == io::ErrorKind::NotFound
            {
                result = put(&directory.join(name), value);
            }
            // Two values that bound each other are set in the order in which they are possible: a limit of memory above that
            // of memory with swap, a period that makes the present quota too small.
            let pair = [
                ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
                ("cpu.cfs_period_us", "cpu.cfs_quota_us"),
                ("cpu.rt_period_us", "cpu.rt_runtime_us"),
            ];
            if let (Err(error), Some(next)) = (&result, settings.get(index))
                && error.raw_os_error() == Some(libc::EINVAL)
                && pair.contains(&(setting.file.as_str(), next.file.as_str()))
            {
                let second = directory.join(&next.file);
                put(&second, &next.value).map_err(refused(&second, &next.value))?;
                result = put(&file, &setting.value);
                index += 1;
            }
            match result {
                // A machine without swap accounting has no such file, and its containers no swap to bound.
                Err(error) if error.kind() == io::ErrorKind::NotFound && setting.file.contains("memsw") => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && setting.file == "memory.swap.max" => {}
                // Before Linux 5.7 reservations of huge pages are not counted.
                Err(error) if error.kind() == io::ErrorKind::NotFound && setting.file.contains(".rsvd.") => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && directory.exists() => {
                    return Err(Error::Unsupported(format!("{}: this kernel has no such file", file.display())));
                }
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && setting.file == "memory.limit_in_bytes" => {
                    let usage = files::number(&directory.join("memory.usage_in_bytes")).ok().flatten().unwrap_or(0);
                    return Err(Error::Invalid(format!(
                        "unable to set memory limit to {} (current usage: {usage})",
                        setting.value
                    )));
                }
                result => result.map_err(refused(&file, &setting.value))?,
            }
        }
        Ok(())
    }
}

impl Journal {
    fn note(&mut self, (file, value): (&Path, &str)) {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if let Ok(present) = fs::read_to_string(file)
            && let Some(before) = undone(&name, value, &present)
        {
            self.before.push((file.to_path_buf(), before));
        }
    }
}

/// What is to be written so that `present` holds again after `value` was written.
fn undone(name: &str, value: &str, present: &str) -> Option<String> {
    if name == "memory.oom_control" {
        let disabled = present.lines().find_map(|line| line.strip_prefix("oom_kill_disable "))?;
        return Some(disabled.to_owned());
    }
    let Some((key, _)) = value.split_once(' ').filter(|_| has_keys(name)) else {
        let whole = present.trim();
        return Some(if whole.is_empty() { "\n".to_owned() } else { whole.to_owned() });
    };
    let line = present.lines().find(|line| line.split(' ').next() == Some(key));
    Some(line.map_or_else(
        || match name {
            "io.max" => format!("{key} rbps=max wbps=max riops=max wiops=max"),
            "io.weight" | "io.bfq.weight" => format!("{key} default"),
            "rdma.max" => format!("{key} hca_handle=max hca_object=max"),
            _ => format!("{key} 0"),
        },
        str::to_owned,
    ))
}

/// Files with a line for each device or interface.
fn has_keys(name: &str) -> bool {
    name.starts_with("io.")
        || name.starts_with("blkio.throttle.")
        || name.ends_with(".weight_device")
        || matches!(name, "blkio.weight_device" | "rdma.max" | "net_prio.ifpriomap")
}

#[cfg(test)]
mod tests {
    use super::undone;

    #[test]
    fn every_kind_of_file_is_put_back() {
        let undone = |name, value, present| undone(name, value, present).unwrap_or_default();
        assert_eq!(undone("pids.max", "5", "max\n"), "max");
        assert_eq!(undone("cpu.max", "50000 100000", "max 100000\n"), "max 100000");
        assert_eq!(undone("cpuset.cpus", "0", "\n"), "\n");
        assert_eq!(undone("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"), "0");
        let limits = "8:0 rbps=9 wbps=max riops=max wiops=max\n";
        assert_eq!(undone("io.max", "8:0 wbps=1", limits), limits.trim());
        assert_eq!(undone("io.max", "8:16 wbps=1", limits), "8:16 rbps=max wbps=max riops=max wiops=max");
        assert_eq!(undone("io.weight", "default 5", "default 100\n8:0 7\n"), "default 100");
        assert_eq!(undone("blkio.throttle.read_bps_device", "8:0 5", "8:0 77\n"), "8:0 77");
        assert_eq!(undone("blkio.throttle.read_bps_device", "8:16 5", "8:0 77\n"), "8:16 0");
    }
}
