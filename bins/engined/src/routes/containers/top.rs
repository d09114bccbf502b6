//! `GET /containers/{id}/top`, which with `stream`, this engine's own, answers each second until the container has ended.

use std::time::Duration;

use engine::container::{Top, TopWatch};
use engine_api::container::TopResponse;
use futures_util::stream::{self, StreamExt};
use http::StatusCode;

use crate::error::Error;
use crate::reply::{self, Response};
use crate::router::Call;

/// How often a stream tells.
const INTERVAL: Duration = Duration::from_secs(1);

pub(crate) async fn top(call: Call) -> Result<Response, Error> {
    let arguments = call.query.get("ps_args").filter(|arguments| !arguments.is_empty()).unwrap_or("-ef");
    let mut watch = call.daemon.engine.containers().get(&call.name).await?.watch_top(arguments)?;
    let first = shown(watch.next().await?);
    if !call.query.boolean("stream") {
        return Ok(reply::json(StatusCode::OK, &first));
    }
    let began = tokio::time::Instant::now();
    let further = stream::unfold((watch, began), |(mut watch, before): (TopWatch, _)| async move {
        let next = before + INTERVAL;
        tokio::time::sleep_until(next).await;
        // It has ended, or cannot be looked at any more.
        let top = watch.next().await.ok()?;
        Some((reply::json_line(&shown(top)), (watch, next.max(tokio::time::Instant::now() - INTERVAL))))
    });
    let first = stream::iter([reply::json_line(&first)]);
    Ok(reply::stream("application/json", first.chain(further)))
}

fn shown(top: Top) -> TopResponse {
    TopResponse { processes: top.processes, titles: top.titles }
}
