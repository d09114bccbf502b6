//! `/containers/{id}/checkpoints`

use std::path::Path;

use engine::container::CheckpointOptions;
use engine_api::container::{Checkpoint, CheckpointCreate};
use http::StatusCode;

use crate::error::Error;
use crate::extract;
use crate::reply::{self, Response};
use crate::router::Call;

/// `GET /containers/{id}/checkpoints`
pub(crate) async fn list(call: Call) -> Result<Response, Error> {
    let container = call.daemon.engine.containers().get(&call.name).await?;
    let names = container.checkpoints(directory(call.query.text("dir"))).await?;
    let listed: Vec<_> = names.into_iter().map(|name| Checkpoint { name }).collect();
    Ok(reply::json(StatusCode::OK, &listed))
}

/// `POST /containers/{id}/checkpoints`
pub(crate) async fn create(call: Call) -> Result<Response, Error> {
    let request: CheckpointCreate = extract::json(&call.headers, call.body).await?;
    let mut options = CheckpointOptions::default().leave_running(!request.exit);
    options.directory = directory(&request.checkpoint_dir).map(Path::to_owned);
    call.daemon.engine.containers().get(&call.name).await?.checkpoint(&request.checkpoint_id, options).await?;
    Ok(reply::empty(StatusCode::CREATED))
}

/// `DELETE /containers/{id}/checkpoints/{checkpoint}`
pub(crate) async fn remove(call: Call) -> Result<Response, Error> {
    let container = call.daemon.engine.containers().get(&call.name).await?;
    container.remove_checkpoint(&call.second, directory(call.query.text("dir"))).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// Another directory than the container's own.
pub(super) fn directory(text: &str) -> Option<&Path> {
    Some(text).filter(|text| !text.is_empty()).map(Path::new)
}
