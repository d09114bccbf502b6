//! `/exec` and `POST /containers/{id}/exec`

use engine::container::{Exec, ExecState};
use engine_api::exec::{ExecCreate, ExecStart, IdResponse};
use http::StatusCode;

use super::containers::lifecycle::size;
use crate::convert::container::host::console_size;
use crate::convert::exec::{inspect as inspect_of, spec};
use crate::error::Error;
use crate::extract;
use crate::reply::{self, Response};
use crate::router::Call;
use crate::stream::hijack::{Client, Head, Outcome};
use crate::version::Gates;

/// `POST /containers/{id}/exec`
pub(crate) async fn create(call: Call) -> Result<Response, Error> {
    let request: ExecCreate = extract::json(&call.headers, call.body).await?;
    let spec = spec(request, call.version)?;
    let exec = call.daemon.engine.containers().get(&call.name).await?.exec(spec).await?;
    Ok(reply::json(StatusCode::CREATED, &IdResponse { id: exec.id().to_string() }))
}

/// `GET /exec/{id}/json`
pub(crate) async fn inspect(call: Call) -> Result<Response, Error> {
    let exec = call.daemon.engine.containers().exec(&call.name)?;
    Ok(reply::json(StatusCode::OK, &inspect_of(&exec.look().await)))
}

/// `POST /exec/{id}/resize`
pub(crate) async fn resize(call: Call) -> Result<Response, Error> {
    let (rows, columns) = size(&call)?;
    call.daemon.engine.containers().exec(&call.name)?.resize(rows, columns).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// `POST /exec/{id}/start`: the client's socket goes to the monitor, unless it wants to be detached.
pub(crate) async fn start(call: Call) -> Result<Outcome, Error> {
    let request: ExecStart = extract::optional_json(&call.headers, call.body).await?.unwrap_or_default();
    let exec = call.daemon.engine.containers().exec(&call.name)?;
    let record = exec.inspect();
    match record.state {
        ExecState::Created => {}
        state if state.is_running() => {
            return Err(Error::conflict(format!("exec command {} is already running", exec.id())));
        }
        _ => return Err(Error::conflict(format!("exec command {} has already run", exec.id()))),
    }
    if request.detach {
        // The start must not stop half way when the client goes.
        let started = tokio::spawn(async move { exec.start().await }).await;
        started.map_err(|error| Error::internal(format!("the start of the exec failed: {error}")))??;
        return Ok(Outcome::Answer(reply::empty(StatusCode::OK)));
    }
    let console = request.console_size.and_then(console_size).filter(|_| call.version.has_console_size());
    // As with Docker it is the start that says how output comes, whether or not the process has a terminal.
    let framed = !request.tty;
    let headers = format!("Api-Version: {}\r\nOstype: linux\r\nServer: {}\r\n", crate::API_VERSION, crate::SERVER);
    let head = Head::new(&call.headers, framed && call.version.names_multiplexed_streams(), &headers);
    Ok(Outcome::Taken(Box::new(move |client| Box::pin(connect(exec, client, head, framed, console)))))
}

/// Whoever connects has been told so before the process starts; why it does not start stands in the stream.
async fn connect(exec: Exec, client: Client, head: Head, framed: bool, console: Option<(u16, u16)>) {
    let Ok((socket, preface)) = client.answer(&head).await else { return };
    let Ok(ours) = socket.try_clone() else { return };
    match exec.start_socket(socket, preface.to_vec(), framed, console).await {
        Ok(attached) => {
            drop(ours);
            attached.await;
        }
        Err(error) => complain(ours.into(), &format!("{error}\r\n"), framed),
    }
}

/// Writes an error where the client expects output.
fn complain(mut socket: std::os::unix::net::UnixStream, text: &str, framed: bool) {
    use std::io::Write as _;
    let mut bytes = Vec::new();
    if framed {
        engine_api::frame::encode(engine_api::frame::Stream::Stdout, text.as_bytes(), &mut bytes);
    } else {
        bytes.extend_from_slice(text.as_bytes());
    }
    // The socket does not block; what does not fit goes to a client that reads nothing anyway.
    let _ = socket.write_all(&bytes);
}
