//! What else is installed: crun, runc and a Docker daemon that already runs, each only where it is there; and this project's own
//! OCI command line on the same bundles.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::floor::small_rootfs;
use crate::series::{self, Series, Table};
use crate::support::{self, run};

/// Adds rows for each that is there.
pub fn measure(table: &mut Table<'_>, rounds: usize) {
    let floor = &table.floor().none.gone;
    let ours = ("enginectl oci", Some(vec![support::programs::enginectl().into_os_string(), "oci".into()]));
    let others = ["crun", "runc"].map(|name| (name, find(name).map(|path| vec![path.into_os_string()])));
    let mut lives_of_crun = None;
    for (name, program) in others.into_iter().chain([ours]) {
        let Some(program) = program else {
            eprintln!("{name} is not installed");
            continue;
        };
        let bundle = Bundle::new(&["true"]);
        let series = bundle.repeat(&bundle.call(&program, &["run", "--bundle", bundle.path(), &bundle.id()]), rounds);
        if name == "crun" {
            table.compare(&series);
        }
        table.row(
            &format!("{name} run true (the same specification; no image, no network, no log)"),
            series,
            Some(floor),
        );

        let bundle = Bundle::new(&["sleep", "1000"]);
        let series = bundle.repeat(&bundle.life(&program), rounds);
        let crun = lives_of_crun.get_or_insert_with(|| series.median());
        let ratio = series.median().as_secs_f64() / crun.as_secs_f64();
        table.row(&format!("{name} create, start, delete --force ({ratio:.2} x the first)"), series, None);
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

/// A bundle with the specification that the engine itself gives its containers, in a mount namespace that suits everybody.
struct Bundle {
    room: tempfile::TempDir,
    mounts: Mounts,
}

impl Bundle {
    fn new(arguments: &[&str]) -> Self {
        let room = tempfile::tempdir().unwrap();
        small_rootfs(room.path());
        let mut specification = specification();
        specification["process"]["args"] = json!(arguments);
        std::fs::write(room.path().join("config.json"), serde_json::to_vec(&specification).unwrap()).unwrap();
        Self { room, mounts: Mounts::new() }
    }

    fn path(&self) -> &str {
        self.room.path().to_str().unwrap()
    }

    fn id(&self) -> String {
        format!("bench-{}", std::process::id())
    }

    /// A call of a runtime with a root of its own.
    fn call(&self, program: &[OsString], arguments: &[&str]) -> Vec<OsString> {
        let root = ["--root".into(), self.room.path().join("state").into_os_string()];
        program.iter().cloned().chain(root).chain(arguments.iter().map(OsString::from)).collect()
    }

    /// A line of shell with three calls.
    fn life(&self, program: &[OsString]) -> Vec<OsString> {
        let id = self.id();
        let calls: [&[&str]; 3] =
            [&["create", "--bundle", self.path(), &id], &["start", &id], &["delete", "--force", &id]];
        let line: Vec<String> = calls
            .iter()
            .map(|call| {
                let words: Vec<_> =
                    self.call(program, call).iter().map(|word| word.to_str().unwrap().to_owned()).collect();
                words.join(" ")
            })
            .collect();
        // What is left behind must not hold the streams of whoever waits.
        vec!["sh".into(), "-c".into(), format!("exec </dev/null >/dev/null 2>&1; {}", line.join(" && ")).into()]
    }

    fn repeat(&self, command: &[OsString], rounds: usize) -> Series {
        let mut repeated = Command::new("nsenter");
        repeated.arg(format!("--mount=/proc/{}/ns/mnt", self.mounts.0.id())).arg("--");
        repeated.arg(std::env::current_exe().unwrap()).args(["--repeat", &rounds.to_string()]).args(command);
        series::parse_repeated(&run(&mut repeated, b"").ok())
    }
}

fn specification() -> Value {
    let mut spec =
        serde_json::to_value(engine_runtime::defaults::spec(&engine_runtime::Host::probe().unwrap())).unwrap();
    spec["root"] = json!({"path": "rootfs", "readonly": false});
    // What crun 1.8 of Debian 12 still reads; nothing in it is newer.
    spec["ociVersion"] = json!("1.0.2");
    spec["hostname"] = json!("bench");
    spec
}
