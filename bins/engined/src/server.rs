//! Connections: one task for each, which speaks HTTP until the client goes or a handler takes the socket.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::Error;
use crate::extract::{Query, decode};
use crate::reply::{self, Response};
use crate::router::{self, Call, Handler};
use crate::stream::hijack::{Client, Hijack, Outcome};
use crate::{Daemon, version};

/// How long a shutdown waits for changes that are under way.
const GRACE: Duration = Duration::from_secs(15);
/// How long a shutdown waits for answers to reach their clients.
const FLUSH: Duration = Duration::from_millis(200);

/// Serves until `shutdown` completes, then lets changes that are under way come to their end.
pub(crate) async fn run(daemon: Arc<Daemon>, listeners: Vec<UnixListener>, shutdown: impl Future<Output = ()>) {
    let closing = CancellationToken::new();
    let connections = TaskTracker::new();
    let changes = TaskTracker::new();
    for listener in listeners {
        let server = Server { daemon: Arc::clone(&daemon), closing: closing.clone(), changes: changes.clone() };
        connections.spawn(accept(listener, server, connections.clone()));
    }
    shutdown.await;
    closing.cancel();
    connections.close();
    changes.close();
    if tokio::time::timeout(GRACE, changes.wait()).await.is_err() {
        tracing::warn!(count = changes.len(), "changes are still under way, they are left to the next start");
    }
    // Whoever follows events or logs has no end of its own.
    let _ = tokio::time::timeout(FLUSH, connections.wait()).await;
}

#[derive(Clone)]
struct Server {
    daemon: Arc<Daemon>,
    closing: CancellationToken,
    changes: TaskTracker,
}

async fn accept(listener: UnixListener, server: Server, connections: TaskTracker) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = server.closing.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, server.clone()));
            }
            Err(error) => {
                // Out of descriptors or memory: those that are there must be let go first.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// What a connection and the handler of its present request tell each other.
#[derive(Default)]
struct Switch {
    /// The handler may take the socket: an end of input is the client's half-close and not the end of the connection.
    hold: AtomicBool,
    /// The handler takes the socket.
    hijack: Mutex<Option<Hijack>>,
}

async fn connection(stream: UnixStream, server: Server) {
    let switch = Arc::new(Switch::default());
    let closing = server.closing.clone();
    let service = Api { server, switch: Arc::clone(&switch) };
    let io = Socket { io: TokioIo::new(stream), switch: Arc::clone(&switch) };
    let mut connection = http1::Builder::new().half_close(false).title_case_headers(true).serve_connection(io, service);
    let mut cancelled = pin!(closing.cancelled());
    let mut told = false;
    let taken = poll_fn(|context| {
        if !told && cancelled.as_mut().poll(context).is_ready() {
            told = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        let end = connection.poll_without_shutdown(context);
        // The handler runs inside that poll, so its word comes before any end of the connection.
        let hijack = switch.hijack.lock().unwrap_or_else(PoisonError::into_inner).take();
        if hijack.is_some() { Poll::Ready(hijack) } else { end.map(|_| None) }
    })
    .await;
    if let Some(hijack) = taken {
        let parts = connection.into_parts();
        hijack(Client::new(parts.io.io.into_inner(), parts.read_buf)).await;
    }
}

/// The client's socket, as hyper reads and writes it.
struct Socket {
    io: TokioIo<UnixStream>,
    switch: Arc<Switch>,
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.switch.hold.load(Ordering::Relaxed) {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        let stream = self.io.inner();
        let mut bytes = [0; 4096];
        let length = bytes.len().min(buffer.remaining());
        loop {
            ready!(stream.poll_read_ready(context))?;
            match stream.try_read(&mut bytes[..length]) {
                // hyper would give the request up; the handler decides what a half-close means.
                Ok(0) => return Poll::Pending,
                Ok(count) => {
                    buffer.put_slice(&bytes[..count]);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }
}

/// The API on one connection.
struct Api {
    server: Server,
    switch: Arc<Switch>,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

impl Service<Request<Incoming>> for Api {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let (head, body) = request.into_parts();
        let path = decode(head.uri.path(), false);
        let (asked, rest) = version::split(&path);
        let json = version::reads_json_errors(asked);
        if head.method == Method::OPTIONS {
            return answered(reply::empty(StatusCode::OK));
        }
        let Some((handler, [name, second])) = router::find(&head.method, rest) else {
            return answered(Error::not_found("page not found").into_response(true));
        };
        let version = match version::negotiate(asked) {
            Ok(version) => version,
            Err(error) => return answered(error.into_response(json)),
        };
        tracing::debug!(method = %head.method, uri = %head.uri, "request");
        let call = Call {
            daemon: Arc::clone(&self.server.daemon),
            version,
            name: name.to_owned(),
            second: second.to_owned(),
            query: Query::parse(head.uri.query()),
            headers: head.headers,
            body,
        };
        match handler {
            Handler::While(handler) => {
                let answer = handler(call);
                Box::pin(async move { Ok(finished(answer.await, json)) })
            }
            Handler::Finish(handler) => {
                let task = self.server.changes.spawn(handler(call));
                Box::pin(async move {
                    let answer =
                        task.await.unwrap_or_else(|error| Err(Error::internal(format!("the request failed: {error}"))));
                    Ok(finished(answer, json))
                })
            }
            Handler::Hijack(handler) => {
                let switch = Arc::clone(&self.switch);
                switch.hold.store(true, Ordering::Relaxed);
                let outcome = handler(call);
                Box::pin(async move {
                    let answer = match outcome.await {
                        Ok(Outcome::Taken(hijack)) => {
                            *switch.hijack.lock().unwrap_or_else(PoisonError::into_inner) = Some(hijack);
                            std::future::pending().await
                        }
                        Ok(Outcome::Answer(response)) => Ok(response),
                        Err(error) => Err(error),
                    };
                    switch.hold.store(false, Ordering::Relaxed);
                    Ok(finished(answer, json))
                })
            }
        }
    }
}

fn answered(response: Response) -> Answering {
    Box::pin(std::future::ready(Ok(with_headers(response))))
}

fn finished(answer: Result<Response, Error>, json: bool) -> Response {
    with_headers(answer.unwrap_or_else(|error| {
        if error.status.is_server_error() {
            tracing::warn!(status = error.status.as_u16(), message = error.message, "a request failed");
        }
        error.into_response(json)
    }))
}

/// What every answer says about the daemon.
fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert("Api-Version", HeaderValue::from_static(crate::API_VERSION));
    headers.entry("Docker-Experimental").or_insert(HeaderValue::from_static("false"));
    headers.insert("Ostype", HeaderValue::from_static("linux"));
    headers.insert(header::SERVER, HeaderValue::from_static(crate::SERVER));
    response
}
