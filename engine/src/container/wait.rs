//! Waiting for the end of a container.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::Error;
use super::status::{ContainerState, Status};

/// What a waiter waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// It does not run: at once when that is so already.
    #[default]
    NotRunning,
    /// Its next run ends; one that ended before does not count.
    NextExit,
    /// It is gone.
    Removed,
}

impl WaitCondition {
    /// The condition that Docker's word stands for.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "" | "not-running" => Some(Self::NotRunning),
            "next-exit" => Some(Self::NextExit),
            "removed" => Some(Self::Removed),
            _ => None,
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// The exit code; 128 and the signal's number when a signal ended it.
    pub code: i32,
    /// Why its start failed, when it did.
    pub error: Option<String>,
}

impl Exit {
    pub(super) fn of(state: &ContainerState) -> Self {
        Self { code: state.exit_code, error: Some(state.error.clone()).filter(|error| !error.is_empty()) }
    }

    /// Whether the exit code is 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == 0
    }
}

/// Waits for the end of a container; it was registered when it was made, so nothing that happens later is missed.
#[derive(Debug)]
#[must_use = "a waiter does nothing unless it is awaited"]
pub struct Waiter(Wait);

#[derive(Debug)]
enum Wait {
    Over(Exit),
    Pending(oneshot::Receiver<Exit>),
}

impl Future for Waiter {
    type Output = Result<Exit, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Wait::Over(exit) => Poll::Ready(Ok(exit.clone())),
            Wait::Pending(news) => Pin::new(news).poll(context).map(|exit| {
                exit.map_err(|_| Error::Unavailable("the engine was closed before the container ended".to_owned()))
            }),
        }
    }
}

/// Those who wait for one container.
#[derive(Debug, Default)]
pub(super) struct Waiters(Vec<(WaitCondition, oneshot::Sender<Exit>)>);

impl Waiters {
    pub(super) fn register(&mut self, condition: WaitCondition, state: &ContainerState) -> Waiter {
        if condition == WaitCondition::NotRunning && !state.status.has_process() && state.status != Status::Restarting {
            return Waiter(Wait::Over(Exit::of(state)));
        }
        // Whoever does not wait any more would otherwise be kept until the end.
        self.0.retain(|(_, waiter)| !waiter.is_closed());
        let (sender, receiver) = oneshot::channel();
        self.0.push((condition, sender));
        Waiter(Wait::Pending(receiver))
    }

    /// A waiter for something that is gone already.
    pub(super) fn over(state: &ContainerState) -> Waiter {
        Waiter(Wait::Over(Exit::of(state)))
    }

    pub(super) fn exited(&mut self, exit: &Exit) {
        for (condition, waiter) in std::mem::take(&mut self.0) {
            if condition == WaitCondition::Removed {
                self.0.push((condition, waiter));
            } else {
                // It may have stopped waiting just now.
                let _ = waiter.send(exit.clone());
            }
        }
    }

    pub(super) fn removed(&mut self, exit: &Exit) {
        for (_, waiter) in self.0.drain(..) {
            let _ = waiter.send(exit.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures_util::FutureExt as _;

    use super::*;

    fn running() -> ContainerState {
        ContainerState::default().started(1, 1).unwrap()
    }

    fn code(waiter: &mut Waiter) -> Option<i32> {
        waiter.now_or_never().map(|exit| exit.unwrap().code)
    }

    #[test]
    fn who_waits_for_no_run_is_answered_at_once() {
        let exited = running().exited(3, false, 2).unwrap();
        let mut waiters = Waiters::default();
        assert_eq!(code(&mut waiters.register(WaitCondition::NotRunning, &exited)), Some(3));
        let mut next = waiters.register(WaitCondition::NextExit, &exited);
        assert_eq!(code(&mut next), None);
        waiters.exited(&Exit { code: 4, error: None });
        assert_eq!(code(&mut next), Some(4));
    }

    #[test]
    fn an_exit_wakes_all_but_those_who_wait_for_the_removal() {
        let mut waiters = Waiters::default();
        let mut not_running = waiters.register(WaitCondition::NotRunning, &running());
        let mut removed = waiters.register(WaitCondition::Removed, &running());
        waiters.exited(&Exit { code: 5, error: None });
        assert_eq!((code(&mut not_running), code(&mut removed)), (Some(5), None));
        waiters.removed(&Exit { code: 5, error: None });
        assert_eq!(code(&mut removed), Some(5));
    }

    #[test]
    fn a_removal_wakes_everybody_and_a_closed_engine_is_an_error() {
        let mut waiters = Waiters::default();
        let mut next = waiters.register(WaitCondition::NextExit, &ContainerState::default());
        waiters.removed(&Exit::default());
        assert_eq!(code(&mut next), Some(0));
        let next = waiters.register(WaitCondition::NextExit, &ContainerState::default());
        drop(waiters);
        assert!(next.now_or_never().unwrap().is_err());
    }

    #[test]
    fn words_are_dockers() {
        assert_eq!(WaitCondition::from_word("next-exit"), Some(WaitCondition::NextExit));
        assert_eq!(WaitCondition::from_word("never"), None);
    }
}
