//! `/networks`.

use engine::network::{Endpoint, Network};
use engine_api::network::{NetworkConnect, NetworkCreate, NetworkCreateResponse, NetworkDisconnect, NetworkPrune};
use http::StatusCode;

use super::prune_alone;
use crate::convert::network::{endpoint_spec, network, spec};
use crate::convert::time;
use crate::error::Error;
use crate::extract;
use crate::reply::{self, Response};
use crate::router::Call;
use crate::version::Gates;

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
        let kind = if one.is_predefined() { "builtin" } else { "custom" };
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
        let members = if call.version.lists_members_of_networks() { members(&call, &one).await? } else { Vec::new() };
        listed.push(network(&one, &members, call.version));
    }
    Ok(reply::json(StatusCode::OK, &listed))
}

/// `POST /networks/create`
pub(crate) async fn create(call: Call) -> Result<Response, Error> {
    let mut request: NetworkCreate = extract::json(&call.headers, call.body).await?;
    if !call.version.chooses_ipv4() {
        request.enable_ipv4 = None;
    }
    let made = call.daemon.engine.networks().create(spec(request)?).await?;
    let answer = NetworkCreateResponse { id: made.id.to_string(), warning: String::new() };
    Ok(reply::json(StatusCode::CREATED, &answer))
}

/// `POST /networks/{id}/connect`
pub(crate) async fn connect(call: Call) -> Result<Response, Error> {
    let request: NetworkConnect = extract::json(&call.headers, call.body).await?;
    let asked = endpoint_spec(request.endpoint_config.unwrap_or_default())?;
    let network = call.daemon.engine.networks().get(&call.name)?;
    let container = call.daemon.engine.containers().get(&request.container).await?;
    container.connect_to(&network.name, asked).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// `POST /networks/{id}/disconnect`
pub(crate) async fn disconnect(call: Call) -> Result<Response, Error> {
    let request: NetworkDisconnect = extract::json(&call.headers, call.body).await?;
    let containers = call.daemon.engine.containers();
    match containers.get(&request.container).await {
        Ok(container) => container.disconnect_from(&call.name).await?,
        // With a container goes all that it has on networks: there is nothing to force.
        Err(error) if request.force && error.kind() == engine::error::ErrorKind::NotFound => {
            call.daemon.engine.networks().get(&call.name)?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(reply::empty(StatusCode::OK))
}

/// `DELETE /networks/{id}`
pub(crate) async fn remove(call: Call) -> Result<Response, Error> {
    call.daemon.engine.networks().remove(&call.name).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `POST /networks/prune`
pub(crate) async fn prune(call: Call) -> Result<Response, Error> {
    let filters = call.query.filters(&["label", "label!", "until"])?;
    let mut until = filters.get("until");
    let before = until.next().map(time::until).transpose()?;
    if until.next().is_some() {
        return Err(Error::invalid("more than one until filter specified"));
    }
    drop(until);
    let _alone = prune_alone(&call.daemon.prunes.networks)?;
    let wanted = move |one: &Network| {
        filters.all_labels("label", &one.labels)
            && filters.no_label("label!", &one.labels)
            && before.is_none_or(|before| one.created_nanos < before)
    };
    let removed = call.daemon.engine.networks().prune(wanted).await?;
    Ok(reply::json(StatusCode::OK, &NetworkPrune { networks_deleted: crate::convert::nil_when_empty(removed) }))
}

/// `GET /networks/{id}`
pub(crate) async fn inspect(call: Call) -> Result<Response, Error> {
    let scope = call.query.text("scope");
    if !matches!(scope, "" | "local") {
        return Err(Error::not_found(format!("network {} not found", call.name)));
    }
    let networks = call.daemon.engine.networks();
    let found = networks.get(&call.name)?;
    let members = members(&call, &found).await?;
    Ok(reply::json(StatusCode::OK, &network(&found, &members, call.version)))
}

/// Who is on a network, with the names of the containers.
async fn members(call: &Call, network: &Network) -> Result<Vec<(Endpoint, String)>, Error> {
    let engine = &call.daemon.engine;
    let mut members = Vec::new();
    for endpoint in engine.networks().endpoints(&network.id)? {
        // It may have gone in the meantime.
        let container = engine.containers().get(endpoint.container.as_str()).await;
        members.push((endpoint, container.map_or_else(|_| String::new(), |container| container.name())));
    }
    Ok(members)
}
