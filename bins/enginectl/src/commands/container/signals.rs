//! Signals of the client while it stands for a process in a container.

use std::future::poll_fn;
use std::os::fd::AsFd;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::Error;
use crate::session::Session;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    /// The process shall get it: its name without SIG.
    Forward(&'static str),
    /// The window has another size.
    Window,
    /// The client shall end.
    End(i32),
}

/// Signals that are passed on. Not: those that cannot be caught, and SIGCHLD, SIGPIPE and SIGURG, which are the client's own.
const FORWARDED: &[(i32, &str)] = &[
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (10, "USR1"),
    (12, "USR2"),
    (14, "ALRM"),
    (15, "TERM"),
    (18, "CONT"),
    (20, "TSTP"),
    (21, "TTIN"),
    (22, "TTOU"),
    (26, "VTALRM"),
    (27, "PROF"),
    (29, "IO"),
    (30, "PWR"),
];
const WINDOW: i32 = 28;

/// The signals that somebody listens to.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    list: Vec<(Happening, Signal)>,
}

impl Signals {
    /// Listens: to what is to be forwarded, or else (with a raw terminal) to what ends the client; and to the window.
    pub(crate) fn listen(forward: bool, raw: bool, window: bool) -> Result<Self, Error> {
        let mut signals = Self::default();
        let mut add = |number: i32, happening: Happening| {
            let signal = signal(SignalKind::from_raw(number)).map_err(Error::io("listen for signals"))?;
            signals.list.push((happening, signal));
            Ok::<_, Error>(())
        };
        for &(number, name) in FORWARDED {
            if forward {
                add(number, Happening::Forward(name))?;
            } else if raw && matches!(number, 1 | 2 | 3 | 15) {
                add(number, Happening::End(number))?;
            }
        }
        if window {
            add(WINDOW, Happening::Window)?;
        }
        Ok(signals)
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Happening {
        poll_fn(|context| {
            for (happening, signal) in &mut self.list {
                if let Poll::Ready(Some(())) = signal.poll_recv(context) {
                    return Poll::Ready(*happening);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Rows and columns of the user's terminal: that of the output, else of the input.
pub(crate) fn window(session: &Session) -> Option<(u16, u16)> {
    crate::terminal::size(session.io.stdout.as_fd()).or_else(|| crate::terminal::size(session.io.stdin.as_fd()))
}
