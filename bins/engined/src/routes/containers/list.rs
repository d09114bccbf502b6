//! `GET /containers/json`

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use engine::container::{ContainerFilter, Record};
use engine::id::ContainerId;
use engine_api::container::ContainerSummary;
use engine_api::version::ApiVersion;

use crate::convert::container::summary::{status, summary};
use crate::convert::time;
use crate::error::Error;
use crate::reply::{JsonList, Response};
use crate::router::Call;
use crate::routes::containers::inspect::signed;
use crate::version::Gates;

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
    if !with_size {
        call.daemon.lines.write(&mut lines, &records, now, call.version);
        return Ok(lines.into_response());
    }
    for record in &records {
        let mut shown = shown(record, status(record, now), call.version);
        // One that has gone in the meantime has no size.
        let Ok(container) = containers.get(record.id.as_str()).await else { continue };
        let (written, all) = container.size().await?;
        shown.size_rw = Some(signed(written));
        shown.size_root_fs = Some(signed(all));
        lines.push(&shown);
    }
    Ok(lines.into_response())
}

fn shown(record: &Record, status: String, version: ApiVersion) -> ContainerSummary {
    let mut shown = summary(record, status);
    if !version.lists_annotations() {
        shown.host_config.annotations.clear();
    }
    shown
}

/// The lines of lists as they were last written. Whoever watches containers asks for all of them again and again, and few have
/// changed.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    without_annotations: Mutex<Known>,
    with_annotations: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    lines: HashMap<ContainerId, Line>,
    /// How many there are before those of containers that have changed or gone are looked for.
    most: usize,
}

#[derive(Debug)]
struct Line {
    /// A record is never changed, but replaced.
    of: Weak<Record>,
    /// What else the line depends on.
    status: String,
    text: Box<[u8]>,
}

impl Lines {
    /// Writes a line for each of `records`, as they stand at the time `now`, as this version of the API has it.
    fn write(&self, list: &mut JsonList, records: &[Arc<Record>], now: i64, version: ApiVersion) {
        let known = if version.lists_annotations() { &self.with_annotations } else { &self.without_annotations };
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            let status = status(record, now);
            if let Some(line) = known.lines.get(&record.id)
                && Weak::as_ptr(&line.of) == Arc::as_ptr(record)
                && line.status == status
            {
                list.push_text(&line.text);
                continue;
            }
            let text = list.push_told(&shown(record, status.clone(), version)).into();
            known.lines.insert(record.id, Line { of: Arc::downgrade(record), status, text });
        }
        if known.lines.len() > known.most {
            known.lines.retain(|_, line| line.of.strong_count() > 0);
            known.most = 64 + 2 * known.lines.len();
        }
    }
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
