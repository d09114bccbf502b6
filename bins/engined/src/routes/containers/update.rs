//! `POST /containers/{id}/update`

use engine::container::Change;
use engine_api::container::UpdateResponse;
use engine_api::host_config::HostConfig;
use http::StatusCode;

use crate::convert::container::host::{resources, restart_policy};
use crate::error::Error;
use crate::extract;
use crate::reply::{self, Response};
use crate::router::Call;

/// The body is the part of a host configuration that can be changed.
pub(crate) async fn update(call: Call) -> Result<Response, Error> {
    let asked: HostConfig = extract::json(&call.headers, call.body).await?;
    let mut change = Change::default();
    change.resources = resources(&asked);
    if !asked.restart_policy.name.is_empty() {
        change.restart_policy = Some(restart_policy(&asked.restart_policy)?);
    }
    let warnings = call.daemon.engine.containers().get(&call.name).await?.update(change).await?;
    Ok(reply::json(StatusCode::OK, &UpdateResponse { warnings: crate::convert::nil_when_empty(warnings) }))
}
