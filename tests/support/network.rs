//! A network namespace for each daemon, so that tests touch nothing of the machine's own network.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Said, programs, run};

/// A namespace; it lives as long as this does, or the test's process.
#[derive(Debug)]
pub struct Network {
    /// Waits for the end of its input, so that it ends with us however we end.
    holder: Child,
}

impl Network {
    /// A new one in which only loopback is up.
    pub fn new() -> Self {
        let script = format!("{} link set lo up && echo ready && exec cat", programs::borrowed("ip").display());
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "making a network namespace: are you root?");
        Self { holder }
    }

    /// The pid of the process that holds it.
    pub fn holder(&self) -> u32 {
        self.holder.id()
    }

    /// What identifies it, as in `/proc/PID/ns/net`.
    pub fn identity(&self) -> PathBuf {
        std::fs::read_link(format!("/proc/{}/ns/net", self.holder())).unwrap()
    }

    /// A command that will run in it. Same process id: nothing stands in between.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(programs::borrowed("nsenter"));
        command.arg(format!("--net=/proc/{}/ns/net", self.holder())).arg("--").arg(program.as_ref());
        command
    }

    /// Runs `ip` in it.
    #[track_caller]
    pub fn ip(&self, arguments: &str) -> String {
        let said: Said = run(self.command(programs::borrowed("ip")).args(arguments.split(' ')), b"");
        said.ok()
    }

    /// Names of its interfaces.
    pub fn links(&self) -> Vec<String> {
        let listed = self.ip("-o link");
        listed.lines().filter_map(|line| Some(line.split(": ").nth(1)?.split('@').next()?.to_owned())).collect()
    }

    /// Ties another to it, as an uplink: we are 198.51.100.1, the other is 198.51.100.2 and our default route.
    pub fn uplink(&self, other: &Self) {
        self.ip(&format!("link add up0 type veth peer name down0 netns {}", other.holder()));
        self.ip("addr add 198.51.100.1/24 dev up0");
        self.ip("link set up0 up");
        other.ip("addr add 198.51.100.2/24 dev down0");
        other.ip("link set down0 up");
        self.ip("route add default via 198.51.100.2");
    }
}

/// A name server that knows one name. It ends with this.
#[derive(Debug)]
pub struct NameServer {
    ended: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl NameServer {
    /// Answers for `name` in `network`, on all its addresses.
    pub fn start(network: &Network, name: &'static str, address: [u8; 4]) -> Self {
        let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (is_ended, (ready, is_ready)) = (ended.clone(), std::sync::mpsc::channel());
        let namespace = std::fs::File::open(format!("/proc/{}/ns/net", network.holder())).unwrap();
        let thread = std::thread::spawn(move || {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let socket = std::net::UdpSocket::bind("0.0.0.0:53").unwrap();
            socket.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
            ready.send(()).unwrap();
            let mut wanted: Vec<u8> = Vec::new();
            for label in name.split('.') {
                wanted.push(label.len() as u8);
                wanted.extend(label.as_bytes());
            }
            // The end of the name, then the kind (an address) and the class.
            wanted.extend([0, 0, 1, 0, 1]);
            let mut query = [0; 512];
            while !is_ended.load(std::sync::atomic::Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut query) else { continue };
                let known = query[12..length].starts_with(&wanted);
                let mut answer = query[..length].to_vec();
                answer[2] = 0x81;
                answer[3] = if known { 0x80 } else { 0x83 };
                if known {
                    answer.truncate(12 + wanted.len());
                    answer[7] = 1;
                    answer[8..12].fill(0);
                    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4]);
                    answer.extend(address);
                }
                socket.send_to(&answer, from).unwrap();
            }
        });
        is_ready.recv().unwrap();
        Self { ended, thread: Some(thread) }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.ended.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        self.holder.wait().unwrap();
    }
}
