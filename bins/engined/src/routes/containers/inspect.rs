//! `GET /containers/{id}/json`

use http::StatusCode;

use crate::convert::container::inspect::{Paths, inspect as inspect_of};
use crate::error::Error;
use crate::reply::{self, Response};
use crate::router::Call;

pub(crate) async fn inspect(call: Call) -> Result<Response, Error> {
    let container = call.daemon.engine.containers().get(&call.name).await?;
    let root = &call.daemon.engine.settings().root;
    let paths = Paths {
        directory: root.join("containers").join(container.id().as_str()),
        log: container.log_path(),
        layers: container.overlay().lower,
    };
    let mut shown =
        inspect_of(&container.record(), &paths, container.exec_ids().iter().map(ToString::to_string).collect());
    if call.query.boolean("size") {
        let (written, all) = container.size().await?;
        shown.size_rw = Some(signed(written));
        shown.size_root_fs = Some(signed(all));
    }
    Ok(reply::json(StatusCode::OK, &shown))
}

pub(crate) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
