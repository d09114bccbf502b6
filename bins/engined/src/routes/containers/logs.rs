//! `GET /containers/{id}/logs`

use engine::logs::LogOptions;

use crate::convert::time;
use crate::error::Error;
use crate::reply::{self, Response};
use crate::router::Call;
use crate::stream::logs::{Format, bytes};
use crate::version::Gates;

pub(crate) async fn logs(call: Call) -> Result<Response, Error> {
    let query = &call.query;
    let mut options = LogOptions::default();
    options.stdout = query.boolean("stdout");
    options.stderr = query.boolean("stderr");
    if !options.stdout && !options.stderr {
        return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
    }
    options.follow = query.boolean("follow");
    options.timestamps = query.boolean("timestamps");
    options.since = time::parse("since", query.text("since"))?;
    options.until = time::parse("until", query.text("until"))?;
    // Everything that is no number means all.
    options.tail = query.text("tail").parse().ok();
    let container = call.daemon.engine.containers().get(&call.name).await?;
    let framed = !container.record().config.tty;
    let format = Format { framed, details: query.boolean("details"), timestamps: options.timestamps };
    let lines = container.logs(options)?;
    let content_type = if framed && call.version.names_multiplexed_streams() {
        "application/vnd.docker.multiplexed-stream"
    } else {
        "application/vnd.docker.raw-stream"
    };
    Ok(reply::stream(content_type, bytes(lines, format)))
}
