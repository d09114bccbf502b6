//! `/containers/{id}/archive`, `/changes` and `/export`: a container's files.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::container::{Container, CopyOptions, PathStat};
use engine::snapshot::ChangeKind;
use engine_api::archive::{self as wire, PATH_STAT, go_mode};
use futures_util::TryStreamExt;
use http::{HeaderValue, StatusCode};

use crate::convert::time::rfc3339;
use crate::error::Error;
use crate::reply::{self, Response};
use crate::router::Call;
use crate::stream::coding::Coding;
use crate::stream::upload::Upload;

const TAR: &str = "application/x-tar";

/// `HEAD /containers/{id}/archive`
pub(crate) async fn stat(call: Call) -> Result<Response, Error> {
    let stat = container(&call).await?.stat_path(call.query.text("path")).await?;
    Ok(with_stat(reply::empty(StatusCode::OK), &stat))
}

/// `GET /containers/{id}/archive`, which as with Docker is the one answer that clients may have compressed.
pub(crate) async fn get(call: Call) -> Result<Response, Error> {
    let (stat, archive) = container(&call).await?.copy_from(call.query.text("path")).await?;
    let coding = Coding::wanted(&call.headers);
    let mut answer = reply::fallible_stream(TAR, coding.written(archive.map_err(std::io::Error::other)));
    answer.headers_mut().extend(coding.header());
    Ok(with_stat(answer, &stat))
}

/// `PUT /containers/{id}/archive`
pub(crate) async fn put(call: Call) -> Result<Response, Error> {
    let container = container(&call).await;
    let options = CopyOptions::default()
        .same_kinds(call.query.boolean("noOverwriteDirNonDir"))
        .to_user(call.query.boolean("copyUIDGID"));
    let mut archive = Upload::new(call.body);
    let copied = match container {
        Ok(container) => container.copy_to(call.query.text("path"), &mut archive, options).await.map_err(Error::from),
        Err(error) => Err(error),
    };
    if copied.is_err() {
        archive.drain().await;
    }
    copied.map(|()| reply::empty(StatusCode::OK))
}

/// `GET /containers/{id}/changes`
pub(crate) async fn changes(call: Call) -> Result<Response, Error> {
    let changes = container(&call).await?.changes().await?;
    let shown: Vec<_> = changes
        .into_iter()
        .map(|change| wire::Change {
            path: change.path,
            kind: match change.kind {
                ChangeKind::Modified => 0,
                ChangeKind::Added => 1,
                ChangeKind::Deleted => 2,
            },
        })
        .collect();
    Ok(reply::json(StatusCode::OK, &crate::convert::nil_when_empty(shown)))
}

/// `GET /containers/{id}/export`
pub(crate) async fn export(call: Call) -> Result<Response, Error> {
    let archive = container(&call).await?.export().await?;
    Ok(reply::fallible_stream("application/octet-stream", archive.map_err(std::io::Error::other)))
}

async fn container(call: &Call) -> Result<Container, Error> {
    Ok(call.daemon.engine.containers().get(&call.name).await?)
}

fn with_stat(mut response: Response, stat: &PathStat) -> Response {
    let (seconds, nanos) = stat.modified;
    let mtime = seconds.saturating_mul(1_000_000_000).saturating_add(nanos.into());
    // 0 stands for never elsewhere, and here for 1970.
    let mtime = if mtime == 0 { "1970-01-01T00:00:00Z".to_owned() } else { rfc3339(mtime) };
    let shown = wire::PathStat {
        name: stat.name.clone(),
        size: super::inspect::signed(stat.size),
        mode: go_mode(stat.mode),
        mtime,
        link_target: stat.link_target.clone(),
    };
    let text = serde_json::to_vec(&shown).unwrap_or_default();
    // Base64 is always a valid value.
    if let Ok(value) = HeaderValue::from_str(&STANDARD.encode(text)) {
        response.headers_mut().insert(PATH_STAT, value);
    }
    response
}
