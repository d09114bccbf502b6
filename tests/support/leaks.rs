//! Eyes for everything that a container has on its host: mounts, processes, cgroups, interfaces, files, descriptors.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::daemon::mentions;
use super::eventually;
use super::network::Network;

/// Where one daemon's traces can be.
#[derive(Debug)]
pub struct Scene<'a> {
    /// Everything that mounts may mention.
    pub room: &'a Path,
    pub root: PathBuf,
    pub run: PathBuf,
    pub network: &'a Network,
    pub cgroup: &'a str,
    pub daemon: Option<u32>,
}

impl Scene<'_> {
    /// All traces of containers that are there now, one a line.
    pub fn traces(&self) -> Vec<String> {
        let mut traces = Vec::new();
        traces.extend(self.mounts().into_iter().map(|mount| format!("mount {mount}")));
        traces.extend(self.processes().into_iter().map(|pid| format!("process {pid} {}", describe(pid))));
        traces.extend(self.cgroups().into_iter().map(|cgroup| format!("cgroup {}", cgroup.display())));
        let links = self.network.links().into_iter().filter(|link| link.starts_with("veth"));
        traces.extend(links.map(|link| format!("interface {link}")));
        for directory in [&self.run, &self.root] {
            let entries = fs::read_dir(directory.join("containers")).into_iter().flatten();
            traces.extend(entries.map(|entry| format!("file {}", entry.unwrap().path().display())));
        }
        traces
    }

    /// Fails when traces stay. The kernel takes its time with network namespaces, so it may be given some.
    #[track_caller]
    pub fn assert_clean(&self) {
        let mut left = Vec::new();
        let clean = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually("no traces", || {
                left = self.traces();
                left.is_empty().then_some(())
            });
        }));
        assert!(clean.is_ok(), "containers left traces:\n{}", left.join("\n"));
    }

    /// What the open descriptors of the daemon are, sorted: paths, and `socket`, `pipe`, `anon_inode` without their numbers.
    pub fn descriptors(&self) -> Vec<String> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.daemon.unwrap())).unwrap();
        // One that was closed meanwhile is no descriptor any more.
        let links = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        let name = |link: PathBuf| {
            let link = link.to_string_lossy().into_owned();
            link.split_once(":[").map_or(link.clone(), |(kind, _)| kind.to_owned())
        };
        let mut names: Vec<String> = links.map(name).collect();
        names.sort();
        names
    }

    /// Removes all traces, containers or not.
    pub fn remove(&self) {
        for _ in 0..100 {
            let processes = self.all_processes();
            if processes.is_empty() {
                break;
            }
            for pid in processes {
                let _gone_already = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        for line in self.mounts().iter().rev() {
            if let Some(point) = line.split(' ').nth(4) {
                let _gone_already = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
            }
        }
        for hierarchy in hierarchies() {
            remove_cgroup(&hierarchy.join(self.cgroup));
        }
    }

    fn mounts(&self) -> Vec<String> {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.lines().filter(|line| mentions(line, self.room)).map(str::to_owned).collect()
    }

    /// Processes of containers and their monitors. A spawner stays as long as its engine may, so it is no trace.
    fn processes(&self) -> Vec<u32> {
        let monitors_and_tasks = |pid: &u32| !is_spawner(*pid);
        self.all_processes().into_iter().filter(monitors_and_tasks).collect()
    }

    fn all_processes(&self) -> BTreeSet<u32> {
        let ours = [self.network.holder(), std::process::id()].into_iter().chain(self.daemon).collect::<BTreeSet<_>>();
        let network = self.network.identity();
        let mut found: BTreeSet<u32> = hierarchies().iter().flat_map(|top| tasks(&top.join(self.cgroup))).collect();
        for pid in fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        {
            let same = fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|other| other == network);
            // From memory it is called by its first role, from a file by the name of the program.
            let shim = fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| {
                let exe = exe.to_string_lossy();
                exe.contains("engine-spawner") || exe.contains("engine-shim")
            });
            if same && shim {
                found.insert(pid);
            }
        }
        &found - &ours
    }

    fn cgroups(&self) -> Vec<PathBuf> {
        hierarchies().iter().flat_map(|top| directories(&top.join(self.cgroup))).collect()
    }
}

/// One spawner belongs to a live engine; it has no containers of its own when no monitor has it as parent's sibling.
fn is_spawner(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim().contains("spawner"))
}

fn describe(pid: u32) -> String {
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace(['\0', '\n'], " ");
    format!("{}({})", text(read("comm")), text(read("cmdline")).trim())
}

/// Mount points of all cgroup hierarchies.
pub fn hierarchies() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let cgroups = table.lines().filter(|line| line.contains(" - cgroup ") || line.contains(" - cgroup2 "));
    cgroups.filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

fn tasks(path: &Path) -> Vec<u32> {
    let own = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<u32> = own.lines().filter_map(|line| line.parse().ok()).collect();
    found.extend(directories(path).iter().flat_map(|below| tasks(below)));
    found
}

fn remove_cgroup(path: &Path) {
    for below in directories(path) {
        remove_cgroup(&below);
    }
    drop(fs::remove_dir(path));
}
