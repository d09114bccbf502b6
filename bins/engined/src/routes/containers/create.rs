//! `POST /containers/create`

use engine_api::container::{CreateRequest, CreateResponse};
use http::StatusCode;

use crate::convert::container::create::spec;
use crate::error::Error;
use crate::extract;
use crate::reply::{self, Response};
use crate::router::Call;

pub(crate) async fn create(call: Call) -> Result<Response, Error> {
    let request: CreateRequest = extract::json(&call.headers, call.body).await?;
    if request == CreateRequest::default() {
        return Err(Error::invalid("config cannot be empty in order to create a container"));
    }
    let mut warnings = warnings(&request);
    let spec = spec(request, call.query.text("name"), call.query.text("platform"), call.version)?;
    let containers = call.daemon.engine.containers();
    warnings.extend(containers.warnings(&spec.host));
    if !spec.host.port_bindings.is_empty() || spec.host.publish_all_ports {
        let networks = call.daemon.engine.networks().clone();
        let obstacles = tokio::task::spawn_blocking(move || networks.obstacles()).await;
        let obstacles = obstacles
            .map_err(|_| engine::network::Error::Interrupted)?
            .inspect_err(|error| tracing::warn!(%error, "what the packet filter does cannot be told"))
            .unwrap_or_default();
        warnings.extend(obstacles.iter().map(ToString::to_string));
    }
    let container = containers.create(spec).await?;
    Ok(reply::json(StatusCode::CREATED, &CreateResponse { id: container.id().to_string(), warnings }))
}

/// What is done, but perhaps not what was meant.
fn warnings(request: &CreateRequest) -> Vec<String> {
    let mut warnings = Vec::new();
    let host = request.host_config.as_ref();
    if host.is_some_and(|host| host.network_mode == "host" && host.port_bindings.iter().flatten().next().is_some()) {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    let check = request.config.healthcheck.as_ref().and_then(|check| check.test.first());
    if let Some(kind) = check.filter(|kind| !["NONE", "CMD", "CMD-SHELL", "HTTP", "TCP"].contains(&kind.as_str())) {
        warnings.push(format!(
            "Unknown health check type {kind:?}: nothing is checked; use CMD, CMD-SHELL, HTTP, TCP or NONE"
        ));
    }
    warnings
}
