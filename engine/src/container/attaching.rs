//! Connecting clients to a container: their sockets go to its monitor, so that no byte passes through the engine.

use std::future::Future;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use engine_runtime::protocol::{MAX_PREFACE, Request};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::oneshot;

use super::inventory::Pending;
use super::live::{Live, LogPosition, Refused};
use super::start::attach_request;
use super::status::Status;
use super::{AttachOptions, Attached, Container, Error};
use crate::logs::{LogOptions, LogStream, Output};

/// A client that is connected. Resolves when it is not any more; dropping it changes nothing.
#[derive(Debug)]
pub struct AttachHandle(oneshot::Receiver<()>);

impl AttachHandle {
    pub(super) fn new(ended: oneshot::Receiver<()>) -> Self {
        Self(ended)
    }
}

impl Future for AttachHandle {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Whoever knew is gone: then the client is on its own, too.
        Pin::new(&mut self.0).poll(context).map(|_| ())
    }
}

impl Container {
    /// Connects this program to its streams. A container that does not run is connected when it starts, before its first byte.
    ///
    /// # Errors
    /// When it is paused or gone.
    pub async fn attach(&self, options: AttachOptions) -> Result<Attached, Error> {
        let framed = !self.inner.record().config.tty;
        let (ours, theirs) = pair()?;
        self.attach_socket(theirs.into(), Vec::new(), framed, options).await?;
        ours.set_nonblocking(true).map_err(socket_failed)?;
        let stream = tokio::net::UnixStream::from_std(ours).map_err(socket_failed)?;
        Ok(Attached::new(stream, framed, BytesMut::new()))
    }

    /// Connects a client's socket (a connected stream socket) to its streams. `preface` are bytes for standard input that
    /// were read from it already; with `framed` the two outputs are told apart by Docker's 8-byte headers, unless there is a
    /// terminal.
    ///
    /// # Errors
    /// As [`Container::attach`].
    pub async fn attach_socket(
        &self,
        client: OwnedFd,
        preface: Vec<u8>,
        framed: bool,
        options: AttachOptions,
    ) -> Result<AttachHandle, Error> {
        self.owned()?;
        let record = self.inner.record();
        match record.state.status {
            Status::Paused => {
                return Err(Error::conflict(format!(
                    "container {} is paused, unpause the container before attach",
                    record.id
                )));
            }
            Status::Removing | Status::Dead => {
                return Err(Error::conflict(format!("container {} is marked for removal", record.id)));
            }
            _ => {}
        }
        if preface.len() > MAX_PREFACE {
            return Err(Error::invalid(format!("more than {MAX_PREFACE} bytes were sent before the answer")));
        }
        self.shared.tell(&record, "attach", &[]);
        let framed = framed && !record.config.tty;
        match (options.logs, options.stream) {
            (false, true) => self.connect(client, preface, framed, options).await,
            (false, false) => {
                let (ended, handle) = oneshot::channel();
                let _ = ended.send(());
                Ok(AttachHandle::new(handle))
            }
            (true, stream) => self.replay(client, preface, framed, options, stream).await,
        }
    }

    async fn connect(
        &self,
        client: OwnedFd,
        preface: Vec<u8>,
        framed: bool,
        options: AttachOptions,
    ) -> Result<AttachHandle, Error> {
        let (ended, handle) = oneshot::channel();
        let kept = self.inner.keep_until_start(Pending { client, preface, framed, options, ended })?;
        let Some(Pending { client, preface, framed, options, .. }) = kept else {
            return Ok(AttachHandle::new(handle));
        };
        let live = self.live()?;
        let (_, ended) = self.connect_now(&live, &client, &preface, framed, &options).await?;
        Ok(AttachHandle::new(ended))
    }

    async fn connect_now(
        &self,
        live: &Live,
        client: &OwnedFd,
        preface: &[u8],
        framed: bool,
        options: &AttachOptions,
    ) -> Result<(LogPosition, oneshot::Receiver<()>), Error> {
        let number = live.number();
        let (attached, ended) = live.expect_client(number);
        let attach = attach_request(number, &self.inner.record(), framed, options, preface);
        if let Err(error) = live.send(&Request::Attach { attach }, &[client.as_fd()]) {
            live.forget(number);
            return Err(error);
        }
        match attached.await {
            Ok(Ok(position)) => Ok((position, ended)),
            Ok(Err(Refused { refusal, errno })) => {
                Err(Error::conflict(format!("attach to container {}: {refusal:?} (errno {errno})", self.inner.id)))
            }
            Err(_) => Err(super::inventory::not_running(self.inner.id.as_str())),
        }
    }

    /// First what was written before, then the rest: this goes through the engine, because both have to come in order.
    async fn replay(
        &self,
        client: OwnedFd,
        preface: Vec<u8>,
        framed: bool,
        options: AttachOptions,
        stream: bool,
    ) -> Result<AttachHandle, Error> {
        let client = UnixStream::from(client);
        client.set_nonblocking(true).map_err(socket_failed)?;
        let mut client = tokio::net::UnixStream::from_std(client).map_err(socket_failed)?;
        let log = LogOptions { stdout: options.stdout, stderr: options.stderr, ..LogOptions::default() };
        let (done, handle) = oneshot::channel();
        if !stream {
            let log = self.logs(log)?;
            tokio::spawn(async move {
                // A client that has left is no reason to worry, here and below.
                let _ = send_log(log, &mut client, framed).await;
                let _ = done.send(());
            });
            return Ok(AttachHandle::new(handle));
        }
        let (ours, theirs) = pair()?;
        ours.set_nonblocking(true).map_err(socket_failed)?;
        let mut ours = tokio::net::UnixStream::from_std(ours).map_err(socket_failed)?;
        let live = self.inner.live();
        let log = match live {
            Some(live) => {
                let theirs: OwnedFd = theirs.into();
                let (at, _) = self.connect_now(&live, &theirs, &preface, framed, &options).await?;
                self.logs_up_to(log, at)?
            }
            None => {
                let log = self.logs(log)?;
                self.connect(theirs.into(), preface, framed, options).await?;
                log
            }
        };
        tokio::spawn(async move {
            if send_log(log, &mut client, framed).await.is_ok() {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut ours).await;
            }
            let _ = done.send(());
        });
        Ok(AttachHandle::new(handle))
    }

    fn logs_up_to(&self, options: LogOptions, at: LogPosition) -> Result<LogStream, Error> {
        let id = &self.inner.id;
        self.readable_log()?;
        let offset = at.position.saturating_sub(at.file_start);
        Ok(crate::logs::read_up_to(&self.shared.directory(id), &super::start::log_name(id), options, offset))
    }

    pub(super) fn live(&self) -> Result<Arc<Live>, Error> {
        self.inner.live().ok_or_else(|| super::inventory::not_running(self.inner.id.as_str()))
    }

    /// What it has written, and on as it writes when that is asked for.
    ///
    /// # Errors
    /// When neither output is wanted, or the container's log driver keeps nothing.
    pub fn logs(&self, options: LogOptions) -> Result<LogStream, Error> {
        if !options.stdout && !options.stderr {
            return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
        }
        self.readable_log()?;
        let id = &self.inner.id;
        let (directory, name) = (self.shared.directory(id), super::start::log_name(id));
        let running = self.inner.running.subscribe();
        Ok(crate::logs::read(&directory, &name, options, running, &self.shared.watcher))
    }

    fn readable_log(&self) -> Result<(), Error> {
        let record = self.inner.record();
        let log = &record.config.host.log;
        let hidden = super::shipping::is_remote(&record.config) && crate::logs::remote::hides(&log.options);
        if log.driver != "none" && !hidden {
            return Ok(());
        }
        Err(Error::unsupported("configured logging driver does not support reading"))
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn resize(&self, rows: u16, columns: u16) -> Result<(), Error> {
        self.owned()?;
        let live = self.live()?;
        live.send(&Request::Resize { process: engine_runtime::protocol::INIT, rows, columns }, &[])?;
        let more = [("height", rows.to_string()), ("width", columns.to_string())];
        self.shared.tell(&self.inner.record(), "resize", &more);
        Ok(())
    }
}

async fn send_log(mut log: LogStream, client: &mut tokio::net::UnixStream, framed: bool) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    while let Some(lines) = log.next_batch().await {
        bytes.clear();
        for line in lines.map_err(std::io::Error::other)? {
            if framed {
                let output = if line.output == Output::Stdout { 1 } else { 2 };
                let length = u32::try_from(line.bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
                bytes.extend_from_slice(&[output, 0, 0, 0]);
                bytes.extend_from_slice(&length);
            }
            bytes.extend_from_slice(&line.bytes);
        }
        client.write_all(&bytes).await?;
    }
    Ok(())
}

pub(super) fn pair() -> Result<(UnixStream, UnixStream), Error> {
    UnixStream::pair().map_err(socket_failed)
}

pub(super) fn socket_failed(error: std::io::Error) -> Error {
    Error::Internal(format!("make a socket for a client: {error}"))
}
