//! `GET /containers/json`

use engine::container::ContainerFilter;
use http::StatusCode;

use crate::convert::container::summary::summary;
use crate::convert::time;
use crate::error::Error;
use crate::reply::{self, Response};
use crate::router::Call;
use crate::routes::containers::inspect::signed;

pub(crate) async fn list(call: Call) -> Result<Response, Error> {
    let mut filter = ContainerFilter::new().all(call.query.boolean("all"));
    if let Some(limit) =
        call.query.integer("limit")?.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0)
    {
        filter = filter.limit(limit);
    }
    let filters = call.query.filters(FILTERS)?;
    for word in FILTERS {
        for value in filters.get(word) {
            filter = filter.with(word, value)?;
        }
    }
    let now = time::now();
    let containers = call.daemon.engine.containers();
    let mut listed: Vec<_> = containers.list(&filter)?.iter().map(|record| summary(record, now)).collect();
    if call.query.boolean("size") {
        for shown in &mut listed {
            // One that has gone in the meantime has no size.
            let Ok(container) = containers.get(&shown.id).await else { continue };
            let (written, all) = container.size().await?;
            shown.size_rw = Some(signed(written));
            shown.size_root_fs = Some(signed(all));
        }
    }
    Ok(reply::json(StatusCode::OK, &listed))
}

const FILTERS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
