//! `/_ping`, `/version`, `/info` and what is below `/system`.

use engine::container::ContainerFilter;
use engine::id::ContainerId;
use engine::image::{CheckOptions, Outcome, TrimOptions};
use engine_api::system::{CheckProblem, CheckReport, CheckRequest, DiskUsage, TrimReport, TrimRequest};
use engine_api::volume::{UsageData, Volume};
use http::{HeaderValue, StatusCode, header};

use crate::convert::container::summary::{status, summary};
use crate::convert::system::{self, About, Counts, Host};
use crate::convert::volume::volume;
use crate::convert::{image, time};
use crate::error::Error;
use crate::extract;
use crate::reply::{self, Response};
use crate::router::Call;
use crate::routes::containers::inspect::signed;
use crate::routes::prune_alone;
use crate::routes::registries::auth_of;
use crate::version::Gates;

/// `GET` and `HEAD /_ping`: how clients find out what is spoken here.
pub(crate) async fn ping(call: Call) -> Result<Response, Error> {
    let mut response = reply::text(StatusCode::OK, "OK");
    let headers = response.headers_mut();
    for (name, value) in [("Builder-Version", "1"), ("Swarm", "inactive"), ("Pragma", "no-cache")] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    // What Docker's client shows and lets through only then are checkpoints.
    if call.daemon.engine.containers().has_checkpoints() {
        headers.insert("Docker-Experimental", HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// `GET /version`
pub(crate) async fn version(call: Call) -> Result<Response, Error> {
    let experimental = call.daemon.engine.containers().has_checkpoints();
    Ok(reply::json(StatusCode::OK, &system::version(experimental)))
}

/// `GET /info`
pub(crate) async fn info(call: Call) -> Result<Response, Error> {
    let daemon = &call.daemon;
    let records = daemon.engine.containers().list(&ContainerFilter::new().all(true))?;
    let counts = Counts::of(records.iter().map(AsRef::as_ref), daemon.engine.images().list().await?.len());
    let (networks, containers) = (daemon.engine.networks().clone(), daemon.engine.containers().clone());
    let looked = tokio::task::spawn_blocking(move || (networks.notices(), containers.named_devices()));
    let (notices, devices) = looked.await.map_err(|_| engine::network::Error::Interrupted)?;
    let notices = notices
        .inspect_err(|error| tracing::warn!(%error, "what the packet filter does cannot be told"))
        .unwrap_or_default();
    let about = About {
        id: daemon.engine.id(),
        settings: daemon.engine.settings(),
        debug: daemon.options.debug,
        host: &Host::look(),
        counts,
        abilities: daemon.engine.containers().abilities(),
        notices: &notices,
        devices: &devices,
        readers: daemon.engine.events().readers(),
        experimental: daemon.engine.containers().has_checkpoints(),
    };
    Ok(reply::json(StatusCode::OK, &system::info(&about, call.version)))
}

const KINDS: [&str; 4] = ["container", "image", "volume", "build-cache"];

/// `GET /system/df`: what everything takes, or the kinds that are asked for.
pub(crate) async fn disk_usage(call: Call) -> Result<Response, Error> {
    let asked: Vec<&str> = call.query.all("type").filter(|_| call.version.measures_kinds()).collect();
    if let Some(unknown) = asked.iter().find(|kind| !KINDS.contains(kind)) {
        return Err(Error::invalid(format!("unknown object type: {unknown}")));
    }
    let wants = |kind: &str| asked.is_empty() || asked.contains(&kind);
    let engine = &call.daemon.engine;
    let mut answer = DiskUsage::default();
    if wants("image") {
        let usage = engine.images().usage().await?;
        answer.layers_size = signed(usage.total);
        answer.images = Some(usage.images.iter().map(|one| image::used(one, call.version)).collect());
    }
    if wants("container") {
        let (containers, now) = (engine.containers(), time::now());
        let mut listed = Vec::new();
        for record in containers.list(&ContainerFilter::new().all(true))? {
            let mut line = summary(&record, status(&record, now));
            // One that has gone in the meantime has no size.
            let Ok(container) = containers.get(&line.id).await else { continue };
            let (written, all) = container.size().await?;
            (line.size_rw, line.size_root_fs) = (Some(signed(written)), Some(signed(all)));
            listed.push(line);
        }
        answer.containers = Some(listed);
    }
    if wants("volume") {
        let volumes = engine.volumes();
        let mut listed = Vec::new();
        for one in volumes.list().await? {
            let holders = volumes.holders(one.name()).await?.len();
            let usage = UsageData {
                ref_count: i64::try_from(holders).unwrap_or(i64::MAX),
                size: one.size().await.map_or(-1, signed),
            };
            listed.push(Volume { usage_data: Some(usage), ..volume(&one) });
        }
        answer.volumes = Some(listed);
    }
    // Nothing is built here, so nothing is kept of it.
    answer.build_cache = wants("build-cache").then(Vec::new);
    Ok(reply::json(StatusCode::OK, &answer))
}

/// `GET /system/images`: all images with their layers, their containers and what they take.
pub(crate) async fn images(call: Call) -> Result<Response, Error> {
    let engine = &call.daemon.engine;
    let records = engine.containers().list(&ContainerFilter::new().all(true))?;
    let named = |id: &ContainerId| {
        let record = records.iter().find(|record| record.id == *id)?;
        Some((record.name.clone(), record.state.status.as_str().to_owned()))
    };
    let usage = engine.images().usage().await?;
    let stored: Vec<_> = usage.images.iter().map(|one| image::stored(one, named)).collect();
    Ok(reply::json(StatusCode::OK, &stored))
}

/// `POST /system/trim`: room is made for images.
pub(crate) async fn trim(call: Call) -> Result<Response, Error> {
    let asked: TrimRequest = extract::json(&call.headers, call.body).await?;
    let quota = call.daemon.engine.settings().room.quota;
    let mut options = TrimOptions::default();
    options.compressed = asked.compressed;
    options.to = asked.to.or(quota.filter(|_| !asked.compressed));
    if options.to.is_none() && !options.compressed {
        return Err(Error::invalid("no size was given that images are to keep to, and this daemon has no image-quota"));
    }
    let _alone = prune_alone(&call.daemon.prunes.images)?;
    let trimmed = call.daemon.engine.images().trim(options).await?;
    let report = TrimReport {
        images_deleted: trimmed.removed.into_iter().map(image::removed).collect(),
        compressed_layers: trimmed.compressed,
        space_reclaimed: trimmed.reclaimed,
        size: trimmed.taken,
    };
    Ok(reply::json(StatusCode::OK, &report))
}

/// `POST /system/check`: everything that images are made of, byte for byte.
pub(crate) async fn check(call: Call) -> Result<Response, Error> {
    let asked: CheckRequest = extract::json(&call.headers, call.body).await?;
    let mut options = CheckOptions::default();
    options.repair = asked.repair;
    // One that does not run may be started before the check is over.
    let containers = call.daemon.engine.containers().list(&ContainerFilter::new().all(true))?;
    options.running = containers.iter().map(|record| record.id).collect();
    options.auth = asked.auth.into_iter().map(|(registry, auth)| (registry, auth_of(auth))).collect();
    let checked = call.daemon.engine.images().check(options).await?;
    let sound = checked.is_sound();
    let problems = checked.problems.into_iter().map(|problem| {
        let (repaired, beyond) = match problem.outcome {
            Outcome::Repaired(how) => (how, String::new()),
            Outcome::Beyond(why) => (String::new(), why),
            _ => (String::new(), String::new()),
        };
        CheckProblem {
            subject: problem.subject.to_string(),
            found: problem.found,
            images: problem.images,
            repaired,
            beyond,
        }
    });
    let report = CheckReport {
        blobs: checked.blobs,
        layers: checked.layers,
        leftovers: checked.leftovers,
        sound,
        problems: problems.collect(),
    };
    Ok(reply::json(StatusCode::OK, &report))
}
