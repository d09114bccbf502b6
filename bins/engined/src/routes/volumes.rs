//! `/volumes`.

use engine_api::filter::Filters;
use engine_api::volume::{VolumeList, VolumePrune};
use futures_util::TryStreamExt;
use http::StatusCode;

use super::prune_alone;
use crate::convert::volume::{labels, spec, volume};
use crate::error::Error;
use crate::extract;
use crate::reply::{self, Response};
use crate::router::Call;
use crate::stream::upload::Upload;
use crate::version::Gates;

/// `GET /volumes`
pub(crate) async fn list(call: Call) -> Result<Response, Error> {
    let filters = call.query.filters(&["dangling", "driver", "label", "name"])?;
    let dangling = if filters.contains("dangling") { Some(filters.boolean("dangling", false)?) } else { None };
    let volumes = call.daemon.engine.volumes();
    let mut listed = Vec::new();
    for one in volumes.list().await? {
        let wanted = filters.allows("driver", one.driver())
            && filters.any("name", |part| one.name().as_str().contains(part))
            && filters.all_labels("label", &labels(&one));
        if !wanted {
            continue;
        }
        if let Some(dangling) = dangling
            && volumes.holders(one.name()).await?.is_empty() != dangling
        {
            continue;
        }
        listed.push(volume(&one));
    }
    Ok(reply::json(StatusCode::OK, &VolumeList { volumes: listed, warnings: None }))
}

/// `POST /volumes/create`
pub(crate) async fn create(call: Call) -> Result<Response, Error> {
    let request = extract::optional_json(&call.headers, call.body).await?.unwrap_or_default();
    let made = call.daemon.engine.volumes().create(spec(request)).await?;
    Ok(reply::json(StatusCode::CREATED, &volume(&made)))
}

/// `GET /volumes/{name}`
pub(crate) async fn inspect(call: Call) -> Result<Response, Error> {
    let found = call.daemon.engine.volumes().get(&call.name).await?;
    Ok(reply::json(StatusCode::OK, &volume(&found)))
}

/// `DELETE /volumes/{name}`
pub(crate) async fn remove(call: Call) -> Result<Response, Error> {
    match call.daemon.engine.volumes().remove(&call.name).await {
        Err(error) if call.query.boolean("force") && error.kind() == engine::error::ErrorKind::NotFound => {}
        other => other?,
    }
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `GET /volumes/{name}/archive`: its files as a tar archive. Not of Docker's API.
pub(crate) async fn export(call: Call) -> Result<Response, Error> {
    let archive = call.daemon.engine.volumes().get(&call.name).await?.export().await?;
    Ok(reply::fallible_stream("application/x-tar", archive.map_err(std::io::Error::other)))
}

/// `PUT /volumes/{name}/archive`: the files of a tar archive into it. Not of Docker's API.
pub(crate) async fn import(call: Call) -> Result<Response, Error> {
    let volume = call.daemon.engine.volumes().get(&call.name).await;
    let mut archive = Upload::new(call.body);
    let imported = match volume {
        Ok(volume) => volume.import(&mut archive).await,
        Err(error) => Err(error),
    };
    if imported.is_err() {
        archive.drain().await;
    }
    imported?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `POST /volumes/prune`
pub(crate) async fn prune(call: Call) -> Result<Response, Error> {
    let filters = call.query.filters(&["all", "label", "label!"])?;
    let all = filters.boolean("all", false)? || !call.version.prunes_anonymous_volumes_only();
    let _alone = prune_alone(&call.daemon.prunes.volumes)?;
    let pruned =
        call.daemon.engine.volumes().prune(move |one| (all || one.is_anonymous()) && has_labels(&filters, one)).await?;
    let names = crate::convert::nil_when_empty(pruned.names);
    Ok(reply::json(StatusCode::OK, &VolumePrune { volumes_deleted: names, space_reclaimed: pruned.reclaimed }))
}

fn has_labels(filters: &Filters, one: &engine::volume::Volume) -> bool {
    let labels = labels(one);
    filters.all_labels("label", &labels) && filters.no_label("label!", &labels)
}
