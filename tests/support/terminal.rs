//! A terminal, and somebody who sits in front of it.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::termios::Winsize;

use super::eventually;

/// A program on a pseudo terminal.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    /// Up to where expectations have been met.
    seen: usize,
}

impl Terminal {
    /// Starts `command` with a new terminal of 24 rows and 80 columns as its controlling one.
    pub fn start(command: &Command) -> Self {
        let pair = nix::pty::openpty(None, None).unwrap();
        let keyboard = File::from(pair.master);
        rustix::termios::tcsetwinsize(&keyboard, size(24, 80)).unwrap();
        let slave = || Stdio::from(pair.slave.try_clone().unwrap());
        let mut session = Command::new("setsid");
        session.arg("--ctty").arg(command.get_program()).args(command.get_args());
        session.env_clear().envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let child = session.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
        drop(pair.slave);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, shared) = (keyboard.try_clone().unwrap(), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // A terminal whose programs are gone answers with an error, not with an end.
            while let Ok(length @ 1..) = reader.read(&mut piece) {
                shared.lock().unwrap().extend_from_slice(&piece[..length]);
            }
        });
        Self { child, keyboard, screen, seen: 0 }
    }

    /// Types.
    pub fn send(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until `text` is shown, after what was expected before.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        let from = self.seen;
        let screen = Arc::clone(&self.screen);
        let seen = std::panic::Location::caller();
        let found = std::panic::catch_unwind(|| {
            eventually(&format!("{text:?} on the terminal"), || {
                let shown = screen.lock().unwrap();
                shown[from..].windows(text.len()).position(|piece| piece == text.as_bytes())
            })
        });
        match found {
            Ok(at) => self.seen = from + at + text.len(),
            Err(_) => panic!("{seen}: {text:?} never came; the terminal shows {:?}", self.shown()),
        }
    }

    /// Everything shown so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    /// Changes its size.
    pub fn resize(&self, rows: u16, columns: u16) {
        rustix::termios::tcsetwinsize(&self.keyboard, size(rows, columns)).unwrap();
    }

    /// Waits for the program's end and returns its exit code.
    #[track_caller]
    pub fn wait(mut self) -> i32 {
        eventually(&format!("the program's end; shown: {:?}", self.shown()), || {
            self.child.try_wait().unwrap().map(|status| status.code().unwrap_or(-1))
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
