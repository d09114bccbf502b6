//! The spawner: waits for launches on the one connection to its engine, and forks a monitor for each.

use crate::monitor;
use crate::protocol::{Event, Failure, Reason, Request};
use crate::system::{self, Descriptor, Forked, MAX_RIGHTS};

/// The connection, once it has made room for the standard streams.
const ENGINE: Descriptor = 3;

/// Becomes a process of its own and serves the engine whose socket is standard input, until that is closed.
pub(crate) fn run() -> ! {
    // The process that the engine started ends at once, so that the engine's program keeps no child.
    match system::fork(0, None) {
        Ok(Forked::Child) => {}
        Ok(Forked::Parent(..)) => system::exit(0),
        Err(_) => system::exit(71),
    }
    let _ = system::new_session();
    let _ = system::change_directory_to(c"/");
    system::set_umask(0o077);
    system::reset_signals();
    // Monitors are nobody's concern once they run.
    system::ignore_signal(system::SIGCHLD);
    system::ignore_signal(system::SIGHUP);
    system::close_from(3, false);
    system::set_process_name(c"engine-spawner");
    if system::duplicate_to(0, ENGINE, true).is_err() {
        system::exit(71);
    }
    if let Ok(null) = system::open_at(system::AT_FDCWD, c"/dev/null", system::O_RDWR, 0) {
        for stream in 0..3 {
            let _ = system::duplicate_to(null, stream, false);
        }
        system::close(null);
    }
    tell(ENGINE, &Event::Ready {});
    loop {
        let mut message = [0; 64];
        let mut rights = [-1; MAX_RIGHTS];
        let received = match system::receive(ENGINE, &mut message, &mut rights, true) {
            Ok(received) if received.length > 0 => received,
            // The engine is gone, or nothing more can be received. Monitors live on.
            _ => system::exit(0),
        };
        let rights = &mut rights[..received.rights];
        let whole = !received.truncated && rights.len() >= 2;
        if whole && Request::decode(&message[..received.length]) == Some(Request::Launch {}) {
            launch(rights);
        }
        for descriptor in rights {
            system::close(*descriptor);
        }
    }
}

fn launch(rights: &mut [Descriptor]) {
    match system::fork(0, None) {
        Ok(Forked::Child) => {
            system::close(ENGINE);
            monitor::run(rights)
        }
        Ok(Forked::Parent(..)) => {}
        Err(errno) => {
            let failure = Failure { index: 0, errno: errno.0, reason: Reason::Syscall };
            tell(rights[0], &Event::StartFailed { failure });
        }
    }
}

fn tell(socket: Descriptor, event: &Event) {
    let mut message = [0; 64];
    if let Some(length) = event.encode(&mut message) {
        let _ = system::send(socket, &message[..length], &[]);
    }
}
