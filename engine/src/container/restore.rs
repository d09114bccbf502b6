//! What an engine does with the containers that are there when it opens: those of engines that live are shown, those of
//! engines that are gone are taken over, whatever state they were left in.

use std::sync::Arc;

use engine_runtime::Monitor;
use engine_runtime::protocol::{Event, Request, Stage};

use super::inventory::{Inner, Shared, blocking, lock};
use super::live::Live;
use super::record::Record;
use super::status::Status;
use super::supervise::{End, finish, leave, supervise, unwatched};
use super::{Container, Error, Lifetime, packing, restart, shipping};
use crate::id::ContainerId;
use crate::state::{Durability, State, Table};

/// How long a monitor may take to answer.
const ANSWER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// Takes over what nobody has, and removes what was half made or half removed.
pub(super) async fn restore(shared: &Arc<Shared>) -> Result<(), Error> {
    let alone = shared.instance.is_alone();
    let records = load(&shared.parts.state)?;
    for record in records {
        look_at(shared, record).await?;
    }
    if alone {
        // Two who take away the same files would stumble over each other.
        shared.left().await;
        let shared = Arc::clone(shared);
        blocking(move || sweep(&shared)).await?;
    }
    Ok(())
}

/// Brings the inventory up to date with what other engines do. Costs a look at a directory when there are none.
pub(super) fn refresh(shared: &Arc<Shared>) -> Result<(), Error> {
    if shared.instance.is_alone() && shared.all().iter().all(|inner| is_ours(shared, &inner.record())) {
        return Ok(());
    }
    let records = load(&shared.parts.state)?;
    for known in shared.all() {
        let ours = is_ours(shared, &known.record());
        if !ours && !records.iter().any(|record| record.id == known.id) {
            shared.forget(&known.id);
            known.gone();
        }
    }
    for record in records {
        if is_ours(shared, &record) {
            continue;
        }
        if shared.instance.lives(&record.owner) {
            show(shared, record);
        } else {
            let shared = Arc::clone(shared);
            // Nobody waits for it: until then it is shown as it was left.
            show(&shared, record.clone());
            tokio::spawn(async move {
                let id = record.id;
                if let Err(error) = look_at(&shared, record).await {
                    tracing::error!(container = %id, %error, "a container of an engine that is gone cannot be taken over");
                }
            });
        }
    }
    Ok(())
}

fn load(state: &State) -> Result<Vec<Record>, Error> {
    let records = state.read(|look| look.list::<Record>(Table::Container).map_err(Error::from))?;
    Ok(records.into_iter().map(|(_, record)| record).collect())
}

pub(super) fn is_ours(shared: &Shared, record: &Record) -> bool {
    record.owner == shared.instance.name()
}

/// Shows a container of another engine.
fn show(shared: &Shared, record: Record) -> Arc<Inner> {
    match shared.by_id(&record.id) {
        Some(inner) => {
            if !is_ours(shared, &inner.record()) {
                inner.replace(record);
            }
            inner
        }
        None => {
            let inner = Arc::new(Inner::new(record));
            shared.add(Arc::clone(&inner));
            inner
        }
    }
}

async fn look_at(shared: &Arc<Shared>, record: Record) -> Result<(), Error> {
    if shared.instance.lives(&record.owner) {
        show(shared, record);
        return Ok(());
    }
    let Some(record) = claim(shared, &record)? else { return Ok(()) };
    let inner = show(shared, record.clone());
    inner.replace(record);
    take_over(shared, &inner).await
}

/// Makes a container this engine's; nothing when another engine was faster.
fn claim(shared: &Shared, seen: &Record) -> Result<Option<Record>, Error> {
    shared.parts.state.write(Durability::Process, |tx| {
        let Some(mut record) = tx.get::<Record>(Table::Container, seen.id.as_str())? else { return Ok(None) };
        if record.owner != seen.owner {
            return Ok(None);
        }
        shared.instance.name().clone_into(&mut record.owner);
        tx.put(Table::Container, seen.id.as_str(), &record)?;
        Ok(Some(record))
    })
}

async fn take_over(shared: &Arc<Shared>, inner: &Arc<Inner>) -> Result<(), Error> {
    let record = inner.record();
    let container = Container { shared: Arc::clone(shared), inner: Arc::clone(inner) };
    if let Err(error) = super::checkpoint::recover(shared, inner) {
        tracing::error!(container = %inner.id, %error, "an unfinished checkpoint of a container cannot be looked after");
    }
    match record.state.status {
        Status::Running | Status::Paused => {}
        Status::Removing | Status::Dead => {
            inner.settled.send_replace(true);
            inner.change(shared, |record| {
                let mut record = record.clone();
                record.state.status = Status::Exited;
                Ok(record)
            })?;
            if let Err(error) = container.remove_in_turn(false).await {
                tracing::error!(container = %inner.id, %error, "a container that was being removed cannot be removed");
            }
            return Ok(());
        }
        Status::Created | Status::Exited | Status::Restarting => {
            // A start or a clearing away may have been cut off.
            super::supervise::clear(shared, inner).await;
            if record.state.started_at != 0 {
                shipping::begin(shared, inner);
                if record.config.host.auto_remove {
                    inner.settled.send_replace(false);
                    leave(shared, inner).await;
                    return Ok(());
                }
            }
            inner.settled.send_replace(true);
            if record.state.started_at != 0 {
                packing::begin(shared, inner, None);
            }
            if restart::revives(&record) {
                inner.change(shared, |record| {
                    let state = record.state.resumed().map_err(|refused| inner.refused(&record.name, refused))?;
                    Ok(Record { state, restart_count: 0, ..record.clone() })
                })?;
                inner.running.send_replace(true);
                if *shared.ready.borrow() {
                    restart::schedule(shared, inner, std::time::Duration::ZERO);
                } else {
                    lock(&shared.reviving).push(inner.id);
                }
            } else if record.state.status == Status::Restarting {
                container.stop_between_runs()?;
            }
            return Ok(());
        }
    }
    if record.config.lifetime == Lifetime::Engine {
        // It was to live no longer than the engine that started it, whatever its policy.
        inner.change(shared, |record| {
            let mut record = record.clone();
            record.state.stopped_on_purpose = true;
            Ok(record)
        })?;
    }
    let (runtime, id) = (shared.parts.runtime.clone(), inner.id);
    let found = blocking(move || find(&runtime, &id)).await;
    match found {
        Ok(Found::Running(live)) => {
            let live = Arc::new(live);
            if record.config.lifetime == Lifetime::Engine {
                // It was to live no longer than the engine that started it.
                live.signal(9)?;
            }
            let (work, of) = (Arc::clone(shared), (Arc::clone(inner), Arc::clone(&live)));
            if let Err(error) = blocking(move || super::networks::reconcile(&work, &of.0, &of.1)).await {
                tracing::error!(container = %inner.id, %error, "the networks of a running container cannot be looked at");
            }
            supervise(Arc::clone(shared), Arc::clone(inner), live);
        }
        Ok(Found::Ended(end)) => ended(shared, inner, end).await,
        Err(error) => {
            tracing::error!(container = %inner.id, %error, "the monitor of a container does not answer: it is killed");
            let (runtime, id) = (shared.parts.runtime.clone(), inner.id);
            let end = blocking(move || {
                runtime.cgroup(id.as_str())?.kill()?;
                Ok(unwatched(&runtime, id.as_str()))
            })
            .await?;
            ended(shared, inner, end).await;
        }
    }
    Ok(())
}

/// Brings a run to its end that nobody watched, with what it has left in its log.
async fn ended(shared: &Arc<Shared>, inner: &Arc<Inner>, end: End) {
    shipping::begin(shared, inner);
    packing::begin(shared, inner, None);
    finish(shared, inner, end).await;
}

enum Found {
    Running(Live),
    Ended(End),
}

/// Finds the monitor of a container by its socket.
fn find(runtime: &engine_runtime::Runtime, id: &ContainerId) -> Result<Found, Error> {
    let Some(monitor) = runtime.connect(id.as_str())? else {
        return Ok(Found::Ended(unwatched(runtime, id.as_str())));
    };
    let internal = |error: engine_runtime::monitor::MonitorError| Error::Internal(error.to_string());
    monitor.send(&Request::Subscribe {}, &[]).map_err(internal)?;
    monitor.send(&Request::Status {}, &[]).map_err(internal)?;
    let ended = |monitor: Monitor| {
        drop(monitor);
        Ok(Found::Ended(unwatched(runtime, id.as_str())))
    };
    let deadline = std::time::Instant::now() + ANSWER_TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        if !engine_sys::process::wait(&monitor, Some(left)).map_err(|error| Error::Internal(error.to_string()))? {
            return Err(Error::Unavailable("the monitor did not answer in time".to_owned()));
        }
        let (event, descriptors) = monitor.receive().map_err(internal)?;
        match event {
            Event::Status { stage: Stage::Running, pid, .. } => {
                let process = descriptors
                    .into_iter()
                    .next()
                    .ok_or_else(|| Error::Internal("the monitor sent no descriptor of the process".to_owned()))?;
                // Numbers of clients and execs of the engine before are far below.
                return Ok(Found::Running(Live::new(monitor, process, pid, first_number())));
            }
            // It was being started: nobody knows of it, so nobody shall.
            Event::Status { stage: Stage::Waiting, .. } => {
                runtime.cgroup(id.as_str())?.kill()?;
                return ended(monitor);
            }
            Event::Status { stage: Stage::Exited, .. } => {}
            Event::Exited { .. } | Event::Closed {} => return ended(monitor),
            _ => {}
        }
    }
}

/// Numbers that no engine before has used: they begin with the time.
fn first_number() -> u64 {
    u64::try_from(super::inventory::now()).unwrap_or(1 << 40)
}

/// Takes away files, cgroups and run directories that no record speaks of: a create or a remove was cut off.
fn sweep(shared: &Shared) -> Result<(), Error> {
    let known = |id: &ContainerId| {
        shared.parts.state.read(|look| look.contains(Table::Container, id.as_str()).map_err(Error::from))
    };
    for id in shared.parts.runtime.containers()?.iter().filter_map(|id| id.parse::<ContainerId>().ok()) {
        if !known(&id)? {
            super::outside::forget(shared, &id);
            shared.parts.runtime.remove(id.as_str())?;
        }
    }
    let directory = shared.containers_directory();
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("list", directory, error)),
    };
    for id in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<ContainerId>().ok()) {
        if !known(&id)? {
            super::create::remove_directory(shared, &id)?;
        }
    }
    Ok(())
}
