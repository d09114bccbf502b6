//! A bundle with busybox in it and a root of its own, and the calls of the program.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, WaitOptions, waitpid};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Takes away what is left of its container when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    directory: TempDir,
    pub(crate) id: String,
}

impl Place {
    /// A container that runs this line in a shell. The test's process adopts what its callee leaves behind, as containerd
    /// and podman do.
    pub(crate) fn new(name: &str, line: &str) -> Self {
        Self::of(name, &["/bin/busybox", "sh", "-c", line])
    }

    pub(crate) fn of(name: &str, arguments: &[&str]) -> Self {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let place = Self { directory, id: format!("{name}-{}", std::process::id()) };
        let bin = place.bundle().join("rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for applet in ["sh", "cat", "echo", "id", "sleep", "stty", "tty"] {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
        }
        assert!(place.call(&["spec", "--bundle", &place.text("bundle")]).status.success());
        place.change(|config| {
            config["process"]["terminal"] = json!(false);
            config["process"]["args"] = json!(arguments);
        });
        place
    }

    /// A path in this place.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.path("bundle")
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Value)) {
        let path = self.bundle().join("config.json");
        let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(path, serde_json::to_vec(&config).unwrap()).unwrap();
    }

    /// The program with its root and log.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_enginectl"));
        command.args(["oci", "--root", &self.text("root"), "--log", &self.text("log"), "--log-format", "json"]);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Calls the program and takes what it says. Not for what leaves a process behind that has its streams.
    pub(crate) fn call(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Calls the program so that what it leaves behind writes to the file `out`. Gives the exit code.
    pub(crate) fn leave(&self, arguments: &[&str]) -> i32 {
        let out = File::options().append(true).create(true).open(self.path("out")).unwrap();
        let mut command = self.command(arguments);
        command.stdout(out.try_clone().unwrap()).stderr(out);
        command.status().unwrap().code().unwrap()
    }

    /// Creates the container and gives the pid of its init.
    pub(crate) fn create(&self) -> i32 {
        let arguments = ["create", "--bundle", &self.text("bundle"), "--pid-file", &self.text("pid"), &self.id];
        assert_eq!(self.leave(&arguments), 0, "{}", self.out());
        self.pid("pid")
    }

    pub(crate) fn pid(&self, file: &str) -> i32 {
        fs::read_to_string(self.path(file)).unwrap().parse().unwrap()
    }

    pub(crate) fn out(&self) -> String {
        fs::read_to_string(self.path("out")).unwrap()
    }

    pub(crate) fn status(&self) -> String {
        let output = self.call(&["state", &self.id]);
        let state: Value = serde_json::from_slice(&output.stdout).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }

    /// Calls the program, which must not succeed, and gives the last error of its log.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        assert_ne!(self.leave(arguments), 0);
        let log = fs::read_to_string(self.path("log")).unwrap();
        let entry: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        assert_eq!(entry["level"], "error");
        assert!(self.out().contains(entry["msg"].as_str().unwrap()), "standard error tells it too");
        entry["msg"].as_str().unwrap().to_owned()
    }

    /// What is left of the container on this machine.
    pub(crate) fn left(&self) -> Vec<PathBuf> {
        let mut left = vec![self.path("root/containers").join(&self.id)];
        let cgroup = format!("engine-oci-{}", self.id);
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            left.push(hierarchy.path().join(&cgroup));
        }
        left.push(Path::new("/sys/fs/cgroup").join(&cgroup));
        left.retain(|path| path.exists());
        left
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.call(&["delete", "--force", &self.id]);
    }
}

/// Waits for a process that was left behind and gives its exit code, or 128 and the number of the signal that ended it.
pub(crate) fn wait(pid: i32) -> i32 {
    let (_, status) = waitpid(Pid::from_raw(pid), WaitOptions::empty()).unwrap().unwrap();
    status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap())
}
