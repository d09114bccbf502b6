//! `GET /containers/{id}/stats`, and `GET /containers/stats`, which is this engine's own: that of many at once.

use std::sync::Arc;
use std::time::Duration;

use engine::container::{Container, ContainerFilter, Sample};
use futures_util::stream;
use http::StatusCode;

use crate::convert::container::stats::stats as shown;
use crate::error::Error;
use crate::reply::{self, JsonList, Response};
use crate::router::Call;
use crate::version::Gates;

/// How often a stream tells.
const INTERVAL: Duration = Duration::from_secs(1);

/// One sample, or one each second until the client or the container goes. One that does not run is told as zeros.
pub(crate) async fn stats(call: Call) -> Result<Response, Error> {
    let container = call.daemon.engine.containers().get(&call.name).await?;
    let (streams, once) =
        (call.query.boolean_or("stream", true), call.version.has_one_shot_stats() && call.query.boolean("one-shot"));
    if streams && once {
        return Err(Error::invalid("cannot have stream=true and one-shot=true"));
    }
    if streams {
        let reader = Reader { container, before: None, next: tokio::time::Instant::now() };
        return Ok(reply::stream(
            "application/json",
            stream::unfold(reader, |mut reader| async move {
                let line = reader.next().await?;
                Some((line, reader))
            }),
        ));
    }
    let (before, sample) = if once {
        (None, container.sample().await?)
    } else {
        container.sample_twice().await?.map_or((None, None), |(before, sample)| (Some(before), Some(sample)))
    };
    Ok(reply::json(StatusCode::OK, &shown(&container.record(), before.as_deref(), sample.as_deref())))
}

/// What those containers use whose names or ids are given as `name`, or those that run, or with `all` those too that do not:
/// an array of what one container's statistics are, with `one-shot` without the earlier sample.
pub(crate) async fn of_many(call: Call) -> Result<Response, Error> {
    let containers = call.daemon.engine.containers();
    let mut chosen = Vec::new();
    for name in call.query.all("name") {
        chosen.push(containers.get(name).await?);
    }
    if chosen.is_empty() {
        for record in containers.list(&ContainerFilter::new().all(call.query.boolean("all")))? {
            // One that has gone in the meantime uses nothing.
            if let Ok(container) = containers.get(record.id.as_str()).await {
                chosen.push(container);
            }
        }
    }
    let mut lines = JsonList::for_items(chosen.len());
    if call.query.boolean("one-shot") {
        for (container, sample) in chosen.iter().zip(containers.samples(&chosen).await?) {
            lines.push(&shown(&container.record(), None, sample.as_deref()));
        }
    } else {
        for (container, samples) in chosen.iter().zip(containers.samples_twice(&chosen).await?) {
            let (before, sample) = samples.unzip();
            lines.push(&shown(&container.record(), before.as_deref(), sample.as_deref()));
        }
    }
    Ok(lines.into_response())
}

struct Reader {
    container: Container,
    before: Option<Arc<Sample>>,
    next: tokio::time::Instant,
}

impl Reader {
    async fn next(&mut self) -> Option<bytes::Bytes> {
        tokio::time::sleep_until(self.next).await;
        self.next = tokio::time::Instant::now() + INTERVAL;
        if self.container.is_gone() {
            return None;
        }
        let sample = match self.container.sample().await {
            Ok(sample) => sample,
            Err(error) => {
                tracing::warn!(container = %self.container.id(), %error, "what a container uses is not told any more");
                return None;
            }
        };
        let line = reply::json_line(&shown(&self.container.record(), self.before.as_deref(), sample.as_deref()));
        self.before = sample;
        Some(line)
    }
}
