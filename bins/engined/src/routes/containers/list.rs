//! `GET /containers/json`

use engine::container::ContainerFilter;

use crate::convert::container::summary::summary;
use crate::convert::time;
use crate::error::Error;
use crate::reply::{JsonList, Response};
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
    let records = containers.list(&filter)?;
    let with_size = call.query.boolean("size");
    // One line after the other is made, written and dropped: the list as a whole is only ever there as text.
    let mut lines = JsonList::for_items(records.len());
    for record in &records {
        let mut shown = summary(record, now);
        if with_size {
            // One that has gone in the meantime has no size.
            let Ok(container) = containers.get(&shown.id).await else { continue };
            let (written, all) = container.size().await?;
            shown.size_rw = Some(signed(written));
            shown.size_root_fs = Some(signed(all));
        }
        lines.push(&shown);
    }
    Ok(lines.into_response())
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
