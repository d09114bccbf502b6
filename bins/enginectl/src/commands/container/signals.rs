//! Signals of the client while it stands for a process in a container.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::os::fd::AsFd;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client::{Client, Payload, Query};
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

/// Passes signals on, one after the other, while nobody waits for a daemon that takes its time.
pub(crate) struct Relay {
    client: Client,
    path: String,
    waiting: VecDeque<&'static str>,
    sending: Option<LocalBoxFuture<'static, ()>>,
    asked_to_end: u32,
}

/// So many SIGINTs and SIGTERMs say that the process takes no notice of them.
const ENOUGH: u32 = 3;
/// For how long the last ones are waited for.
const LAST_WORDS: Duration = Duration::from_millis(500);

impl Relay {
    /// To the process of this object, `/containers/ID`.
    pub(crate) fn new(client: Client, object: &str) -> Self {
        let path = format!("{object}/kill");
        Self { client, path, waiting: VecDeque::new(), sending: None, asked_to_end: 0 }
    }

    /// Takes one. False when the user has asked often enough.
    pub(crate) fn take(&mut self, name: &'static str) -> bool {
        self.waiting.push_back(name);
        self.asked_to_end += u32::from(matches!(name, "INT" | "TERM"));
        self.asked_to_end < ENOUGH
    }

    /// Passes on what was taken. What was begun goes on when this is asked again.
    pub(crate) async fn pass_on(&mut self) {
        loop {
            if let Some(sending) = &mut self.sending {
                sending.await;
                self.sending = None;
            }
            let Some(name) = self.waiting.pop_front() else { return };
            let (client, path) = (self.client.clone(), self.path.clone());
            self.sending = Some(Box::pin(async move {
                // The process may have ended just before: what the daemon says to it is of no interest.
                let _ = client.post(&path, &Query::new().with("signal", name), Payload::Empty).await;
            }));
        }
    }

    /// Whether there is something to pass on.
    pub(crate) fn is_busy(&self) -> bool {
        self.sending.is_some() || !self.waiting.is_empty()
    }

    /// Passes all on, but does not take long for it.
    pub(crate) async fn finish(&mut self) {
        let _ = tokio::time::timeout(LAST_WORDS, self.pass_on()).await;
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("path", &self.path).field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

/// Rows and columns of the user's terminal: that of the output, else of the input.
pub(crate) fn window(session: &Session) -> Option<(u16, u16)> {
    crate::terminal::size(session.io.stdout.as_fd()).or_else(|| crate::terminal::size(session.io.stdin.as_fd()))
}
