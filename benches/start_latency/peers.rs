//! What else is installed: crun, runc and a Docker daemon that already runs, each only where it is there.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::floor::small_rootfs;
use crate::series::{self, Series, Table};
use crate::support::run;

/// Adds a row for each that is there.
pub fn measure(table: &mut Table<'_>, rounds: usize) {
    let floor = &table.floor().none.gone;
    for name in ["crun", "runc"] {
        match find(name) {
            Some(program) => {
                let series = runtime(&program, rounds);
                if name == "crun" {
                    table.compare(&series);
                }
                let what = format!("{name} run true (the same specification; no image, no network, no log)");
                table.row(&what, series, Some(floor));
            }
            None => eprintln!("{name} is not installed"),
        }
    }
    let docker = find("docker").filter(|_| Path::new("/var/run/docker.sock").exists());
    let Some(docker) = docker else { return eprintln!("no Docker daemon runs here") };
    for (network, floor) in [("none", &table.floor().none), ("bridge", &table.floor().bridge)] {
        let series = Series::measure(rounds.min(30), || {
            series::command(Command::new(&docker).args(["run", "--rm", "--network", network, "busybox", "true"]))
        });
        table.row(&format!("docker run --rm true, {network}, its own daemon"), series, Some(&floor.gone));
    }
}

fn find(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// A mount namespace without cgroup v2's mount point, which crun refuses to see beside v1.
struct Mounts(Child);

impl Mounts {
    fn new() -> Self {
        use std::io::Read;
        let script = "if [ -d /sys/fs/cgroup/unified ]; then umount /sys/fs/cgroup/unified; fi; echo; exec cat";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        holder.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        Self(holder)
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// `run` of a bundle with the specification that the engine itself gives its containers.
fn runtime(program: &Path, rounds: usize) -> Series {
    let room = tempfile::tempdir().unwrap();
    small_rootfs(room.path());
    std::fs::write(room.path().join("config.json"), serde_json::to_vec(&specification()).unwrap()).unwrap();
    let mounts = Mounts::new();
    let mut command = Command::new("nsenter");
    command.arg(format!("--mount=/proc/{}/ns/mnt", mounts.0.id())).arg("--").arg(std::env::current_exe().unwrap());
    command.args(["--repeat", &rounds.to_string()]).arg(program);
    command.arg("--root").arg(room.path().join("state"));
    command.args(["run", "--bundle"]).arg(room.path()).arg(format!("bench-{}", std::process::id()));
    series::parse_repeated(&run(&mut command, b"").ok())
}

fn specification() -> Value {
    let mut spec =
        serde_json::to_value(engine_runtime::defaults::spec(&engine_runtime::Host::probe().unwrap())).unwrap();
    spec["root"] = json!({"path": "rootfs", "readonly": false});
    // What crun 1.8 of Debian 12 still reads; nothing in it is newer.
    spec["ociVersion"] = json!("1.0.2");
    spec["hostname"] = json!("bench");
    spec["process"]["args"] = json!(["true"]);
    spec
}
