//! What the end-to-end suites stand on: the real programs on private directories, and eyes for everything they leave.
#![allow(dead_code, unreachable_pub, reason = "each suite uses its part")]
#![allow(clippy::unwrap_used)]

pub mod archive;
pub mod client;
pub mod daemon;
pub mod leaks;
pub mod network;
pub mod programs;
pub mod registry;
pub mod terminal;

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up: only ever reached by a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `holds` answers something, and fails with `what` when it does not.
#[track_caller]
pub fn eventually<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = holds() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// Standard output of a command that succeeded, without the last line's end.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.stdout.trim_end_matches('\n').to_owned()
    }

    /// Fails unless the command ended with this code.
    #[track_caller]
    pub fn code(self, expected: i32) -> Self {
        assert_eq!(self.code, expected, "{self:#?}");
        self
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
        Self {
            code,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a command to its end with `input`; kills it when it takes longer than [`PATIENCE`].
#[track_caller]
pub fn run(command: &mut std::process::Command, input: &[u8]) -> Said {
    use std::io::{Read, Write};
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{shown}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let input = input.to_vec();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that does not read its input ends before it is written.
            let _ended_first = stdin.write_all(&input);
        });
        let collect = |stream: &mut dyn Read| {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            bytes
        };
        let stdout = scope.spawn(move || collect(&mut out));
        let stderr = scope.spawn(move || collect(&mut err));
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > PATIENCE {
                child.kill().unwrap();
                let status = child.wait().unwrap();
                let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                let (out, err) = (text(stdout.join().unwrap()), text(stderr.join().unwrap()));
                panic!("{shown}: still running after {PATIENCE:?} ({status}); so far:\n{out}\n{err}");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        Said::from(Output { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() })
    })
}
