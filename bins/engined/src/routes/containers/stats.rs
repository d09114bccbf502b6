//! `GET /containers/{id}/stats`

use std::sync::Arc;
use std::time::Duration;

use engine::container::{Container, Sample};
use futures_util::stream;
use http::StatusCode;

use crate::convert::container::stats::stats as shown;
use crate::error::Error;
use crate::reply::{self, Response};
use crate::router::Call;

/// How often a stream tells.
const INTERVAL: Duration = Duration::from_secs(1);

/// One sample, or one each second until the client or the container goes. One that does not run is told as zeros.
pub(crate) async fn stats(call: Call) -> Result<Response, Error> {
    let container = call.daemon.engine.containers().get(&call.name).await?;
    let (streams, once) = (call.query.boolean_or("stream", true), call.query.boolean("one-shot"));
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
