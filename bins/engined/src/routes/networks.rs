//! `/networks`.

use http::StatusCode;

use crate::convert::network::{is_predefined, network};
use crate::error::Error;
use crate::reply::{self, Response};
use crate::router::Call;

/// `GET /networks`
pub(crate) async fn list(call: Call) -> Result<Response, Error> {
    let filters = call.query.filters(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    let dangling = if filters.contains("dangling") { Some(filters.boolean("dangling", false)?) } else { None };
    for kind in filters.get("type") {
        if !matches!(kind, "builtin" | "custom") {
            return Err(filters.invalid("type").into());
        }
    }
    let networks = call.daemon.engine.networks();
    let mut listed = Vec::new();
    for one in networks.list()? {
        let kind = if is_predefined(&one) { "builtin" } else { "custom" };
        let wanted = filters.allows("driver", &one.driver.to_string())
            && filters.any("id", |part| one.id.as_str().contains(part))
            && filters.any("name", |part| one.name.contains(part))
            && filters.all_labels("label", &one.labels)
            && filters.allows("scope", "local")
            && filters.allows("type", kind);
        if !wanted {
            continue;
        }
        if let Some(dangling) = dangling
            && (kind == "custom" && networks.endpoints(&one.id)?.is_empty()) != dangling
        {
            continue;
        }
        listed.push(network(&one, &[], call.version));
    }
    Ok(reply::json(StatusCode::OK, &listed))
}

/// `GET /networks/{id}`
pub(crate) async fn inspect(call: Call) -> Result<Response, Error> {
    let scope = call.query.text("scope");
    if !matches!(scope, "" | "local") {
        return Err(Error::not_found(format!("network {} not found", call.name)));
    }
    let networks = call.daemon.engine.networks();
    let found = networks.get(&call.name)?;
    let mut endpoints = Vec::new();
    for endpoint in networks.endpoints(&found.id)? {
        // It may have gone in the meantime.
        let name = call
            .daemon
            .engine
            .containers()
            .get(endpoint.container.as_str())
            .await
            .map_or_else(|_| String::new(), |container| container.name());
        endpoints.push((endpoint, name));
    }
    Ok(reply::json(StatusCode::OK, &network(&found, &endpoints, call.version)))
}
