//! One task for each running container: it hears what the monitor tells, and clears away when the container has ended.

use std::sync::Arc;
use std::time::Duration;

use engine_runtime::protocol::Event;
use tokio::io::unix::AsyncFd;

use super::health::Health;
use super::inventory::{Inner, Shared, blocking, now};
use super::live::{Live, LogPosition, Polled, Refused};
use super::record::Record;
use super::status::Status;
use super::{Container, Error, exec, packing, probing, restart, shipping, sources};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) code: i32,
    pub(super) oom_killed: bool,
    pub(super) at: i64,
}

/// What is said of a container whose monitor and exit record are gone: nobody knows how it ended.
const UNKNOWN_CODE: i32 = 255;

/// Watches a container from now on. Must be called within a tokio runtime.
pub(super) fn supervise(shared: Arc<Shared>, inner: Arc<Inner>, live: Arc<Live>) {
    inner.set_live(Some(Arc::clone(&live)));
    inner.settled.send_replace(false);
    inner.running.send_replace(true);
    probing::watch(&shared, &inner, &live);
    shipping::begin(&shared, &inner);
    packing::begin(&shared, &inner, Some(&live));
    tokio::spawn(async move {
        let mut closing = shared.closing.subscribe();
        let end = tokio::select! {
            biased;
            // The engine is closed: the monitor keeps what is to be kept, for the next one.
            _ = closing.wait_for(|closing| *closing) => {
                inner.set_live(None);
                live.fall_silent();
                return;
            }
            end = hear(&shared, &inner, &live) => end,
        };
        live.fall_silent();
        finish(&shared, &inner, end).await;
    });
}

/// Hands on what the monitor tells until the container has ended.
async fn hear(shared: &Shared, inner: &Inner, live: &Live) -> End {
    match listen(shared, inner, live).await {
        Ok(Some(end)) => end,
        Ok(None) => without_monitor(shared, inner, live).await,
        Err(error) => {
            tracing::error!(container = %inner.id, %error, "the monitor cannot be heard any more");
            without_monitor(shared, inner, live).await
        }
    }
}

async fn listen(shared: &Shared, inner: &Inner, live: &Live) -> Result<Option<End>, Error> {
    let failed = |error: std::io::Error| Error::Internal(format!("listen to the monitor: {error}"));
    #[allow(deprecated, reason = "a Monitor names one descriptor for as long as it lives")]
    let socket =
        AsyncFd::with_interest(Polled(Arc::clone(&live.monitor)), tokio::io::Interest::READABLE).map_err(failed)?;
    loop {
        let mut ready = socket.readable().await.map_err(failed)?;
        loop {
            let next = live.monitor.try_receive().map_err(|error| Error::Internal(error.to_string()))?;
            let Some((event, _)) = next else { break };
            match event {
                Event::Exited { code, oom_killed, at_nanos } => {
                    let at = i64::try_from(at_nanos).unwrap_or_else(|_| now());
                    return Ok(Some(End { code, oom_killed, at }));
                }
                Event::Closed {} => return Ok(None),
                event => hand_on(shared, inner, live, event),
            }
        }
        ready.clear_ready();
    }
}

pub(super) fn hand_on(shared: &Shared, inner: &Inner, live: &Live, event: Event) {
    match event {
        Event::Attached { client, log_position, log_file_start } => {
            live.attached(client, LogPosition { position: log_position, file_start: log_file_start });
        }
        Event::Detached { client, process, by_keys } => {
            live.detached(client);
            match exec::numbered(shared, live, process).filter(|_| by_keys) {
                Some(exec) => shared.tell(&inner.record(), "exec_detach", &[("execID", exec.to_string())]),
                None if by_keys => shared.tell(&inner.record(), "detach", &[]),
                None => {}
            }
        }
        Event::ExecStarted { id, pid } => live.exec_started(id, pid),
        Event::ExecFailed { id, failure } => live.exec_failed(id, failure),
        Event::ExecExited { id, code } => live.exec_ended(id, code),
        Event::Refused { subject, refusal, errno, .. } => live.refused(subject, Refused { refusal, errno }),
        Event::Status { execs, .. } => live.caught_up(execs),
        Event::OutOfMemory { .. } => out_of_memory(shared, inner),
        // The others answer what is asked before the supervision begins.
        _ => {}
    }
}

/// The kernel has killed a process of the container, which may well go on without it.
fn out_of_memory(shared: &Shared, inner: &Inner) {
    let noted = inner.change_lightly(shared, |record| {
        let state = record.state.out_of_memory()?;
        Some((Record { state, ..record.clone() }, true))
    });
    if let Err(error) = noted {
        tracing::error!(container = %inner.id, %error, "that memory was used up cannot be recorded");
    }
    shared.tell(&inner.record(), "oom", &[]);
}

/// The monitor is gone. It has written how the container ended, or was killed and the container is brought to its end now.
async fn without_monitor(shared: &Shared, inner: &Inner, live: &Live) -> End {
    let (runtime, id) = (shared.parts.runtime.clone(), inner.id);
    let killed = blocking(move || {
        if let Some(end) = recorded(&runtime, id.as_str())? {
            return Ok(Some(end));
        }
        runtime.cgroup(id.as_str())?.kill()?;
        Ok(None)
    })
    .await;
    match killed {
        Ok(Some(end)) => end,
        other => {
            if let Err(error) = other {
                tracing::error!(container = %inner.id, %error, "what is left of the container cannot be killed");
            }
            let _ = live.signal(9);
            End { code: 128 + 9, oom_killed: false, at: now() }
        }
    }
}

/// What the exit record says.
pub(super) fn recorded(runtime: &engine_runtime::Runtime, id: &str) -> Result<Option<End>, Error> {
    let record = runtime.exit_record(id)?;
    Ok(record.map(|record| End {
        code: record.code,
        oom_killed: record.oom_killed,
        at: i64::try_from(record.at_nanos).unwrap_or_else(|_| now()),
    }))
}

/// How a container ended that nobody watched.
pub(super) fn unwatched(runtime: &engine_runtime::Runtime, id: &str) -> End {
    match recorded(runtime, id) {
        Ok(Some(end)) => end,
        Ok(None) => End { code: UNKNOWN_CODE, oom_killed: false, at: now() },
        Err(error) => {
            tracing::error!(container = id, %error, "the exit record cannot be read");
            End { code: UNKNOWN_CODE, oom_killed: false, at: now() }
        }
    }
}

/// Records the end, tells of it, and takes away what the run needed.
pub(super) async fn finish(shared: &Arc<Shared>, inner: &Arc<Inner>, end: End) {
    // The notice that memory was used up may come too late when it was the first process that was killed.
    let untold = end.oom_killed && !inner.record().state.oom_killed;
    let ended = inner.change(shared, |record| {
        let (state, policy) = (&record.state, record.config.host.restart_policy);
        let again = restart::goes_on(policy, end.code, state.stopped_on_purpose, record.restart_count);
        let after = if again {
            state.restarting(end.code, end.oom_killed, end.at)
        } else {
            state.exited(end.code, end.oom_killed, end.at)
        };
        let mut record = record.clone();
        record.state = after.map_err(|refused| inner.refused(&record.name, refused))?;
        record.restart_count = record.restart_count.saturating_add(u32::from(again));
        record.health = record.health.as_ref().map(Health::over);
        Ok(record)
    });
    let mut ran = Duration::ZERO;
    match &ended {
        Ok(record) => {
            ran = Duration::from_nanos(u64::try_from(end.at - record.state.started_at).unwrap_or(0));
            if untold {
                shared.tell(record, "oom", &[]);
            }
            let more = [("exitCode", end.code.to_string()), ("execDuration", ran.as_secs().to_string())];
            shared.tell(record, "die", &more);
            inner.over(record);
            shared.tell_volumes(record, "unmount");
        }
        Err(error) => {
            tracing::error!(container = %inner.id, %error, "the end of the container cannot be recorded");
            inner.running.send_replace(false);
        }
    }
    inner.set_live(None);
    let record = inner.record();
    sources::let_go_beside(shared, &record).await;
    if ended.is_ok_and(|record| record.state.status == Status::Restarting) {
        clear(shared, inner).await;
        inner.settled.send_replace(true);
        let delay = inner.delay(|last| restart::delay(last, ran));
        restart::schedule(shared, inner, delay);
        return;
    }
    if inner.record().config.host.auto_remove && !inner.is_restarting() {
        return leave(shared, inner).await;
    }
    clear(shared, inner).await;
    // Only now, so that nobody works on one that is being cleared away.
    inner.settled.send_replace(true);
}

/// Removes a container because it has ended, once its last lines are sent; an engine that opens does not wait for that.
pub(super) async fn leave(shared: &Arc<Shared>, inner: &Arc<Inner>) {
    let (mut ready, mut closing) = (shared.ready.subscribe(), shared.closing.subscribe());
    let later = shipping::is_remote(&inner.record().config) && !*ready.borrow();
    let container = Container { shared: Arc::clone(shared), inner: Arc::clone(inner) };
    let removal = async move {
        if later {
            tokio::select! {
                biased;
                // The next engine removes it.
                _ = closing.wait_for(|closing| *closing) => return,
                _ = ready.wait_for(|ready| *ready) => {}
            }
        }
        shipping::last_lines(&container.inner).await;
        // Which clears away what the run needed, too.
        if let Err(error) = container.remove_by_itself().await {
            tracing::error!(container = %container.inner.id, %error, "the container cannot be removed after its end");
            clear(&container.shared, &container.inner).await;
        }
        // Only now, so that nobody works on one that is about to be removed.
        container.inner.settled.send_replace(true);
    };
    if later {
        tokio::spawn(removal);
    } else {
        removal.await;
    }
}

/// Frees the network's address, the cgroup and the run directory.
pub(super) async fn clear(shared: &Arc<Shared>, inner: &Inner) {
    let (shared, id, record) = (Arc::clone(shared), inner.id, inner.record());
    let cleared = blocking(move || {
        sources::let_go(&shared, &record);
        let network = super::networks::let_go(&shared, &id);
        super::outside::forget(&shared, &id);
        shared.parts.runtime.remove(id.as_str())?;
        network
    })
    .await;
    if let Err(error) = cleared {
        tracing::error!(container = %inner.id, %error, "what the run needed cannot be taken away completely");
    }
}
