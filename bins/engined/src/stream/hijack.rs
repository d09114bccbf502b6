//! Connections that stop being HTTP: attach and exec get the client's own socket, with whatever it sent behind its request.
//!
//! The head of the answer is written by hand, because clients want its exact words and because the raw answer to a client that
//! asks for no upgrade has neither a length nor chunks, which no HTTP library writes.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;

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

    /// Writes the head of the answer and gives the socket away.
    pub(crate) async fn answer(mut self, head: &str) -> io::Result<(OwnedFd, Bytes)> {
        self.stream.write_all(head.as_bytes()).await?;
        self.into_socket()
    }

    /// Gives the socket away without a word.
    pub(crate) fn into_socket(self) -> io::Result<(OwnedFd, Bytes)> {
        Ok((self.stream.into_std()?.into(), self.preface))
    }
}

/// True when the request asks for another protocol.
pub(crate) fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
}

/// The head of the answer. `multiplexed` says so to clients that asked for an upgrade; `headers` are further lines.
pub(crate) fn head(upgrade: bool, multiplexed: bool, headers: &str) -> String {
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
    async fn the_socket_and_what_came_early_are_handed_over() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let client = Client::new(UnixStream::from_std(ours).unwrap(), Bytes::from_static(b"early"));
        let (socket, preface) = client.answer("head\r\n").await.unwrap();
        assert_eq!(&preface[..], b"early");
        let mut socket = std::os::unix::net::UnixStream::from(socket);
        socket.write_all(b"after").unwrap();
        drop(socket);
        let mut seen = String::new();
        theirs.read_to_string(&mut seen).unwrap();
        assert_eq!(seen, "head\r\nafter");
    }
}
