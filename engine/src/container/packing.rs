//! Older files of a container's log are packed while it runs, one after the other: the engine packs, and the monitor, who names the
//! files, puts what comes of it in its place. What is left for lack of an engine is done by the next one.

use std::sync::Arc;

use engine_runtime::protocol::Request;

use super::inventory::{Inner, Shared, blocking};
use super::live::Live;
use super::start::log_name;
use super::{Error, validate};
use crate::logs::pack;

/// Packs from now on what the container's log no longer writes, if that was asked for. Must be called within a tokio runtime.
pub(super) fn begin(shared: &Arc<Shared>, inner: &Arc<Inner>, live: &Arc<Live>) {
    if !validate::packs_log(&inner.record().config) {
        return;
    }
    let (shared, inner, live) = (Arc::clone(shared), Arc::clone(inner), Arc::clone(live));
    tokio::spawn(async move {
        if let Err(error) = go_on(&shared, &inner, &live).await {
            tracing::warn!(container = %inner.id, %error, "older files of its log stay as they are");
        }
    });
}

async fn go_on(shared: &Shared, inner: &Inner, live: &Live) -> Result<(), Error> {
    let directory = shared.directory(&inner.id);
    let failed = |error| Error::io("pack the log in", &directory, error);
    let name = log_name(&inner.id);
    // Whoever packs for an earlier run finds its monitor gone and ends.
    let _alone = inner.packing.lock().await;
    // Before the first look, so that none is missed.
    let mut turns = shared.watcher.turns(&directory).map_err(failed)?;
    pack::forget(&directory, &name).map_err(failed)?;
    let mut closing = shared.closing.subscribe();
    let mut running = inner.running.subscribe();
    loop {
        loop {
            let (place, log) = (directory.clone(), name.clone());
            let packed =
                blocking(move || pack::pack(&place, &log).map_err(|error| Error::io("pack the log in", place, error)));
            let Some(inode) = packed.await? else { break };
            if !*running.borrow() || live.send(&Request::PackedLog { inode }, &[]).is_err() {
                return Ok(());
            }
            live.catch_up().await;
            if pack::waits(&directory, &name) {
                return Err(Error::unsupported(
                    "the monitor is of an earlier version, which does not know packed files",
                ));
            }
        }
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return Ok(()),
            _ = running.wait_for(|running| !*running) => return Ok(()),
            turned = turns.next() => turned.map_err(failed)?,
        }
    }
}
