//! Signals as something to be read, for programs that stand for another process.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// All signals that can be held back are, for this thread and what it starts, and are read here instead.
#[derive(Debug)]
pub struct Signals {
    descriptor: OwnedFd,
}

impl Signals {
    /// Holds all signals back that come from now on. To be called before other threads are started.
    ///
    /// # Errors
    /// When no descriptor can be had.
    pub fn block_all() -> io::Result<Self> {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the set is filled before it is used; blocking signals touches no memory of ours.
        let descriptor = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            // What the program itself did wrong must not be put off.
            for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGTRAP] {
                libc::sigdelset(all.as_mut_ptr(), signal);
            }
            let failed = libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut());
            if failed != 0 {
                return Err(io::Error::from_raw_os_error(failed));
            }
            libc::signalfd(-1, all.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        Ok(Self { descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) } })
    }

    /// The number of a signal that has come, if there is one.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn next(&self) -> io::Result<Option<i32>> {
        let mut information = [0; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.descriptor, &mut information) {
            // The number comes first.
            Ok(length) if length >= 4 => {
                let number = [information[0], information[1], information[2], information[3]];
                Ok(i32::try_from(u32::from_ne_bytes(number)).ok())
            }
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.descriptor.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_signal_is_read_and_does_nothing_else() {
        // On a thread of its own, whose mask is nobody else's.
        std::thread::spawn(|| {
            let signals = Signals::block_all().unwrap();
            assert_eq!(signals.next().unwrap(), None);
            // SAFETY: the signal goes to this thread, which holds it back.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGTERM) };
            assert_eq!(signals.next().unwrap(), Some(libc::SIGTERM));
            assert_eq!(signals.next().unwrap(), None);
        })
        .join()
        .unwrap();
    }
}
