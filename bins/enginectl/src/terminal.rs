//! The user's terminal: raw while a container has it, and put back whatever happens.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic;
use std::sync::{Arc, Mutex};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::error::Error;

/// Rows and columns; nothing if this is no terminal or it does not know.
pub(crate) fn size(terminal: BorrowedFd<'_>) -> Option<(u16, u16)> {
    let size = tcgetwinsize(terminal).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// A terminal in raw mode; dropping it, or a panic, restores the mode it had.
#[derive(Debug)]
pub(crate) struct RawMode {
    saved: Arc<Mutex<Option<(File, Termios)>>>,
}

impl RawMode {
    /// Makes a terminal raw: every key goes to the container, nothing is echoed, no key makes a signal.
    pub(crate) fn enter(terminal: &File) -> Result<Self, Error> {
        Self::change(terminal, Termios::make_raw)
    }

    fn change(terminal: &File, change: impl Fn(&mut Termios)) -> Result<Self, Error> {
        let before = tcgetattr(terminal).map_err(|error| Error::io("read the mode of the terminal")(error.into()))?;
        let mut raw = before.clone();
        change(&mut raw);
        let terminal = terminal.try_clone().map_err(Error::io("duplicate the terminal"))?;
        let saved = Arc::new(Mutex::new(Some((terminal, before))));
        // The release build aborts on a panic, so that no destructor runs: the hook must do it.
        let for_panic = Arc::clone(&saved);
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            restore(&for_panic);
            previous(panic);
        }));
        let guard = Self { saved };
        if let Ok(slot) = guard.saved.lock()
            && let Some((terminal, _)) = slot.as_ref()
        {
            tcsetattr(terminal.as_fd(), OptionalActions::Drain, &raw)
                .map_err(|error| Error::io("change the mode of the terminal")(error.into()))?;
        }
        Ok(guard)
    }
}

/// Shows nothing of what is typed until the guard goes.
pub(crate) fn hide_input(terminal: &File) -> Result<RawMode, Error> {
    RawMode::change(terminal, |mode| mode.local_modes.remove(LocalModes::ECHO))
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore(&self.saved);
    }
}

fn restore(saved: &Mutex<Option<(File, Termios)>>) {
    if let Ok(mut slot) = saved.try_lock()
        && let Some((terminal, mode)) = slot.take()
    {
        // Nothing can be done about a terminal that has gone.
        let _ = tcsetattr(terminal.as_fd(), OptionalActions::Drain, &mode);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    fn terminal() -> (File, File) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        (File::from(master), slave)
    }

    fn echoes(terminal: &File) -> bool {
        tcgetattr(terminal).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    #[test]
    fn raw_mode_ends_with_its_guard() {
        let (_master, slave) = terminal();
        assert!(echoes(&slave));
        let raw = RawMode::enter(&slave).unwrap();
        assert!(!echoes(&slave));
        drop(raw);
        assert!(echoes(&slave));
    }

    #[test]
    fn a_password_is_not_shown() {
        let (_master, slave) = terminal();
        let hidden = hide_input(&slave).unwrap();
        assert!(!echoes(&slave));
        assert!(tcgetattr(&slave).unwrap().local_modes.contains(LocalModes::ICANON));
        drop(hidden);
        assert!(echoes(&slave));
    }

    #[test]
    fn a_file_is_no_terminal() {
        let file = File::open("/dev/null").unwrap();
        assert!(RawMode::enter(&file).is_err());
        assert_eq!(size(file.as_fd()), None);
    }
}
