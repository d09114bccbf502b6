//! `/images`.

use std::collections::{BTreeMap, BTreeSet};

use engine::id::ImageId;
use engine::image::{Image, ImageUsage, RemoveOptions};
use engine::oci::{Platform, Reference};
use engine_api::filter::Filters;
use engine_api::image::ImagePrune;
use http::StatusCode;

use crate::convert::image::{
    Names, fits, history as history_of, inspect as inspect_of, manifest, measured, named, removed, summary,
};
use crate::convert::{nil_when_empty, time};
use crate::error::Error;
use crate::reply::{self, Response};
use crate::router::Call;
use crate::routes::prune_alone;
use crate::routes::transfers::platform;
use crate::version::Gates;

/// `GET /images/json`
pub(crate) async fn list(call: Call) -> Result<Response, Error> {
    let mut filters = call.query.filters(&["dangling", "label", "label!", "before", "since", "reference", "until"])?;
    let name = call.query.text("filter");
    if call.version.filters_images_by_name() && !name.is_empty() {
        filters.add("reference", name);
    }
    let images = call.daemon.engine.images();
    let created = async |name: &str| Ok::<_, Error>(images.get(name).await?.created().map_or(0, time::seconds_of));
    let (mut before, mut since) = (i64::MAX, i64::MIN);
    for name in filters.get("before") {
        before = before.min(created(name).await?);
    }
    for name in filters.get("since") {
        since = since.max(created(name).await?);
    }
    for text in filters.get("until") {
        before = before.min(time::seconds(time::until(text)?));
    }
    let dangling = if filters.contains("dangling") { Some(filters.boolean("dangling", false)?) } else { None };
    let shares = call.version.has_shared_size() && call.query.boolean("shared-size");
    let manifests = call.version.lists_manifests() && call.query.boolean("manifests");
    let usage: BTreeMap<String, ImageUsage> = if shares || manifests {
        let usage = images.usage().await?.images.into_iter();
        usage.map(|one| (one.image.id().as_str().to_owned(), one)).collect()
    } else {
        BTreeMap::new()
    };
    let all = images.list().await?;
    // What others were built upon, and what has no name of its own.
    let below: BTreeSet<ImageId> = all.iter().filter_map(|image| image.parent().copied()).collect();
    let is_step =
        |image: &Image| image.references().is_empty() && image.digests().is_empty() && below.contains(image.id());
    let steps = call.query.boolean("all");
    let mut listed = Vec::new();
    for image in all {
        let at = image.created().map_or(0, time::seconds_of);
        let labels = &image.config().config.labels;
        let wanted = at < before
            && at > since
            && (steps || !is_step(&image))
            && dangling.is_none_or(|dangling| is_dangling(&image, dangling))
            && filters.all_labels("label", labels)
            && filters.no_label("label!", labels);
        let names = Names::of(&image, |name| is_asked_for(name, &filters));
        if wanted && (!filters.contains("reference") || !names.is_empty()) {
            let mut line = summary(&image, names, call.version);
            if let Some(usage) = usage.get(image.id().as_str()) {
                if shares {
                    line.shared_size = measured(usage).1;
                }
                if manifests {
                    line.manifests = Some(manifest(usage).into_iter().collect());
                }
            }
            listed.push(line);
        }
    }
    listed.sort_by_key(|summary| std::cmp::Reverse(summary.created));
    Ok(reply::json(StatusCode::OK, &listed))
}

/// Whether the filter `dangling` lets an image through. One that has a digest alone is both to Docker.
fn is_dangling(image: &Image, wanted: bool) -> bool {
    let has_tag = !image.references().is_empty();
    if wanted { !has_tag } else { has_tag || !image.digests().is_empty() }
}

/// Whether the filter `reference` lets a name through: whole, or without its tag or digest.
fn is_asked_for(name: &Reference, filters: &Filters) -> bool {
    filters.any("reference", |pattern| fits(pattern, &name.to_string()) || fits(pattern, &name.familiar_name()))
}

/// `GET /images/{name}/json`
pub(crate) async fn inspect(call: Call) -> Result<Response, Error> {
    let images = call.daemon.engine.images();
    let manifests = call.query.boolean("manifests");
    if manifests && !call.query.text("platform").is_empty() {
        return Err(Error::invalid("conflicting options: manifests and platform options cannot both be set"));
    }
    let image = images.get(&call.name).await?;
    asked_for(&image, &call, Platform::is)?;
    let layers: Vec<_> = image.layers().iter().rev().map(|diff_id| images.layers().path(diff_id)).collect();
    let mut answer = inspect_of(&image, images.manifest(&image).await?.as_ref(), &layers, call.version);
    if manifests {
        let usage = images.usage().await?;
        let own = usage.images.iter().find(|usage| usage.image.id() == image.id());
        answer.manifests = Some(own.and_then(manifest).into_iter().collect());
    }
    if call.version.shows_fields_of_containers() {
        return Ok(reply::json(StatusCode::OK, &answer));
    }
    let mut answer = serde_json::to_value(&answer).map_err(|error| Error::internal(error.to_string()))?;
    if let Some(config) = answer.get_mut("Config").and_then(serde_json::Value::as_object_mut) {
        config.retain(|name, _| !FIELDS_OF_CONTAINERS.contains(&name.as_str()));
    }
    Ok(reply::json(StatusCode::OK, &answer))
}

/// What an image's configuration never says, though it once was shown there.
const FIELDS_OF_CONTAINERS: [&str; 12] = [
    "AttachStderr",
    "AttachStdin",
    "AttachStdout",
    "Domainname",
    "Hostname",
    "Image",
    "MacAddress",
    "NetworkDisabled",
    "OpenStdin",
    "StdinOnce",
    "StopTimeout",
    "Tty",
];

/// Whether the image fits the platforms that are asked for. There is one for each id here.
fn asked_for(image: &Image, call: &Call, fits: impl Fn(&Platform, &Platform) -> bool) -> Result<(), Error> {
    let own = image.config().platform();
    for text in call.query.all("platform").chain(call.query.all("platforms")) {
        if let Some(wanted) = platform(text)?
            && !fits(&own, &wanted)
        {
            return Err(Error::not_found(format!(
                "image with reference {} was found but does not provide the specified platform ({wanted}): it is for {own}",
                call.name
            )));
        }
    }
    Ok(())
}

/// `GET /images/{name}/history`
pub(crate) async fn history(call: Call) -> Result<Response, Error> {
    let images = call.daemon.engine.images();
    let image = images.get(&call.name).await?;
    // Docker shows here what it would run.
    asked_for(&image, &call, |own, wanted| own.serves(wanted).is_some())?;
    let sizes = image.layer_sizes();
    Ok(reply::json(StatusCode::OK, &history_of(&image, |layer| sizes.get(layer).copied().unwrap_or(0))))
}

/// `POST /images/{name}/tag`
pub(crate) async fn tag(call: Call) -> Result<Response, Error> {
    let images = call.daemon.engine.images();
    let reference = named(call.query.text("repo"), call.query.text("tag"))?;
    let image = images.get(&call.name).await?;
    images.tag(&image, &reference).await?;
    Ok(reply::empty(StatusCode::CREATED))
}

/// `DELETE /images/{name}`
pub(crate) async fn remove(call: Call) -> Result<Response, Error> {
    let mut platforms = call.query.all("platforms");
    let platform = platforms.next().map(platform).transpose()?.flatten();
    if platforms.next().is_some() {
        return Err(Error::invalid("multiple platforms are not supported"));
    }
    let options = RemoveOptions {
        force: call.query.boolean("force"),
        prune_children: !call.query.boolean("noprune"),
        running: call.daemon.running()?,
        platform,
    };
    let gone = call.daemon.engine.images().remove(&call.name, options).await?;
    let gone: Vec<_> = gone.into_iter().map(removed).collect();
    Ok(reply::json(StatusCode::OK, &gone))
}

/// `POST /images/prune`: those without a name, or with `dangling=false` all that no container has.
pub(crate) async fn prune(call: Call) -> Result<Response, Error> {
    let filters = call.query.filters(&["dangling", "label", "label!", "until"])?;
    let dangling = filters.boolean("dangling", true)?;
    let mut until = i64::MAX;
    for text in filters.get("until") {
        until = until.min(time::seconds(time::until(text)?));
    }
    let _alone = prune_alone(&call.daemon.prunes.images)?;
    let wanted = |image: &Image| {
        let labels = &image.config().config.labels;
        (!dangling || image.references().is_empty())
            && image.created().map_or(0, time::seconds_of) < until
            && filters.all_labels("label", labels)
            && filters.no_label("label!", labels)
    };
    let pruned = call.daemon.engine.images().prune(wanted).await?;
    let gone = pruned.removed.into_iter().map(removed).collect();
    Ok(reply::json(
        StatusCode::OK,
        &ImagePrune { images_deleted: nil_when_empty(gone), space_reclaimed: pruned.reclaimed },
    ))
}
