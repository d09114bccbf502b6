//! Older files of a container's log are packed, one after the other. While it runs the engine packs, and the monitor, who names the
//! files, puts what comes of it in its place; once it has ended the engine does both. What is left for lack of an engine is done
//! by the next one.

use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use engine_runtime::protocol::Request;

use super::inventory::{Inner, Shared, blocking};
use super::live::Live;
use super::start::log_name;
use super::{Error, validate};
use crate::logs::pack::{self, By};

/// Packs from now on what the container's log no longer writes, if that was asked for; without `live`, what its last run has left.
/// Must be called within a tokio runtime.
pub(super) fn begin(shared: &Arc<Shared>, inner: &Arc<Inner>, live: Option<&Arc<Live>>) {
    if !validate::packs_log(&inner.record().config) {
        return;
    }
    let (shared, inner, live) = (Arc::clone(shared), Arc::clone(inner), live.cloned());
    tokio::spawn(async move {
        if let Err(error) = go_on(&shared, &inner, live).await {
            tracing::warn!(container = %inner.id, %error, "older files of its log stay as they are");
        }
    });
}

async fn go_on(shared: &Shared, inner: &Inner, live: Option<Arc<Live>>) -> Result<(), Error> {
    let directory = shared.directory(&inner.id);
    let name = log_name(&inner.id);
    // Whoever packs for an earlier run finds its monitor gone and ends.
    let _alone = inner.packing.lock().await;
    if let Some(live) = &live
        && let Err(error) = with_monitor(shared, inner, live, (&directory, &name)).await
    {
        tracing::warn!(container = %inner.id, %error, "older files of its log stay as they are until it has ended");
    }
    after_the_end(shared, inner, live.as_ref(), (&directory, &name)).await
}

/// Packs until the monitor is gone or the engine is closed.
async fn with_monitor(shared: &Shared, inner: &Inner, live: &Live, (directory, name): Log<'_>) -> Result<(), Error> {
    let failed = |error| Error::io("pack the log in", directory, error);
    // Before the first look, so that none is missed.
    let mut turns = shared.watcher.turns(directory).map_err(failed)?;
    pack::forget(directory, name).map_err(failed)?;
    let mut closing = shared.closing.subscribe();
    let mut running = inner.running.subscribe();
    loop {
        while let Some(file) = packed((directory, name), By::Writer).await? {
            let inode = file.metadata().map_err(failed)?.ino();
            // The file goes along, so that it stays what the inode means until the monitor has looked for it.
            if live.send(&Request::PackedLog { inode }, &[file.as_fd()]).is_err() || live.catch_up().await.is_none() {
                return Ok(());
            }
            if pack::waits(directory, name) {
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

/// Packs what a run has left: nobody names the files of a container that does not run, as long as it is not started.
async fn after_the_end(
    shared: &Shared,
    inner: &Inner,
    run: Option<&Arc<Live>>,
    (directory, name): Log<'_>,
) -> Result<(), Error> {
    loop {
        if !is_over(shared, inner, run).await {
            return Ok(());
        }
        let file = packed((directory, name), By::Packer).await?;
        let _turn = inner.lifecycle.lock().await;
        if inner.is_gone() || inner.live().is_some() || shared.open().is_err() {
            return Ok(());
        }
        let (at, log, more) = (directory.to_owned(), name.to_owned(), file.is_some());
        blocking(move || {
            let placed = file.map_or_else(|| pack::forget(&at, &log), |file| pack::place(&at, &log, &file));
            placed.map_err(|error| Error::io("pack the log in", at, error))
        })
        .await?;
        if !more {
            return Ok(());
        }
    }
}

/// A log: its directory and its name.
type Log<'a> = (&'a Path, &'a str);

async fn packed((directory, name): Log<'_>, by: By) -> Result<Option<std::fs::File>, Error> {
    let (directory, name) = (directory.to_owned(), name.to_owned());
    blocking(move || pack::pack(&directory, &name, by).map_err(|error| Error::io("pack the log in", directory, error)))
        .await
}

/// Waits until nothing of a run is left. False when that is not to be waited for: the container is gone or was started again, where
/// the next run sees to its log, or the engine is closed.
async fn is_over(shared: &Shared, inner: &Inner, run: Option<&Arc<Live>>) -> bool {
    let mut closing = shared.closing.subscribe();
    let mut settled = inner.settled.subscribe();
    loop {
        let is_settled = *settled.borrow_and_update();
        match inner.live() {
            _ if inner.is_gone() || *closing.borrow() => return false,
            Some(live) if run.is_none_or(|run| !Arc::ptr_eq(run, &live)) => return false,
            None if is_settled => return true,
            _ => {}
        }
        tokio::select! {
            _ = closing.changed() => {}
            _ = settled.changed() => {}
        }
    }
}
