//! Health: what is asked of a container that runs, how often, and what follows from the answers. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::{Error, ExecSpec};
use crate::oci::Healthcheck;

/// So many of the latest answers are kept.
const KEPT: usize = 5;
/// Bytes of an answer that are kept.
pub(super) const MAX_OUTPUT: usize = 4096;
/// The annotation that says what is done with a container that becomes unhealthy.
const ON_UNHEALTHY: &str = "engine.health.on-unhealthy";

/// Whether a container works, as far as its health check can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// It has not answered well yet, and may still do.
    #[default]
    Starting,
    /// It answered well.
    Healthy,
    /// It failed to answer well several times, or does not run.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What the health checks of a container have told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Health {
    /// What follows from it.
    pub status: HealthStatus,
    /// Failures since the last good answer.
    pub failing_streak: u32,
    /// The latest answers, the oldest first.
    pub log: Vec<HealthAnswer>,
}

/// What one health check told. Times are nanoseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct HealthAnswer {
    /// When it was asked.
    pub start: i64,
    /// When it had answered.
    pub end: i64,
    /// 0 is good; -1 when there was no answer.
    pub exit_code: i32,
    /// What it said.
    pub output: String,
}

impl Health {
    /// That of a run that begins; the answers of the last run are still of interest.
    pub(super) fn begun(before: Option<&Self>) -> Self {
        Self { log: before.map(|health| health.log.clone()).unwrap_or_default(), ..Self::default() }
    }

    /// That of a container that does not run any more.
    pub(super) fn over(&self) -> Self {
        Self { status: HealthStatus::Unhealthy, ..self.clone() }
    }

    /// After an answer of a container that was started at this time.
    pub(super) fn after(&self, answer: HealthAnswer, rhythm: &Rhythm, started_at: i64) -> Self {
        let mut health = self.clone();
        if answer.exit_code == 0 {
            health.failing_streak = 0;
            health.status = HealthStatus::Healthy;
        } else if self.status != HealthStatus::Starting || since(started_at, answer.start) >= rhythm.start_period {
            health.failing_streak = self.failing_streak.saturating_add(1);
            if health.failing_streak >= rhythm.retries {
                health.status = HealthStatus::Unhealthy;
            }
        }
        health.log.push(answer);
        let too_many = health.log.len().saturating_sub(KEPT);
        health.log.drain(..too_many);
        health
    }
}

fn since(then: i64, now: i64) -> Duration {
    Duration::from_nanos(u64::try_from(now.saturating_sub(then)).unwrap_or(0))
}

/// How a container is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// A process in it.
    Command(ExecSpec),
    /// A connection from within its network.
    Tcp(std::net::SocketAddr),
    /// A request from within its network.
    Http { address: std::net::SocketAddr, host: String, path: String },
}

/// How a container is asked; nothing when it is not.
pub(super) fn probe(config: &Config) -> Option<Probe> {
    let check = config.healthcheck.as_ref()?;
    let (kind, words) = check.test.split_first()?;
    match kind.as_str() {
        "CMD" => Some(Probe::Command(ExecSpec::new(words.iter().cloned()))).filter(|_| !words.is_empty()),
        "CMD-SHELL" => {
            let shell = config.shell.clone().filter(|shell| !shell.is_empty());
            let shell = shell.unwrap_or_else(|| ["/bin/sh", "-c"].map(str::to_owned).to_vec());
            Some(Probe::Command(ExecSpec::new(shell.into_iter().chain(words.iter().cloned()))))
                .filter(|_| !words.is_empty())
        }
        "TCP" => Some(Probe::Tcp(address(only(words)?, None)?)),
        "HTTP" => {
            let rest = only(words)?.strip_prefix("http://")?;
            let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
            let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
            let address = address(host, Some(80))?;
            (plain(host) && plain(path)).then(|| Probe::Http { address, host: host.to_owned(), path: path.to_owned() })
        }
        _ => None,
    }
}

fn only(words: &[String]) -> Option<&str> {
    if let [word] = words { Some(word) } else { None }
}

/// A port of the container itself, `localhost` and a port, or an address and a port. Names are not looked up.
fn address(text: &str, port: Option<u16>) -> Option<std::net::SocketAddr> {
    use std::net::{IpAddr, Ipv4Addr};
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if let Ok(port) = text.parse::<u16>() {
        return (port > 0).then(|| (local, port).into());
    }
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let (host, number) = match text.rsplit_once(':') {
        Some((host, number)) if !number.ends_with(']') => (host, number.parse().ok()),
        _ => (text, port),
    };
    let host = match host.trim_matches(['[', ']']) {
        "localhost" | "" => local,
        host => host.parse().ok()?,
    };
    number.filter(|port| *port > 0).map(|port| (host, port).into())
}

/// When a container is asked, and how often it may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rhythm {
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) start_period: Duration,
    pub(super) start_interval: Duration,
    pub(super) retries: u32,
}

impl Rhythm {
    pub(super) fn of(check: &Healthcheck) -> Self {
        let or = |nanos: i64, default: u64| match u64::try_from(nanos) {
            Ok(nanos) if nanos > 0 => Duration::from_nanos(nanos),
            _ => Duration::from_secs(default),
        };
        Self {
            interval: or(check.interval, 30),
            timeout: or(check.timeout, 30),
            start_period: or(check.start_period, 0),
            start_interval: or(check.start_interval, 5),
            retries: u32::try_from(check.retries).ok().filter(|retries| *retries > 0).unwrap_or(3),
        }
    }

    /// How long to wait for the next question.
    pub(super) fn wait(&self, health: &Health, started_at: i64, now: i64) -> Duration {
        let starting = health.status == HealthStatus::Starting && since(started_at, now) < self.start_period;
        if starting { self.start_interval } else { self.interval }
    }

    /// How long to wait for the first question of a run that this engine did not begin. Those that are late are spread, so
    /// that not all are asked at once.
    pub(super) fn wait_of_restored(&self, health: &Health, started_at: i64, now: i64, spread: u8) -> Duration {
        let last = health.log.last().map_or(started_at, |answer| answer.end.max(started_at));
        let wait = self.wait(health, started_at, now);
        let left = wait.saturating_sub(since(last, now));
        if left.is_zero() { wait.min(Duration::from_secs(5)) * u32::from(spread) / 256 } else { left }
    }
}

/// What is done with a container that becomes unhealthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnUnhealthy {
    Nothing,
    Restart,
    Stop,
    /// Its restart policy decides what follows.
    Kill,
}

/// What the annotation `engine.health.on-unhealthy` asks for.
pub(super) fn on_unhealthy(config: &Config) -> Result<OnUnhealthy, Error> {
    match config.host.annotations.get(ON_UNHEALTHY).map(String::as_str) {
        None | Some("none") => Ok(OnUnhealthy::Nothing),
        Some("restart") => Ok(OnUnhealthy::Restart),
        Some("stop") => Ok(OnUnhealthy::Stop),
        Some("kill") => Ok(OnUnhealthy::Kill),
        Some(other) => Err(Error::invalid(format!(
            "annotation {ON_UNHEALTHY}={other} is not known: use none, restart, stop or kill"
        ))),
    }
}

/// Refuses a health check that makes no sense.
pub(super) fn check(check: &Healthcheck) -> Result<(), Error> {
    const LEAST: i64 = 1_000_000;
    for (name, nanos) in [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ] {
        if nanos != 0 && nanos < LEAST {
            return Err(Error::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    if check.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    let Some((kind, words)) = check.test.split_first() else { return Ok(()) };
    if check.test.iter().any(|word| word.contains('\0')) {
        return Err(Error::invalid("an argument must not contain a zero byte"));
    }
    let config = Config { healthcheck: Some(check.clone()), ..Config::default() };
    match kind.as_str() {
        "NONE" => Ok(()),
        _ if probe(&config).is_some() => Ok(()),
        "CMD" | "CMD-SHELL" => Err(Error::invalid("the health check has no command")),
        "TCP" => Err(Error::invalid(format!(
            "health check TCP {}: give a port, localhost:<port> or <address>:<port>",
            words.join(" ")
        ))),
        "HTTP" => Err(Error::invalid(format!(
            "health check HTTP {}: give http://localhost[:<port>][/<path>], or an address instead of localhost",
            words.join(" ")
        ))),
        // Kept and not run, as Docker does; whoever creates it by the API is warned.
        _ => Ok(()),
    }
}

/// What the container asks for, its gaps filled from the image.
pub(super) fn merged(asked: Option<Healthcheck>, image: Option<&Healthcheck>) -> Option<Healthcheck> {
    let (mut check, image) = match (asked, image) {
        (Some(asked), Some(image)) => (asked, image),
        (asked, image) => return asked.or_else(|| image.cloned()),
    };
    let or = |own: i64, image: i64| if own == 0 { image } else { own };
    if check.test.is_empty() {
        check.test.clone_from(&image.test);
    }
    check.interval = or(check.interval, image.interval);
    check.timeout = or(check.timeout, image.timeout);
    check.start_period = or(check.start_period, image.start_period);
    check.start_interval = or(check.start_interval, image.start_interval);
    check.retries = or(check.retries, image.retries);
    Some(check)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn of(test: &[&str]) -> Healthcheck {
        Healthcheck { test: test.iter().map(|&word| word.to_owned()).collect(), ..Healthcheck::default() }
    }

    fn asked(test: &[&str]) -> Option<Probe> {
        probe(&Config { healthcheck: Some(of(test)), ..Config::default() })
    }

    fn answer(at: i64, exit_code: i32) -> HealthAnswer {
        HealthAnswer { start: at, end: at, exit_code, output: String::new() }
    }

    #[test]
    fn three_failures_are_unhealthy_and_one_good_answer_is_healthy() {
        let rhythm = Rhythm::of(&of(&[]));
        let mut health = Health::begun(None);
        for (code, status, streak) in [
            (1, HealthStatus::Starting, 1),
            (0, HealthStatus::Healthy, 0),
            (1, HealthStatus::Healthy, 1),
            (-1, HealthStatus::Healthy, 2),
            (2, HealthStatus::Unhealthy, 3),
            (1, HealthStatus::Unhealthy, 4),
            (0, HealthStatus::Healthy, 0),
        ] {
            health = health.after(answer(SECOND, code), &rhythm, 0);
            assert_eq!((health.status, health.failing_streak), (status, streak));
        }
        assert_eq!(health.log.len(), 5);
        assert_eq!(Health::begun(Some(&health)).log, health.log);
        assert_eq!(health.over().status, HealthStatus::Unhealthy);
    }

    #[test]
    fn failures_in_the_start_period_do_not_count_until_it_was_healthy() {
        let check = Healthcheck { start_period: 10 * SECOND, retries: 1, interval: 20 * SECOND, ..of(&[]) };
        let rhythm = Rhythm::of(&check);
        let starting = Health::begun(None).after(answer(9 * SECOND, 1), &rhythm, 0);
        assert_eq!((starting.status, starting.failing_streak), (HealthStatus::Starting, 0));
        assert_eq!(rhythm.wait(&starting, 0, 9 * SECOND), Duration::from_secs(5));
        assert_eq!(rhythm.wait(&starting, 0, 10 * SECOND), Duration::from_secs(20));
        assert_eq!(starting.after(answer(10 * SECOND, 1), &rhythm, 0).status, HealthStatus::Unhealthy);
        let healthy = starting.after(answer(2 * SECOND, 0), &rhythm, 0);
        assert_eq!(rhythm.wait(&healthy, 0, 2 * SECOND), Duration::from_secs(20));
        assert_eq!(healthy.after(answer(3 * SECOND, 1), &rhythm, 0).status, HealthStatus::Unhealthy);
    }

    #[test]
    fn a_restored_container_is_asked_when_its_time_has_come() {
        let rhythm = Rhythm::of(&of(&[]));
        let health = Health::begun(None).after(answer(100 * SECOND, 0), &rhythm, 0);
        assert_eq!(rhythm.wait_of_restored(&health, 0, 110 * SECOND, 9), Duration::from_secs(20));
        assert_eq!(rhythm.wait_of_restored(&health, 0, 500 * SECOND, 128), Duration::from_millis(2500));
        assert_eq!(rhythm.wait_of_restored(&Health::default(), 0, 10 * SECOND, 0), Duration::from_secs(20));
    }

    #[test]
    fn every_kind_of_question_is_read() {
        let Some(Probe::Command(spec)) = asked(&["CMD", "a", "b"]) else { panic!() };
        assert_eq!(spec.command, ["a", "b"]);
        let Some(Probe::Command(spec)) = asked(&["CMD-SHELL", "a | b"]) else { panic!() };
        assert_eq!(spec.command, ["/bin/sh", "-c", "a | b"]);
        let tcp = |text: &str| match asked(&["TCP", text]) {
            Some(Probe::Tcp(address)) => Some(address.to_string()),
            _ => None,
        };
        for (text, address) in [
            ("5432", Some("127.0.0.1:5432")),
            ("localhost:80", Some("127.0.0.1:80")),
            (":80", Some("127.0.0.1:80")),
            ("10.0.0.2:1", Some("10.0.0.2:1")),
            ("[::1]:9", Some("[::1]:9")),
            ("example.org:80", None),
            ("localhost", None),
            ("0", None),
        ] {
            assert_eq!(tcp(text).as_deref(), address, "{text}");
        }
        assert_eq!((asked(&["TCP", "80", "81"]), asked(&["HTTP", "http://localhost/", "x"])), (None, None));
        let http = |text: &str| match asked(&["HTTP", text]) {
            Some(Probe::Http { address, host, path }) => Some(format!("{address} {host} {path}")),
            _ => None,
        };
        assert_eq!(http("http://localhost:8080/up?x=1").as_deref(), Some("127.0.0.1:8080 localhost:8080 /up?x=1"));
        assert_eq!(http("http://[::1]").as_deref(), Some("[::1]:80 [::1] /"));
        for wrong in ["https://localhost/", "http://example.org/", "http://localhost/a b", "http://localhost/\r\nX: y"]
        {
            assert_eq!(http(wrong), None, "{wrong}");
        }
        assert!(asked(&["NONE"]).is_none() && asked(&[]).is_none() && asked(&["CMD"]).is_none());
    }

    #[test]
    fn nonsense_is_refused_in_dockers_words() {
        let refused = |check: Healthcheck| super::check(&check).unwrap_err().to_string();
        assert_eq!(refused(Healthcheck { interval: 1, ..of(&[]) }), "Interval in Healthcheck cannot be less than 1ms");
        assert_eq!(refused(Healthcheck { retries: -1, ..of(&[]) }), "Retries in Healthcheck cannot be negative");
        assert!(refused(of(&["CMD"])).contains("no command"));
        assert!(refused(of(&["TCP", "x"])).contains("give a port"));
        assert!(refused(of(&["HTTP", "x"])).contains("http://localhost"));
        check(&of(&["BOGUS", "x"])).unwrap();
        check(&of(&["NONE"])).unwrap();
        check(&of(&["CMD-SHELL", "true"])).unwrap();
        let mut config = Config::default();
        config.host.annotations.insert(ON_UNHEALTHY.to_owned(), "bogus".to_owned());
        assert!(on_unhealthy(&config).unwrap_err().to_string().contains("restart"));
        config.host.annotations.insert(ON_UNHEALTHY.to_owned(), "restart".to_owned());
        assert_eq!(on_unhealthy(&config).unwrap(), OnUnhealthy::Restart);
    }

    #[test]
    fn gaps_are_filled_from_the_image() {
        let image = Healthcheck { interval: 7, retries: 2, ..of(&["CMD", "image"]) };
        let own = Healthcheck { interval: 9, ..of(&[]) };
        let both = merged(Some(own), Some(&image)).unwrap();
        assert_eq!((both.interval, both.retries, both.test[1].as_str()), (9, 2, "image"));
        assert_eq!(merged(None, Some(&image)), Some(image.clone()));
        assert_eq!(merged(Some(of(&["NONE"])), Some(&image)).unwrap().test, ["NONE"]);
    }
}
