//! Connections that stop being HTTP: attach and exec get the client's own socket, with whatever it sent behind its request.
//!
//! The head of the answer is written by hand, because clients want its exact words and because the raw answer to a client that
//! asks for no upgrade has neither a length nor chunks, which no HTTP library writes.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::reply::Response;

/// What a handler that may take the connection ends with.
pub(crate) enum Outcome {
    /// An answer after all; the connection stays HTTP.
    Answer(Response),
    /// The connection is taken.
    Taken(Hijack),
}

/// What is done with the connection.
pub(crate) type Hijack = Box<dyn FnOnce(Client) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// The client's end of a connection that was taken.
#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    /// What the client sent behind its request.
    preface: Bytes,
}

impl Client {
    pub(crate) fn new(stream: UnixStream, preface: Bytes) -> Self {
        Self { stream, preface }
    }

    /// Writes the head of the answer and gives the socket away; to a reader who would lose it, nothing more is written before
    /// the head has been read.
    pub(crate) async fn answer(mut self, head: &Head) -> io::Result<(OwnedFd, Bytes)> {
        self.stream.write_all(head.text.as_bytes()).await?;
        if let Some(patience) = head.alone {
            let start = std::time::Instant::now();
            while engine_sys::socket::unread(&self.stream)? > 0 && start.elapsed() < patience {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        self.into_socket()
    }

    /// Gives the socket away without a word.
    pub(crate) fn into_socket(self) -> io::Result<(OwnedFd, Bytes)> {
        Ok((self.stream.into_std()?.into(), self.preface))
    }
}

/// True when the request asks for another protocol.
fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
}

/// How long a client may take to read a head before the rest is written all the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) text: String,
    /// The client takes the socket from beneath a reader, and with it loses what that has read beyond the head: it gets so long
    /// to read it before anything follows.
    alone: Option<Duration>,
}

impl Head {
    /// One that is followed by anything at once.
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), alone: None }
    }

    /// `multiplexed` says so to clients that asked for an upgrade; `more` are further lines.
    pub(crate) fn new(request: &HeaderMap, multiplexed: bool, more: &str) -> Self {
        // Docker's client and ours read on where their reader has come; Python's, of which everything there is made, does not.
        let agent = request.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let reads_on = ["Docker-Client/", "enginectl/"].iter().any(|known| agent.starts_with(known));
        Self { text: head(wants_upgrade(request), multiplexed, more), alone: (!reads_on).then_some(PATIENCE) }
    }
}

fn head(upgrade: bool, multiplexed: bool, headers: &str) -> String {
    let content_type = if upgrade && multiplexed {
        "application/vnd.docker.multiplexed-stream"
    } else {
        "application/vnd.docker.raw-stream"
    };
    if upgrade {
        format!(
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n{headers}\r\n"
        )
    } else {
        format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n{headers}\r\n")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn heads_are_dockers_to_the_byte() {
        assert_eq!(
            head(true, true, ""),
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        );
        assert_eq!(head(false, true, ""), "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n");
    }

    #[tokio::test]
    async fn nothing_follows_a_head_that_is_not_read_yet() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let client = Client::new(UnixStream::from_std(ours).unwrap(), Bytes::new());
        let mut request = HeaderMap::new();
        request.insert(header::USER_AGENT, header::HeaderValue::from_static("docker-sdk-python/7.0.0"));
        let mut head = Head::new(&request, false, "");
        // A busy machine may take its time.
        head.alone = head.alone.map(|patience| 60 * patience);
        let length = head.text.len();
        let answered = tokio::spawn(async move { client.answer(&head).await.unwrap() });
        let read = move || theirs.read_exact(&mut [0; 1]).map(|()| theirs);
        let mut theirs = tokio::task::spawn_blocking(read).await.unwrap().unwrap();
        assert!(!answered.is_finished(), "the head is still unread");
        let mut rest = vec![0; length - 1];
        theirs.read_exact(&mut rest).unwrap();
        answered.await.unwrap();
        let mut known = HeaderMap::new();
        known.insert(header::USER_AGENT, header::HeaderValue::from_static("Docker-Client/28.2.2 (linux)"));
        assert_eq!(Head::new(&known, false, "").alone, None);
    }

    #[tokio::test]
    async fn the_socket_and_what_came_early_are_handed_over() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let client = Client::new(UnixStream::from_std(ours).unwrap(), Bytes::from_static(b"early"));
        let (socket, preface) = client.answer(&Head::plain("head\r\n")).await.unwrap();
        assert_eq!(&preface[..], b"early");
        let mut socket = std::os::unix::net::UnixStream::from(socket);
        socket.write_all(b"after").unwrap();
        drop(socket);
        let mut seen = String::new();
        theirs.read_to_string(&mut seen).unwrap();
        assert_eq!(seen, "head\r\nafter");
    }
}
