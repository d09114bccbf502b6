//! `POST /containers/create`

use engine::oci::Platform;
use engine_api::container::{CreateRequest, CreateResponse};
use http::StatusCode;

use crate::convert::container::create::spec;
use crate::convert::container::older::adapt;
use crate::error::Error;
use crate::extract;
use crate::reply::{self, Response};
use crate::router::Call;
use crate::version::Gates;

pub(crate) async fn create(call: Call) -> Result<Response, Error> {
    let mut request: CreateRequest = extract::json(&call.headers, call.body).await?;
    if request == CreateRequest::default() {
        return Err(Error::invalid("config cannot be empty in order to create a container"));
    }
    let mut warnings = warnings(&request);
    warnings.extend(adapt(&mut request, call.version)?);
    let platform = if call.version.has_platform() { call.query.text("platform") } else { "" };
    let spec = spec(request, call.query.text("name"), platform, call.version)?;
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
    let any_platform = spec.platform.is_none();
    let container = containers.create(spec).await?;
    if any_platform {
        warnings.extend(foreign(&container.record().platform));
    }
    Ok(reply::json(StatusCode::CREATED, &CreateResponse { id: container.id().to_string(), warnings }))
}

/// The image of a container that nobody asked a platform for may be of another one.
fn foreign(platform: &str) -> Option<String> {
    let (own, host) = (platform.parse::<Platform>().ok()?, Platform::host());
    own.serves(&host).is_none().then(|| {
        format!(
            "The requested image's platform ({own}) does not match the detected host platform ({host}) and no specific platform was requested"
        )
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_another_platform_is_told() {
        let host = Platform::host().to_string();
        assert_eq!(foreign(&host), None);
        let warning = foreign("linux/s390x").unwrap_or_default();
        assert!(warning.contains("(linux/s390x) does not match") && warning.contains(&host), "{warning}");
    }
}
