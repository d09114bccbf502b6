//! Which containers a list shows.

use std::collections::BTreeMap;

use regex::Regex;

use super::Error;
use super::modes::NetworkMode;
use super::record::Record;
use super::status::Status;

/// The words that a filter of containers knows.
const KNOWN: [&str; 15] = [
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

/// Which containers a list shows. Values of one word are alternatives (labels must all be there), words restrict each other.
///
/// ```
/// use engine::ContainerFilter;
/// let filter = ContainerFilter::new().all(true).with("label", "tier=db")?.with("status", "exited")?;
/// # Ok::<(), engine::container::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContainerFilter {
    /// Those that do not run too. A filter of states or exit codes implies it.
    pub all: bool,
    /// At most so many of the newest; implies [`ContainerFilter::all`].
    pub limit: Option<usize>,
    words: BTreeMap<String, Vec<String>>,
}

impl ContainerFilter {
    /// Those that run.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`ContainerFilter::all`].
    #[must_use]
    pub fn all(mut self, all: bool) -> Self {
        self.all = all;
        self
    }

    /// Sets [`ContainerFilter::limit`].
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Adds a restriction in Docker's words, such as `label` and `tier=db`.
    ///
    /// # Errors
    /// A word that is not known, or a value that the word does not take.
    pub fn with(mut self, word: &str, value: &str) -> Result<Self, Error> {
        let invalid = || Err(Error::invalid(format!("invalid filter '{word}={value}'")));
        match word {
            _ if !KNOWN.contains(&word) => return Err(Error::invalid(format!("invalid filter '{word}'"))),
            "status" if Status::from_word(value).is_none() => return invalid(),
            "exited" if value.parse::<i32>().is_err() => return invalid(),
            "health" if !["none", "starting", "healthy", "unhealthy"].contains(&value) => return invalid(),
            "is-task" if !["true", "false", "1", "0"].contains(&value) => return invalid(),
            "isolation" if !["default"].contains(&value) => return invalid(),
            "name" if Regex::new(value).is_err() => return invalid(),
            "publish" | "expose" if ports(value).is_none() => return invalid(),
            _ => {}
        }
        self.words.entry(word.to_owned()).or_default().push(value.to_owned());
        Ok(self)
    }

    pub(super) fn values(&self, word: &str) -> &[String] {
        self.words.get(word).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether containers that do not run are looked at.
    pub(super) fn looks_at_all(&self) -> bool {
        self.all || self.limit.is_some() || ["status", "exited"].iter().any(|word| self.words.contains_key(*word))
    }
}

/// A filter with what its words name looked up, so that it can be asked of each record.
#[derive(Debug)]
pub(super) struct Matcher<'a> {
    filter: &'a ContainerFilter,
    names: Vec<Regex>,
    exited: Vec<i32>,
    /// Made before the oldest of these, in nanoseconds since 1970.
    pub(super) before: Option<i64>,
    /// Made after the newest of these.
    pub(super) since: Option<i64>,
    /// Ids of images: those that a filter of ancestors names, and all that are made of them.
    pub(super) ancestors: Option<Vec<String>>,
}

impl<'a> Matcher<'a> {
    pub(super) fn new(filter: &'a ContainerFilter) -> Self {
        Self {
            filter,
            names: filter.values("name").iter().filter_map(|text| Regex::new(text).ok()).collect(),
            exited: filter.values("exited").iter().filter_map(|code| code.parse().ok()).collect(),
            before: None,
            since: None,
            ancestors: None,
        }
    }

    pub(super) fn matches(&self, record: &Record) -> bool {
        let any = |word: &str, test: &dyn Fn(&str) -> bool| {
            let values = self.filter.values(word);
            values.is_empty() || values.iter().any(|value| test(value))
        };
        let state = &record.state;
        (self.filter.looks_at_all() || state.status.has_process() || state.status == Status::Restarting)
            && any("id", &|prefix| record.id.as_str().starts_with(prefix))
            && any("status", &|word| state.status.as_str() == word)
            && (self.exited.is_empty()
                || (self.exited.contains(&state.exit_code) && !state.status.has_process() && state.finished_at != 0))
            && (self.names.is_empty()
                || self
                    .names
                    .iter()
                    .any(|name| name.is_match(&record.name) || name.is_match(&format!("/{}", record.name))))
            && self.filter.values("label").iter().all(|label| has_label(record, label))
            && any("health", &|word| word == record.health.as_ref().map_or("none", |health| health.status.as_str()))
            && any("is-task", &|word| matches!(word, "false" | "0"))
            && any("isolation", &|word| word == "default")
            && any("volume", &|volume| {
                record.mounts.iter().any(|mount| {
                    mount.name.as_deref() == Some(volume) || mount.destination == volume || mount.source == volume
                })
            })
            && any("network", &|network| on_network(record, network))
            && any("expose", &|port| names_port(&record.config.exposed_ports, port))
            && any("publish", &|port| {
                names_port(&record.config.host.port_bindings.keys().cloned().collect::<Vec<_>>(), port)
            })
            && any("ancestor", &|name| {
                record.config.image == name
                    || self.ancestors.as_ref().is_some_and(|ids| ids.iter().any(|id| id == record.image.as_str()))
            })
            && self.before.is_none_or(|before| record.created_at < before)
            && self.since.is_none_or(|since| record.created_at > since)
    }
}

fn has_label(record: &Record, label: &str) -> bool {
    match label.split_once('=') {
        Some((name, value)) => record.config.labels.get(name).is_some_and(|own| own == value),
        None => record.config.labels.contains_key(label),
    }
}

fn on_network(record: &Record, network: &str) -> bool {
    let mode = &record.config.host.network_mode;
    let by_name = match mode {
        NetworkMode::Named(name) => name == network,
        NetworkMode::None | NetworkMode::Host => mode.to_string() == network,
        NetworkMode::Default | NetworkMode::Container(_) => false,
    };
    let is_there = |endpoint: &crate::network::Endpoint| {
        endpoint.network_name == network || (!network.is_empty() && endpoint.network.as_str().starts_with(network))
    };
    by_name || record.config.endpoints.contains_key(network) || record.endpoints.iter().any(is_there)
}

fn names_port<'a>(ports: impl IntoIterator<Item = &'a String>, asked: &str) -> bool {
    let Some((first, last, protocol)) = self::ports(asked) else { return false };
    ports
        .into_iter()
        .filter_map(|port| self::ports(port))
        .any(|port| port.0 <= last && first <= port.1 && port.2 == protocol)
}

/// The first and the last port of `80`, `80/udp` or `80-90/tcp`, and the protocol.
fn ports(text: &str) -> Option<(u16, u16, &str)> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    Some((first.parse().ok()?, last.parse().ok()?, protocol))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::container::status::ContainerState;
    use crate::container::{Config, MountPoint};

    fn record(name: &str) -> Record {
        let mut config = Config { image: "busybox".to_owned(), ..Config::default() };
        config.labels.insert("tier".to_owned(), "db".to_owned());
        config.exposed_ports.insert("80/tcp".to_owned());
        config.host.network_mode = NetworkMode::Named("bridge".to_owned());
        config.host.port_bindings.insert("90/tcp".to_owned(), Vec::new());
        Record {
            id: format!("ab{}", "0".repeat(62)).parse().unwrap(),
            name: name.to_owned(),
            created_at: 100,
            image: format!("sha256:{}", "1".repeat(64)).parse().unwrap(),
            platform: String::new(),
            layers: Vec::new(),
            owner: String::new(),
            outside: None,
            config,
            mounts: Vec::<MountPoint>::new(),
            endpoints: Vec::new(),
            state: ContainerState::default(),
            restart_count: 0,
            health: None,
        }
    }

    fn shows(record: &Record, words: &[(&str, &str)]) -> bool {
        let filter = words
            .iter()
            .fold(ContainerFilter::new().all(true), |filter, (word, value)| filter.with(word, value).unwrap());
        Matcher::new(&filter).matches(record)
    }

    #[test]
    fn only_those_that_run_unless_asked() {
        let created = record("web");
        let mut running = created.clone();
        running.state = created.state.started(1, 1).unwrap();
        let filter = ContainerFilter::new();
        assert!(!Matcher::new(&filter).matches(&created));
        assert!(Matcher::new(&filter).matches(&running));
        let created_ones = ContainerFilter::new().with("status", "created").unwrap();
        assert!(Matcher::new(&created_ones).matches(&created));
        assert!(!Matcher::new(&created_ones).matches(&running));
    }

    #[test]
    fn words_restrict_and_values_are_alternatives() {
        let web = record("web");
        for (words, expected) in [
            (&[("name", "we")][..], true),
            (&[("name", "^/web$")], true),
            (&[("name", "^eb")], false),
            (&[("name", "x"), ("name", "web")], true),
            (&[("id", "ab")], true),
            (&[("id", "b")], false),
            (&[("label", "tier")], true),
            (&[("label", "tier=db")], true),
            (&[("label", "tier=web")], false),
            (&[("label", "tier"), ("label", "other")], false),
            (&[("name", "web"), ("status", "running")], false),
            (&[("network", "bridge")], true),
            (&[("network", "host")], false),
            (&[("expose", "80")], true),
            (&[("expose", "70-90/tcp")], true),
            (&[("expose", "80/udp")], false),
            (&[("publish", "80")], false),
            (&[("publish", "90")], true),
            (&[("ancestor", "busybox")], true),
            (&[("ancestor", "alpine")], false),
            (&[("exited", "0")], false),
            (&[("health", "none")], true),
            (&[("is-task", "true")], false),
            (&[("isolation", "default")], true),
        ] {
            assert_eq!(shows(&web, words), expected, "{words:?}");
        }
    }

    #[test]
    fn exit_codes_are_of_those_that_ended() {
        let mut web = record("web");
        web.state = web.state.started(1, 1).unwrap().exited(0, false, 2).unwrap();
        assert!(shows(&web, &[("exited", "0")]));
        assert!(!shows(&web, &[("exited", "1")]));
    }

    #[test]
    fn times_bound_the_list() {
        let filter = ContainerFilter::new().all(true);
        let mut matcher = Matcher::new(&filter);
        matcher.before = Some(100);
        assert!(!matcher.matches(&record("web")));
        matcher.before = None;
        matcher.since = Some(99);
        assert!(matcher.matches(&record("web")));
    }

    #[test]
    fn unknown_words_and_values_are_refused() {
        let refused = |word, value| ContainerFilter::new().with(word, value).unwrap_err().to_string();
        assert_eq!(refused("bogus", "x"), "invalid filter 'bogus'");
        assert_eq!(refused("status", "gone"), "invalid filter 'status=gone'");
        assert_eq!(refused("exited", "x"), "invalid filter 'exited=x'");
        assert_eq!(refused("name", "("), "invalid filter 'name=('");
        assert_eq!(refused("publish", "abc"), "invalid filter 'publish=abc'");
        assert_eq!(refused("expose", "70000"), "invalid filter 'expose=70000'");
    }
}
