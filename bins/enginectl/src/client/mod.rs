//! The daemon as the commands see it: requests over a few kept connections, streams, and hijacked sockets.
//!
//! The connections are hyper's own and no pool's: a hijacked connection must be had back as a plain socket, which then
//! goes to two threads that read and write as fast as the other side does.

mod download;
mod frame;
mod host;
pub(crate) mod lines;
mod pump;
mod query;
mod upload;

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use bytes::Bytes;
use engine_api::error::ErrorBody;
use engine_api::version::{ApiVersion, MAX};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

pub(crate) use frame::Demultiplexer;
pub(crate) use host::Host;
pub(crate) use pump::{DetachKeys, Ended, Pump, PumpPlan};
pub(crate) use query::{Query, segment};
pub(crate) use upload::Upload;

use crate::error::Error;
use crate::output::value::Value;
use download::{Download, Parted};
use upload::{Failure, Heading};

/// Answers that are read whole are no longer than this.
const MAXIMUM_ANSWER: usize = 256 << 20;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A daemon. Clones share the connections.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    host: Host,
    /// The version in the paths; lowered once if the daemon is older.
    version: Cell<ApiVersion>,
    negotiable: Cell<bool>,
    idle: RefCell<Vec<SendRequest<Body>>>,
    /// Where requests and answers are told.
    told: Option<File>,
}

/// A connection on which nothing was said yet.
enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// A connection that has become a plain socket in blocking mode.
#[derive(Debug)]
pub(crate) struct Hijacked {
    /// The socket.
    pub(crate) socket: OwnedFd,
    /// What was read from it together with the head of the answer.
    pub(crate) leftover: Bytes,
}

/// What goes with a request.
pub(crate) enum Payload {
    /// No body.
    Empty,
    /// A JSON document.
    Json(Bytes),
    /// No body, but who the user is to a registry.
    Registry(String),
    /// A stream of some type.
    Stream(&'static str, Body),
    /// A file of some type.
    File(&'static str, Upload),
}

impl Payload {
    /// A value as JSON.
    pub(crate) fn json(value: &impl Serialize) -> Result<Self, Error> {
        let text = serde_json::to_vec(value).map_err(|error| Error::Protocol(format!("write JSON: {error}")))?;
        Ok(Self::Json(text.into()))
    }
}

impl Client {
    /// A client of the daemon there. `version` is the user's choice of API version, `told` where to tell what is asked and answered.
    pub(crate) fn new(host: Host, version: Option<String>, told: Option<File>) -> Result<Self, Error> {
        let negotiable = Cell::new(version.is_none());
        let version = match version {
            Some(text) => text
                .trim_start_matches('v')
                .parse()
                .map_err(|error| Error::Invalid(format!("DOCKER_API_VERSION is {text:?}: {error}")))?,
            None => MAX,
        };
        let shared = Shared { host, version: Cell::new(version), negotiable, idle: RefCell::default(), told };
        Ok(Self { shared: Rc::new(shared) })
    }

    /// The version that requests are made in.
    pub(crate) fn version(&self) -> ApiVersion {
        self.shared.version.get()
    }

    /// GET of a JSON document, as it is.
    pub(crate) async fn get(&self, path: &str, query: &Query) -> Result<Bytes, Error> {
        self.read(Method::GET, path, query, Payload::Empty).await
    }

    /// GET of a JSON document.
    pub(crate) async fn get_value(&self, path: &str, query: &Query) -> Result<Value, Error> {
        let text = self.get(path, query).await?;
        Value::parse(&text).map_err(|error| not_understood(path, &error))
    }

    /// GET of a JSON document of a known shape.
    pub(crate) async fn get_as<T: DeserializeOwned>(&self, path: &str, query: &Query) -> Result<T, Error> {
        parse(path, &self.get(path, query).await?)
    }

    /// POST whose answer is read whole.
    pub(crate) async fn post(&self, path: &str, query: &Query, payload: Payload) -> Result<Bytes, Error> {
        self.read(Method::POST, path, query, payload).await
    }

    /// DELETE whose answer is read whole.
    pub(crate) async fn delete(&self, path: &str, query: &Query) -> Result<Bytes, Error> {
        self.read(Method::DELETE, path, query, Payload::Empty).await
    }

    async fn read(&self, method: Method, path: &str, query: &Query, payload: Payload) -> Result<Bytes, Error> {
        let response = self.request(method, path, query, payload).await?;
        whole(path, response).await
    }

    /// A request whose answer is read as it comes. The status was checked; 304 counts as done.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        query: &Query,
        payload: Payload,
    ) -> Result<Response<Incoming>, Error> {
        if matches!(payload, Payload::Stream(..) | Payload::File(..)) {
            // It cannot be sent twice, so the version must be right at the first time.
            self.negotiate().await?;
        }
        let repeat = match &payload {
            Payload::Empty => Some(Payload::Empty),
            Payload::Json(text) => Some(Payload::Json(text.clone())),
            Payload::Registry(auth) => Some(Payload::Registry(auth.clone())),
            Payload::Stream(..) | Payload::File(..) => None,
        };
        match (self.once(&method, path, query, payload).await, repeat) {
            (Err(error), Some(payload)) if self.lower_version(&error) => self.once(&method, path, query, payload).await,
            (result, _) => result,
        }
    }

    async fn once(
        &self,
        method: &Method,
        path: &str,
        query: &Query,
        payload: Payload,
    ) -> Result<Response<Incoming>, Error> {
        let upload = match &payload {
            Payload::File(_, upload) => Some(upload.clone()),
            _ => None,
        };
        let request = self.build(method, path, query, payload, false)?;
        match upload {
            None => check(path, self.send(path, request).await?).await,
            Some(upload) => self.send_with(upload, path, request).await,
        }
    }

    /// A request whose body is a file, on a connection of its own.
    async fn send_with(&self, upload: Upload, path: &str, request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let what = format!("{} {path}", request.method());
        let (mut sender, failure) = match self.connect().await? {
            Socket::Unix(stream) => self.handshake_with(upload, stream).await?,
            Socket::Tcp(stream) => self.handshake_with(upload, stream).await?,
        };
        let answer = match sender.send_request(request).await {
            Ok(response) => check(path, response).await,
            Err(source) => Err(Error::Http { what, source }),
        };
        match (answer, failure.take()) {
            // What the daemon makes of it says less.
            (Err(_), Some(error)) => Err(Error::io("send the file")(error)),
            (answer, _) => answer,
        }
    }

    async fn handshake_with<S>(&self, upload: Upload, stream: S) -> Result<(SendRequest<Body>, Failure), Error>
    where
        S: AsyncRead + AsyncWrite + AsFd + Send + Unpin + 'static,
    {
        let socket = stream.as_fd().try_clone_to_owned().map_err(Error::io("share the connection"))?;
        let (stream, head) = Heading::new(TokioIo::new(stream));
        let failure = upload.send(socket, head).map_err(Error::io("start a thread"))?;
        let (sender, connection) = http1::handshake(stream).await.map_err(|source| self.broken(source))?;
        tokio::spawn(connection);
        Ok((sender, failure))
    }

    /// GET of what is to become a file.
    pub(crate) async fn download(&self, path: &str, query: &Query) -> Result<Download, Error> {
        self.negotiate().await?;
        match self.connect().await? {
            Socket::Unix(stream) => self.download_over(stream, path, query).await,
            Socket::Tcp(stream) => self.download_over(stream, path, query).await,
        }
    }

    async fn download_over<S>(&self, stream: S, path: &str, query: &Query) -> Result<Download, Error>
    where
        S: AsyncRead + AsyncWrite + AsFd + Send + Unpin + 'static,
    {
        let socket = stream.as_fd().try_clone_to_owned().map_err(Error::io("share the connection"))?;
        let (stream, begun) = Parted::new(TokioIo::new(stream));
        let (mut sender, connection) = http1::handshake(stream).await.map_err(|source| self.broken(source))?;
        tokio::spawn(connection);
        let request = self.build(&Method::GET, path, query, Payload::Empty, false)?;
        let broken = |source| Error::Http { what: format!("GET {path}"), source };
        let response = check(path, sender.send_request(request).await.map_err(broken)?).await?;
        Ok(Download::new(response, socket, &begun))
    }

    /// A request that turns its connection into a plain socket (attach, exec).
    pub(crate) async fn hijack(&self, path: &str, query: &Query, payload: Payload) -> Result<Hijacked, Error> {
        let repeat = match &payload {
            Payload::Json(text) => Payload::Json(text.clone()),
            _ => Payload::Empty,
        };
        match self.hijack_once(path, query, payload).await {
            Err(error) if self.lower_version(&error) => self.hijack_once(path, query, repeat).await,
            result => result,
        }
    }

    async fn hijack_once(&self, path: &str, query: &Query, payload: Payload) -> Result<Hijacked, Error> {
        let request = self.build(&Method::POST, path, query, payload, true)?;
        let response = self.send(path, request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let response = check(path, response).await?;
            return Err(Error::Protocol(format!("unable to upgrade to tcp, received {}", response.status().as_u16())));
        }
        let broken = |source| Error::Http { what: format!("POST {path}"), source };
        let upgraded = hyper::upgrade::on(response).await.map_err(broken)?;
        let lost = |error| Error::io("take over the connection")(error);
        let upgraded = match upgraded.downcast::<TokioIo<UnixStream>>() {
            Ok(parts) => {
                let stream = parts.io.into_inner().into_std().map_err(lost)?;
                stream.set_nonblocking(false).map_err(lost)?;
                return Ok(Hijacked { socket: stream.into(), leftover: parts.read_buf });
            }
            Err(upgraded) => upgraded,
        };
        match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(parts) => {
                let stream = parts.io.into_inner().into_std().map_err(lost)?;
                stream.set_nonblocking(false).map_err(lost)?;
                Ok(Hijacked { socket: stream.into(), leftover: parts.read_buf })
            }
            Err(_) => Err(Error::Protocol(format!("POST {path}: the connection cannot be taken over"))),
        }
    }

    fn build(
        &self,
        method: &Method,
        path: &str,
        query: &Query,
        payload: Payload,
        upgrade: bool,
    ) -> Result<Request<Body>, Error> {
        let version = self.shared.version.get();
        let target = format!("/v{version}{path}{}", query.as_str());
        self.tell(|| format!("{method} {target} to {}", self.shared.host));
        let mut builder = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, self.shared.host.authority())
            .header(header::USER_AGENT, concat!("enginectl/", env!("CARGO_PKG_VERSION")));
        if upgrade {
            builder = builder.header(header::CONNECTION, "Upgrade").header(header::UPGRADE, "tcp");
        }
        let body = match payload {
            Payload::Empty => {
                if upgrade {
                    builder = builder.header(header::CONTENT_TYPE, "text/plain");
                }
                full(Bytes::new())
            }
            Payload::Json(text) => {
                builder = builder.header(header::CONTENT_TYPE, "application/json");
                full(text)
            }
            Payload::Registry(auth) => {
                builder = builder.header("X-Registry-Auth", auth);
                full(Bytes::new())
            }
            Payload::Stream(kind, body) => {
                builder = builder.header(header::CONTENT_TYPE, kind);
                body
            }
            Payload::File(kind, upload) => {
                builder = builder.header(header::CONTENT_TYPE, kind).header(header::CONTENT_LENGTH, upload.length());
                full(Bytes::new())
            }
        };
        builder.body(body).map_err(|error| Error::Invalid(format!("{method} {path}: {error}")))
    }

    async fn send(&self, path: &str, request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let mut sender = self.connection().await?;
        let what = format!("{} {path}", request.method());
        let broken = |source| Error::Http { what: what.clone(), source };
        sender.ready().await.map_err(broken)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        self.tell(|| format!("{what}: {}", response.status()));
        // It is taken again once the answer has been read to its end.
        self.shared.idle.borrow_mut().push(sender);
        Ok(response)
    }

    /// A connection that waits for a request, or a new one.
    async fn connection(&self) -> Result<SendRequest<Body>, Error> {
        {
            let mut idle = self.shared.idle.borrow_mut();
            idle.retain(|sender| !sender.is_closed());
            if let Some(at) = idle.iter().position(SendRequest::is_ready) {
                return Ok(idle.swap_remove(at));
            }
        }
        match self.connect().await? {
            Socket::Unix(stream) => self.handshake(stream).await,
            Socket::Tcp(stream) => self.handshake(stream).await,
        }
    }

    async fn handshake<S>(&self, stream: S) -> Result<SendRequest<Body>, Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|source| self.broken(source))?;
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    async fn connect(&self) -> Result<Socket, Error> {
        let unreachable = |source| Error::Unreachable { host: self.shared.host.to_string(), source };
        match &self.shared.host {
            Host::Unix(path) => UnixStream::connect(path).await.map(Socket::Unix).map_err(unreachable),
            Host::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(unreachable)?;
                stream.set_nodelay(true).map_err(unreachable)?;
                Ok(Socket::Tcp(stream))
            }
        }
    }

    /// Tells people who look for what is wrong.
    fn tell(&self, line: impl FnOnce() -> String) {
        if let Some(mut told) = self.shared.told.as_ref() {
            let _ = told.write_all(format!("enginectl: debug: {}\n", line()).as_bytes());
        }
    }

    fn broken(&self, source: hyper::Error) -> Error {
        Error::Http { what: format!("connect to {}", self.shared.host), source }
    }

    /// Takes the daemon's version from what it said about ours being too new. True if the request is worth repeating.
    fn lower_version(&self, error: &Error) -> bool {
        let Error::Daemon { status: 400, message } = error else { return false };
        if !self.shared.negotiable.get() {
            return false;
        }
        let Some(maximum) = older_version(message) else { return false };
        self.shared.negotiable.set(false);
        self.shared.version.set(maximum);
        true
    }

    /// Asks for the daemon's version, once, and takes it if it is older than ours.
    pub(crate) async fn negotiate(&self) -> Result<(), Error> {
        if !self.shared.negotiable.replace(false) {
            return Ok(());
        }
        let request = Request::builder()
            .method(Method::HEAD)
            .uri("/_ping")
            .header(header::HOST, self.shared.host.authority())
            .body(full(Bytes::new()))
            .map_err(|error| Error::Invalid(error.to_string()))?;
        let response = self.send("/_ping", request).await?;
        let theirs = response.headers().get("api-version").and_then(|value| value.to_str().ok()?.parse().ok());
        self.shared.version.set(theirs.map_or(MAX, |theirs: ApiVersion| theirs.min(MAX)));
        Ok(())
    }
}

/// The newest version of a daemon that said that ours is too new.
fn older_version(message: &str) -> Option<ApiVersion> {
    let (_, rest) = message.split_once("is too new. Maximum supported API version is ")?;
    let version: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    version.trim_end_matches('.').parse().ok()
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// The whole body of an answer.
pub(crate) async fn whole(path: &str, response: Response<Incoming>) -> Result<Bytes, Error> {
    let body = Limited::new(response.into_body(), MAXIMUM_ANSWER).collect().await;
    match body {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(Error::Protocol(format!("read the answer of {path}: {error}"))),
    }
}

/// A JSON answer as what it should be.
pub(crate) fn parse<T: DeserializeOwned>(path: &str, text: &[u8]) -> Result<T, Error> {
    engine_api::json::from_slice(text).map_err(|error| not_understood(path, &error))
}

fn not_understood(path: &str, error: &serde_json::Error) -> Error {
    Error::Protocol(format!("the answer of {path} is not understood: {error}"))
}

/// An error of the daemon, if that is what the answer is.
async fn check(path: &str, response: Response<Incoming>) -> Result<Response<Incoming>, Error> {
    let status = response.status();
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        return Ok(response);
    }
    let text = whole(path, response).await.unwrap_or_default();
    Err(Error::Daemon { status: status.as_u16(), message: message(path, status, &text) })
}

fn message(path: &str, status: StatusCode, text: &[u8]) -> String {
    match serde_json::from_slice::<ErrorBody>(text) {
        Ok(ErrorBody { message }) if !message.is_empty() => message.trim().to_owned(),
        _ => match String::from_utf8_lossy(text).trim() {
            "" => format!("it answered {status} to {path} and gave no reason"),
            text => text.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_daemon_names_its_version() {
        let text = "client version 1.51 is too new. Maximum supported API version is 1.45";
        assert_eq!(older_version(text), Some(ApiVersion::new(1, 45)));
        assert_eq!(older_version("client version 1.51 is too new. Maximum supported API version is x"), None);
        assert_eq!(older_version("something else"), None);
    }

    #[test]
    fn messages_are_json_or_text() {
        let check = |text: &str, expected: &str| {
            assert_eq!(message("/x", StatusCode::NOT_FOUND, text.as_bytes()), expected);
        };
        check("{\"message\":\"No such container: x\"}\n", "No such container: x");
        check("No such container: x\r\n", "No such container: x");
        check("", "it answered 404 Not Found to /x and gave no reason");
    }

    #[test]
    fn versions_must_look_like_versions() {
        assert!(
            Client::new(Host::default(), Some("1.41".to_owned()), None)
                .is_ok_and(|client| client.version() == ApiVersion::new(1, 41))
        );
        assert!(
            Client::new(Host::default(), Some("v1.41".to_owned()), None)
                .is_ok_and(|client| client.version() == ApiVersion::new(1, 41))
        );
        assert!(Client::new(Host::default(), Some("../x".to_owned()), None).is_err());
    }
}
