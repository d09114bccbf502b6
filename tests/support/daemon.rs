//! The real daemon on a private root, run directory, socket, cgroup and network namespace.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::archive::{self, IMAGE};
use super::client::Client;
use super::leaks::Scene;
use super::network::Network;
use super::{eventually, programs};

/// A running `engined`, or one that was killed and can be started again. When it is dropped, everything that it made is
/// removed; [`finish`](Self::finish) first asserts that nothing is there to be removed.
#[derive(Debug)]
pub struct Daemon {
    room: tempfile::TempDir,
    network: Network,
    cgroup: String,
    child: Option<Child>,
}

impl Daemon {
    /// One without images.
    pub fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let cgroup = format!("engine-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let room = tempfile::Builder::new().prefix("engine-test-").tempdir().unwrap();
        fs::create_dir(room.path().join("home")).unwrap();
        // By this name it is an OCI runtime and nothing else.
        std::os::unix::fs::symlink(programs::enginectl(), room.path().join("engine-oci")).unwrap();
        let mut daemon = Self { room, network: Network::new(), cgroup, child: None };
        daemon.begin();
        daemon
    }

    /// One with the busybox image.
    pub fn with_busybox() -> Self {
        let daemon = Self::start();
        let file = archive::busybox_file();
        let said = Client::Enginectl.run(&daemon, &["load", "--input", file.to_str().unwrap()]).ok();
        assert!(said.contains(IMAGE), "{said}");
        daemon
    }

    /// Starts it on what is there.
    pub fn begin(&mut self) {
        assert!(self.child.is_none(), "it is running");
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = self.network.command(programs::engined());
        command.arg("--data-root").arg(self.root()).arg("--exec-root").arg(self.run_directory());
        command.arg("--pidfile").arg(self.room.path().join("pid"));
        command.args(["--cgroup-parent", &self.cgroup]);
        command.arg("--cdi-spec-dir").arg(self.devices());
        command.arg("--add-runtime").arg(format!("oci={}", self.room.path().join("engine-oci").display()));
        command.arg("--criu").arg(self.criu());
        command.arg("--registry-certificates").arg(self.certificates());
        command.arg("--host").arg(format!("unix://{}", self.socket().display()));
        command.env_clear().env("PATH", "/nowhere").env("RUST_BACKTRACE", "1");
        self.child = Some(command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        eventually("the daemon answers", || {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("engined ended at once ({status}):\n{}", self.log());
            }
            UnixStream::connect(self.socket()).ok()?;
            (self.request("GET", "/_ping").0 == 200).then_some(())
        });
    }

    /// `kill -9`, as a crash.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Whether it has come to its end by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// Asks it to end, and waits for that.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
        let status = eventually("the daemon ends when asked to", || child.try_wait().unwrap());
        assert!(status.success(), "engined ended with {status}:\n{}", self.log());
    }

    /// Ends it and asserts that nothing of its containers is left anywhere.
    #[track_caller]
    pub fn finish(mut self) {
        self.scene().assert_clean();
        self.stop();
        self.scene().assert_clean();
    }

    /// One request without a body; status and body.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str) -> (u16, Vec<u8>) {
        self.request_with(method, path, b"", "application/json")
    }

    /// One request with a body.
    #[track_caller]
    pub fn request_with(&self, method: &str, path: &str, body: &[u8], kind: &str) -> (u16, Vec<u8>) {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        // An old version, so that the answer ends with the connection and has no chunks.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let (Some(end), Some(status)) = (end, answer.get(9..12)) else {
            panic!("{method} {path}: not HTTP: {:?}", String::from_utf8_lossy(&answer));
        };
        (std::str::from_utf8(status).unwrap().parse().unwrap(), answer[end + 4..].to_vec())
    }

    /// A `GET` that must succeed, as JSON.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let (status, body) = self.request("GET", path);
        let text = String::from_utf8_lossy(&body);
        assert_eq!(status, 200, "GET {path}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("GET {path}: {error}: {text}"))
    }

    /// Where specifications of devices are looked for; it is not there yet.
    pub fn devices(&self) -> PathBuf {
        self.room.path().join("cdi")
    }

    /// The program that it calls for checkpoints; there is none until one is put there.
    pub fn criu(&self) -> PathBuf {
        self.room.path().join("criu")
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// The network namespace that it runs in.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.room.path().join("engine.sock")
    }

    /// Its root directory.
    pub fn root(&self) -> PathBuf {
        self.room.path().join("root")
    }

    /// Its run directory.
    pub fn run_directory(&self) -> PathBuf {
        self.room.path().join("run")
    }

    /// Where it looks for the certificates of registries; not there before somebody makes it.
    pub fn certificates(&self) -> PathBuf {
        self.room.path().join("certs.d")
    }

    /// An empty home for clients.
    pub fn home(&self) -> PathBuf {
        self.room.path().join("home")
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Everything on the machine that could belong to its containers.
    pub fn scene(&self) -> Scene<'_> {
        Scene {
            room: self.room.path(),
            root: self.root(),
            run: self.run_directory(),
            network: &self.network,
            cgroup: &self.cgroup,
            daemon: self.child.as_ref().map(Child::id),
        }
    }

    fn log_file(&self) -> PathBuf {
        self.room.path().join("log")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
        if std::thread::panicking() {
            eprintln!("---- the daemon's log\n{}\n----", self.log());
        }
        self.scene().remove();
    }
}

/// Whether a path is beneath another, as text in a kernel's table.
pub fn mentions(line: &str, path: &Path) -> bool {
    line.contains(path.to_str().unwrap())
}
