//! Restart policies: whether a container goes on after its end, when, and what of it is done at the opening of an engine.
//!
//! Between two runs a container is `restarting`, and a task waits for its time. Whoever starts, stops or removes it
//! meanwhile takes that task's ticket away. A restart that fails is a run that failed: the policy decides again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::oneshot;

use super::inventory::{Inner, Shared};
use super::modes::{IpcMode, NamespaceMode};
use super::record::Record;
use super::start::Begin;
use super::status::Status;
use super::{Container, Error, Lifetime, NetworkMode, RestartPolicy};
use crate::id::ContainerId;
use crate::network::Link;

/// The wait before the first restart; each further one is twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// Who ran so long gets the first delay again.
const LONG_RUN: Duration = Duration::from_secs(10);
/// So many are started at once when an engine opens.
const AT_ONCE: usize = 4;

/// Whether the policy starts a container again that ended with this code after so many restarts.
pub(super) fn goes_on(policy: RestartPolicy, code: i32, stopped_on_purpose: bool, restarts: u32) -> bool {
    match policy {
        _ if stopped_on_purpose => false,
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure(most) => code != 0 && (most == 0 || restarts < most),
    }
}

/// Whether a container that does not run is started when an engine opens. One that was stopped on purpose is with
/// `always`, as with Docker.
pub(super) fn revives(record: &Record) -> bool {
    let state = &record.state;
    let policy = record.config.host.restart_policy;
    if record.config.lifetime == Lifetime::Engine || state.started_at == 0 {
        return false;
    }
    match state.status {
        Status::Restarting => true,
        Status::Exited if policy == RestartPolicy::Always => true,
        Status::Exited => goes_on(policy, state.exit_code, state.stopped_on_purpose, record.restart_count),
        _ => false,
    }
}

/// How long to wait after a run of this length, when the wait before it was `last`.
pub(super) fn delay(last: Duration, ran: Duration) -> Duration {
    if last.is_zero() || ran >= LONG_RUN { FIRST_DELAY } else { (last * 2).min(LONGEST_DELAY) }
}

/// Starts a container that is `restarting` when its time has come, unless somebody takes the ticket away first.
pub(super) fn schedule(shared: &Arc<Shared>, inner: &Arc<Inner>, delay: Duration) {
    let (ticket, taken) = oneshot::channel();
    inner.set_ticket(Some(ticket));
    let container = Container { shared: Arc::clone(shared), inner: Arc::clone(inner) };
    tokio::spawn(async move {
        let mut ready = container.shared.ready.subscribe();
        let mut closing = container.shared.closing.subscribe();
        let time = async {
            let _ = ready.wait_for(|ready| *ready).await;
            tokio::time::sleep(delay).await;
        };
        tokio::select! {
            biased;
            // The next engine finds it restarting.
            _ = closing.wait_for(|closing| *closing) => return,
            _ = taken => return,
            () = time => {}
        }
        container.start_again().await;
    });
}

impl Container {
    /// Starts it when it is still between two runs.
    pub(super) async fn start_again(&self) {
        let _turn = self.inner.lifecycle.lock().await;
        if self.inner.record().state.status != Status::Restarting {
            return;
        }
        if let Err(error) = self.start_in_turn(Begin::Again, None).await
            && self.shared.open().is_ok()
        {
            tracing::warn!(container = %self.inner.id, %error, "a container could not be started again");
        }
    }

    /// Ends the restarting of one that is between two runs; false when it is not. For whoever has its lifecycle locked or
    /// does not let it start.
    pub(super) fn stop_between_runs(&self) -> Result<bool, Error> {
        if self.inner.record().state.status != Status::Restarting {
            return Ok(false);
        }
        self.inner.set_ticket(None);
        match self.inner.exited(&self.shared, |state| state.given_up(), |_| {}) {
            Ok(_) => Ok(true),
            // It was faster.
            Err(_) if self.inner.record().state.status != Status::Restarting => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Starts what was to be going on when the engine before ended: whoever another one needs goes first.
pub(super) async fn revive(shared: Arc<Shared>) {
    let ids = std::mem::take(&mut *super::inventory::lock(&shared.reviving));
    shared.ready.send_replace(true);
    let records = ids.iter().filter_map(|id| Some(shared.by_id(id)?.record())).collect::<Vec<_>>();
    for step in in_order(&records) {
        let starts = step.into_iter().map(|id| {
            let shared = Arc::clone(&shared);
            async move {
                let Some(inner) = shared.by_id(&id) else { return };
                inner.set_ticket(None);
                Container { shared, inner }.start_again().await;
            }
        });
        futures_util::stream::iter(starts).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
        if *shared.closing.borrow() {
            return;
        }
    }
}

/// In steps, so that everybody comes after those whose namespaces they join or whom they are linked to. Who waits for each other comes last.
fn in_order(records: &[Arc<Record>]) -> Vec<Vec<ContainerId>> {
    let mut left: Vec<&Arc<Record>> = records.iter().collect();
    left.sort_by_key(|record| (record.state.started_at, record.id));
    let mut steps = Vec::new();
    while !left.is_empty() {
        let waits = |record: &&Arc<Record>| {
            let needs = needs(record);
            left.iter().any(|other| needs.contains(&other.id) || is_linked(record, other))
        };
        let (later, mut now): (Vec<_>, Vec<_>) = left.iter().copied().partition(waits);
        let mut later = later;
        if now.is_empty() {
            now = std::mem::take(&mut later);
        }
        steps.push(now.iter().map(|record| record.id).collect());
        left = later;
    }
    steps
}

/// The containers that have to run before this one can.
fn needs(record: &Record) -> Vec<ContainerId> {
    let host = &record.config.host;
    let mut needs = Vec::<ContainerId>::new();
    if let NetworkMode::Container(other) = &host.network_mode {
        needs.extend(other.parse::<ContainerId>());
    }
    if let NamespaceMode::Container(other) = &host.pid_mode {
        needs.extend(other.parse::<ContainerId>());
    }
    if let IpcMode::Container(other) = &host.ipc_mode {
        needs.extend(other.parse::<ContainerId>());
    }
    needs.retain(|need| *need != record.id);
    needs
}

/// Whether a container is linked to another one, which has to run before it.
fn is_linked(record: &Record, other: &Record) -> bool {
    let of_endpoints = record.config.endpoints.values().flat_map(|endpoint| &endpoint.links);
    record.config.host.links.iter().chain(of_endpoints).filter_map(|link| Link::parse(link)).any(|link| {
        let target = link.target.trim_start_matches('/');
        record.id != other.id && (target == other.name || other.id.as_str() == target)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::container::{Config, ContainerState};

    fn record(status: Status, policy: RestartPolicy) -> Record {
        let mut config = Config { lifetime: Lifetime::Independent, ..Config::default() };
        config.host.restart_policy = policy;
        let state = ContainerState { status, started_at: 1, exit_code: 1, ..ContainerState::default() };
        Record::new(ContainerId::random(), format!("sha256:{}", "1".repeat(64)).parse().unwrap(), config, state)
    }

    #[test]
    fn policies_decide_as_dockers_do() {
        use RestartPolicy::{Always, No, OnFailure, UnlessStopped};
        for (policy, code, stopped, restarts, on) in [
            (No, 1, false, 0, false),
            (Always, 0, false, 7, true),
            (Always, 0, true, 0, false),
            (UnlessStopped, 137, false, 0, true),
            (UnlessStopped, 137, true, 0, false),
            (OnFailure(0), 0, false, 0, false),
            (OnFailure(0), 1, false, 1000, true),
            (OnFailure(2), 1, false, 1, true),
            (OnFailure(2), 1, false, 2, false),
            (OnFailure(0), 1, true, 0, false),
        ] {
            assert_eq!(goes_on(policy, code, stopped, restarts), on, "{policy} {code} {stopped} {restarts}");
        }
    }

    #[test]
    fn delays_double_up_to_a_minute_and_begin_anew_after_a_long_run() {
        let short = Duration::from_secs(1);
        let mut last = Duration::ZERO;
        let delays: Vec<_> = std::iter::repeat_with(|| {
            last = delay(last, short);
            last.as_millis()
        })
        .take(12)
        .collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
        assert_eq!(delay(last, LONG_RUN), FIRST_DELAY);
    }

    #[test]
    fn an_engine_that_opens_starts_what_was_to_go_on() {
        use RestartPolicy::{Always, No, OnFailure, UnlessStopped};
        for (status, policy, stopped, revived) in [
            (Status::Exited, Always, true, true),
            (Status::Exited, UnlessStopped, true, false),
            (Status::Exited, UnlessStopped, false, true),
            (Status::Exited, OnFailure(0), false, true),
            (Status::Exited, OnFailure(0), true, false),
            (Status::Exited, No, false, false),
            (Status::Restarting, No, false, true),
            (Status::Running, Always, false, false),
        ] {
            let mut record = record(status, policy);
            record.state.stopped_on_purpose = stopped;
            assert_eq!(revives(&record), revived, "{status:?} {policy} {stopped}");
        }
        let mut never = record(Status::Exited, Always);
        never.state.started_at = 0;
        assert!(!revives(&never));
        let mut bound = record(Status::Exited, Always);
        bound.config.lifetime = Lifetime::Engine;
        assert!(!revives(&bound));
    }

    #[test]
    fn who_is_needed_goes_first_and_a_ring_does_not_hang() {
        let [mut one, mut two, three] = std::array::from_fn(|_| record(Status::Exited, RestartPolicy::Always));
        one.config.host.network_mode = NetworkMode::Container(two.id.to_string());
        two.config.host.pid_mode = NamespaceMode::Container(three.id.to_string());
        let all = [&one, &two, &three].map(|record| Arc::new(record.clone()));
        assert_eq!(in_order(&all), [[three.id], [two.id], [one.id]]);
        let (mut front, mut rear) = (one.clone(), two.clone());
        front.config.host = Default::default();
        rear.config.host = Default::default();
        rear.name = "db".to_owned();
        front.config.host.links = vec!["/db:database".to_owned()];
        assert_eq!(in_order(&[&front, &rear].map(|record| Arc::new(record.clone()))), [[rear.id], [front.id]]);
        let mut back = three.clone();
        back.config.host.network_mode = NetworkMode::Container(one.id.to_string());
        let ring = [&one, &two, &back].map(|record| Arc::new(record.clone()));
        assert_eq!(in_order(&ring).concat().len(), 3);
    }
}
