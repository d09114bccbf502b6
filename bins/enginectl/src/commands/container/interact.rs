//! A process in a container in the foreground: bytes, signals and the size of the window, until it ends or the user leaves.

use std::future::Future;
use std::io::IsTerminal;
use std::pin::pin;
use std::time::Duration;

use hyper::body::Incoming;

use super::signals::{Happening, Relay, Signals, window};
use crate::client::{Client, DetachKeys, Ended, Hijacked, Payload, Pump, PumpPlan, Query, parse, whole};
use crate::error::Error;
use crate::session::{Session, duplicate};
use crate::terminal::RawMode;
use engine_api::container::WaitResponse;

/// Which streams, and how.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
    /// Pass signals on to the process.
    pub(crate) forward: bool,
    pub(crate) detach_keys: Option<String>,
    /// The size of the window (rows, columns) that the request told the daemon. It may be another by now.
    pub(crate) told_size: Option<(u16, u16)>,
}

impl Streams {
    /// The query of attach.
    pub(crate) fn query(&self) -> Query {
        Query::new()
            .with("stream", "1")
            .flag("stdin", self.stdin)
            .flag("stdout", self.stdout)
            .flag("stderr", self.stderr)
            .optional("detachKeys", self.detach_keys.as_deref())
    }

    /// A terminal cannot be read from something that is none.
    pub(crate) fn check(&self, session: &Session) -> Result<(), Error> {
        if self.stdin && self.tty && !session.io.stdin.is_terminal() {
            return Err(Error::NotATerminal);
        }
        Ok(())
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The process ended.
    Exited(i64),
    /// The user left it running.
    Detached,
}

/// A process in the foreground.
#[derive(Debug)]
pub(crate) struct Foreground {
    client: Client,
    /// `/containers/ID` or `/exec/ID`.
    object: String,
    pump: Option<Pump>,
    signals: Signals,
    relay: Relay,
    size: Option<(u16, u16)>,
    tty: bool,
    _raw: Option<RawMode>,
}

impl Foreground {
    /// Takes the user's streams (and terminal, and signals) for the process.
    pub(crate) fn begin(
        session: &mut Session,
        object: &str,
        hijacked: Option<Hijacked>,
        streams: &Streams,
    ) -> Result<Self, Error> {
        let client = session.client()?;
        let wants_raw = streams.tty && streams.stdin && session.io.stdin.is_terminal();
        let keys = streams.detach_keys.as_deref().map_or(Ok(DetachKeys::default()), DetachKeys::parse)?;
        let window_matters = streams.tty && window(session).is_some();
        let signals = Signals::listen(streams.forward, wants_raw, window_matters)?;
        let raw = if wants_raw { Some(RawMode::enter(&session.io.stdin)?) } else { None };
        let own = |wanted: bool, file| if wanted { duplicate(file).map(Some) } else { Ok(None) };
        let pump = match hijacked {
            Some(hijacked) => Some(Pump::start(
                hijacked,
                PumpPlan {
                    input: own(streams.stdin, &session.io.stdin)?,
                    // With a terminal all output is one stream.
                    output: own(streams.stdout || (streams.tty && streams.stderr), &session.io.stdout)?,
                    error: own(streams.stderr, &session.io.stderr)?,
                    framed: !streams.tty,
                    detach: (streams.tty && streams.stdin).then_some(keys),
                },
            )?),
            None => None,
        };
        Ok(Self {
            relay: Relay::new(client.clone(), object),
            client,
            object: object.to_owned(),
            pump,
            signals,
            size: if window_matters { streams.told_size.or_else(|| window(session)) } else { None },
            tty: streams.tty,
            _raw: raw,
        })
    }

    /// Waits for what comes before the process, unless the user has enough of it. Signals reach the process later.
    pub(crate) async fn meanwhile<T>(&mut self, start: impl Future<Output = T>) -> Result<T, Error> {
        let mut start = pin!(start);
        loop {
            tokio::select! {
                biased;
                result = &mut start => return Ok(result),
                happening = self.signals.next() => match happening {
                    Happening::Forward(name) if self.relay.take(name) => {}
                    Happening::Forward(_) => return Err(Error::Forced),
                    // The size is looked at when the process is there.
                    Happening::Window => {}
                    Happening::End(number) => return Err(Error::Signalled(number)),
                },
            }
        }
    }

    /// Tells the daemon the size of the window. That it fails is no reason to end.
    pub(crate) async fn resize(&mut self, session: &Session) {
        if let Some((rows, columns)) = window(session) {
            self.size = Some((rows, columns));
            self.set_size(rows, columns).await;
        }
    }

    /// Makes the program on the terminal draw itself again, by two changes of the size.
    pub(crate) async fn redraw(&self) {
        if let (true, Some((rows, columns))) = (self.tty, self.size) {
            self.set_size(rows.saturating_add(1), columns.saturating_add(1)).await;
            self.set_size(rows, columns).await;
        }
    }

    async fn set_size(&self, rows: u16, columns: u16) {
        let query = Query::new().with("h", &rows.to_string()).with("w", &columns.to_string());
        let _ = self.client.post(&format!("{}/resize", self.object), &query, Payload::Empty).await;
    }

    /// Waits until the output has ended and `exit` is there, or the user leaves. The terminal is as before when it returns.
    pub(crate) async fn until(
        mut self,
        session: &Session,
        exit: impl Future<Output = Result<i64, Error>>,
    ) -> Result<Outcome, Error> {
        // The window may have changed between the request and now.
        if self.tty && self.size.is_some() && window(session) != self.size {
            self.resize(session).await;
        }
        let mut exit = pin!(exit);
        let mut code = None;
        loop {
            if let (Some(code), None) = (code, &self.pump) {
                return Ok(Outcome::Exited(code));
            }
            let ended = async {
                match &mut self.pump {
                    Some(pump) => pump.ended().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                ended = ended => match ended {
                    Ended::Output(result) => {
                        result?;
                        self.pump = None;
                    }
                    Ended::Detached => return Ok(Outcome::Detached),
                },
                result = &mut exit, if code.is_none() => code = Some(result?),
                () = self.relay.pass_on(), if self.relay.is_busy() => {}
                happening = self.signals.next() => match happening {
                    Happening::Forward(name) if self.relay.take(name) => {}
                    Happening::Forward(_) => {
                        self.relay.finish().await;
                        return Err(Error::Forced);
                    }
                    Happening::Window => self.resize(session).await,
                    Happening::End(number) => return Err(Error::Signalled(number)),
                },
            }
        }
    }
}

/// The answer to a wait whose headers have come: the exit code. If the daemon goes away meanwhile, it is asked again when it
/// is back: the container has not noticed. `removed` says that it is waited for until it is gone.
pub(crate) async fn exit_code(
    client: Client,
    container: String,
    body: http::Response<Incoming>,
    removed: bool,
) -> Result<i64, Error> {
    let path = format!("{container}/wait");
    let mut text = whole(&path, body).await;
    let mut attempts = 0;
    while !text.as_ref().is_ok_and(|text| !text.trim_ascii().is_empty()) {
        attempts += 1;
        if attempts > RECONNECTS {
            text?;
            return Err(Error::Protocol(format!("the answer of {path} is empty")));
        }
        tokio::time::sleep(RECONNECT_AFTER).await;
        // The exit may be past by now, so that the next one is not the one to wait for.
        let condition = if removed { "removed" } else { "not-running" };
        text = match client.post(&path, &Query::new().with("condition", condition), Payload::Empty).await {
            Err(error @ Error::Daemon { .. }) => return Err(error),
            text => text,
        };
    }
    let answer: WaitResponse = parse(&path, &text?)?;
    match answer.error {
        Some(error) if !error.message.is_empty() => {
            Err(Error::Protocol(format!("Error waiting for container: {}", error.message)))
        }
        _ => Ok(answer.status_code),
    }
}

/// For how long a daemon that went away is waited for: a minute.
const RECONNECTS: u32 = 300;
const RECONNECT_AFTER: Duration = Duration::from_millis(200);

/// The exit code of a process as the client's own.
pub(crate) fn as_exit(code: i64) -> u8 {
    (code & 0xff) as u8
}
