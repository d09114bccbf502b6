//! What happens to a container between its creation and its removal.

use engine::container::StopOptions;
use http::{StatusCode, header};

use super::checkpoints::directory;
use crate::convert::container::host::console_size;
use crate::error::Error;
use crate::reply::{self, Response};
use crate::router::Call;
use crate::version::Gates;

/// `POST /containers/{id}/start`
pub(crate) async fn start(call: Call) -> Result<Response, Error> {
    // Once this took a host configuration; some clients still send an empty object.
    let length = call.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > 7) || call.headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Error::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    let container = call.daemon.engine.containers().get(&call.name).await?;
    match (call.query.text("checkpoint"), directory(call.query.text("checkpoint-dir"))) {
        ("", Some(_)) => return Err(Error::invalid("checkpoint-dir says where a checkpoint is, and none is named")),
        ("", None) => container.start().await?,
        (name, directory) => container.start_from(name, directory).await?,
    }
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{id}/stop`
pub(crate) async fn stop(call: Call) -> Result<Response, Error> {
    let options = stop_options(&call)?;
    call.daemon.engine.containers().get(&call.name).await?.stop(options).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{id}/restart`
pub(crate) async fn restart(call: Call) -> Result<Response, Error> {
    let options = stop_options(&call)?;
    call.daemon.engine.containers().get(&call.name).await?.restart(options).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{id}/kill`
pub(crate) async fn kill(call: Call) -> Result<Response, Error> {
    call.daemon.engine.containers().get(&call.name).await?.kill(call.query.text("signal")).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{id}/pause`
pub(crate) async fn pause(call: Call) -> Result<Response, Error> {
    call.daemon.engine.containers().get(&call.name).await?.pause().await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{id}/unpause`
pub(crate) async fn unpause(call: Call) -> Result<Response, Error> {
    call.daemon.engine.containers().get(&call.name).await?.unpause().await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{id}/rename`
pub(crate) async fn rename(call: Call) -> Result<Response, Error> {
    let name = call.query.text("name");
    let name = name.strip_prefix('/').unwrap_or(name);
    if name.is_empty() {
        return Err(Error::invalid("Neither old nor new names may be empty"));
    }
    call.daemon.engine.containers().get(&call.name).await?.rename(name).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{id}/resize`
pub(crate) async fn resize(call: Call) -> Result<Response, Error> {
    let (rows, columns) = size(&call)?;
    call.daemon.engine.containers().get(&call.name).await?.resize(rows, columns).await?;
    Ok(reply::empty(StatusCode::OK))
}

fn stop_options(call: &Call) -> Result<StopOptions, Error> {
    let mut options = StopOptions::default();
    options.timeout = call.query.integer("t")?;
    let signal = call.query.text("signal");
    if call.version.has_stop_signal() && !signal.is_empty() {
        options.signal = Some(signal.to_owned());
    }
    Ok(options)
}

/// Rows and columns of a terminal.
pub(crate) fn size(call: &Call) -> Result<(u16, u16), Error> {
    let number = |name: &str, what: &str| {
        let text = call.query.text(name);
        text.parse::<u32>().map_err(|_| Error::invalid(format!("invalid resize {what} {text:?}: invalid syntax")))
    };
    let (rows, columns) = (number("h", "height")?, number("w", "width")?);
    console_size([rows, columns])
        .ok_or_else(|| Error::invalid(format!("invalid size of a terminal: {rows} rows, {columns} columns")))
}
