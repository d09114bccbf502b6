//! The clients: Docker's own and ours, which must behave alike.

use std::path::PathBuf;
use std::process::Command;

use super::daemon::Daemon;
use super::terminal::Terminal;
use super::{Said, programs, run};

/// One of the clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Docker's.
    Docker,
    /// This project's.
    Enginectl,
}

impl Client {
    /// Its program.
    pub fn program(self) -> PathBuf {
        match self {
            Self::Docker => programs::borrowed("docker"),
            Self::Enginectl => programs::enginectl(),
        }
    }

    /// It, with arguments, talking to `daemon`.
    pub fn command(self, daemon: &Daemon, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program());
        command.env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", daemon.home()).env("DOCKER_CONFIG", daemon.home()).env("TERM", "xterm");
        command.env("DOCKER_HOST", format!("unix://{}", daemon.socket().display()));
        command.args(arguments);
        command
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self, daemon: &Daemon, arguments: &[&str]) -> Said {
        self.run_with(daemon, arguments, b"")
    }

    /// Runs it to its end with an input.
    #[track_caller]
    pub fn run_with(self, daemon: &Daemon, arguments: &[&str], input: &[u8]) -> Said {
        run(&mut self.command(daemon, arguments), input)
    }

    /// Starts it on a terminal of its own.
    pub fn terminal(self, daemon: &Daemon, arguments: &[&str]) -> Terminal {
        Terminal::start(&self.command(daemon, arguments))
    }
}
