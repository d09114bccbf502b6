//! `POST /containers/{id}/attach`

use engine::container::{AttachOptions, Container, Status};
use http::{HeaderValue, header};
use tokio::io::AsyncWriteExt;

use crate::error::Error;
use crate::reply;
use crate::router::Call;
use crate::stream::hijack::{Client, Head, Outcome};
use crate::version::Gates;

/// The client's socket goes to the container's monitor; the daemon only waits for the end. Errors are plain text here.
pub(crate) async fn attach(call: Call) -> Result<Outcome, Error> {
    match prepare(&call).await {
        Ok((container, options)) => {
            let framed = !container.record().config.tty;
            let head = Head::new(&call.headers, framed && call.version.names_multiplexed_streams(), "");
            Ok(Outcome::Taken(Box::new(move |client| Box::pin(connect(container, client, head, framed, options)))))
        }
        Err(error) => {
            let mut response = reply::text(error.status, format!("{}\r\n", error.message));
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/vnd.docker.raw-stream"));
            Ok(Outcome::Answer(response))
        }
    }
}

pub(super) async fn prepare(call: &Call) -> Result<(Container, AttachOptions), Error> {
    let query = &call.query;
    let mut options = AttachOptions::default();
    options.detach_keys = query.text("detachKeys").parse()?;
    let container = call.daemon.engine.containers().get(&call.name).await?;
    let record = container.record();
    match record.state.status {
        Status::Paused => {
            return Err(Error::conflict(format!(
                "container {} is paused, unpause the container before attach",
                record.id
            )));
        }
        Status::Restarting => {
            return Err(Error::conflict(format!(
                "container {} is restarting, wait until the container is running",
                record.id
            )));
        }
        _ => {}
    }
    options.stdin = query.boolean("stdin") && record.config.open_stdin;
    options.stdout = query.boolean("stdout");
    options.stderr = query.boolean("stderr");
    options.logs = query.boolean("logs");
    options.stream = query.boolean("stream");
    Ok((container, options))
}

/// A container that does not run yet says nothing, so its client is registered before it hears that it is connected: only
/// then may the client start the container. One that runs would write before the head does.
async fn connect(container: Container, client: Client, head: Head, framed: bool, options: AttachOptions) {
    let runs = container.record().state.status.has_process();
    let attached = async {
        if runs || !options.stream {
            let (socket, preface) = client.answer(&head).await?;
            return Ok::<_, Failure>(container.attach_socket(socket, preface.to_vec(), framed, options).await?);
        }
        let (socket, preface) = client.into_socket()?;
        let ours = std::os::unix::net::UnixStream::from(socket.try_clone()?);
        let attached = container.attach_socket(socket, preface.to_vec(), framed, options).await?;
        tokio::net::UnixStream::from_std(ours)?.write_all(head.text.as_bytes()).await?;
        Ok(attached)
    };
    match attached.await {
        Ok(attached) => attached.await,
        Err(error) => tracing::warn!(container = %container.id(), %error, "a client could not be attached"),
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Engine(#[from] engine::container::Error),
    #[error("the connection failed: {0}")]
    Connection(#[from] std::io::Error),
}
