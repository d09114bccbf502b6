//! `DELETE /containers/{id}` and `POST /containers/prune`

use engine::container::{PruneOptions, RemoveOptions};
use engine_api::container::ContainerPrune;
use http::StatusCode;

use crate::convert::{nil_when_empty, time};
use crate::error::Error;
use crate::reply::{self, Response};
use crate::router::Call;
use crate::routes::prune_alone;

pub(crate) async fn remove(call: Call) -> Result<Response, Error> {
    if call.query.boolean("link") {
        return remove_link(&call).await;
    }
    let mut options = RemoveOptions::default();
    options.force = call.query.boolean("force");
    options.volumes = call.query.boolean("v");
    call.daemon.engine.containers().get(&call.name).await?.remove(options).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// A link is named by the container that has it and by what it calls the other one.
async fn remove_link(call: &Call) -> Result<Response, Error> {
    let Some((container, alias)) = call.name.trim_matches('/').split_once('/') else {
        return Err(Error::conflict("Conflict, cannot remove the default link name of the container"));
    };
    call.daemon.engine.containers().get(container).await?.unlink(alias).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn prune(call: Call) -> Result<Response, Error> {
    let filters = call.query.filters(&["label", "label!", "until"])?;
    let mut options = PruneOptions::default();
    options.labels = filters.get("label").map(str::to_owned).collect();
    options.without_labels = filters.get("label!").map(str::to_owned).collect();
    let mut until = filters.get("until");
    if let Some(text) = until.next() {
        options.until = Some(time::until(text)?);
    }
    if until.next().is_some() {
        return Err(Error::invalid("more than one until filter specified"));
    }
    let _alone = prune_alone(&call.daemon.prunes.containers)?;
    let pruned = call.daemon.engine.containers().prune(options).await?;
    let removed = pruned.removed.iter().map(ToString::to_string).collect();
    Ok(reply::json(
        StatusCode::OK,
        &ContainerPrune { containers_deleted: nil_when_empty(removed), space_reclaimed: pruned.reclaimed },
    ))
}
