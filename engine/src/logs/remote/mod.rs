//! Log drivers that send lines elsewhere: syslog, journald, fluentd and gelf.
//!
//! The container's output always lies in a bounded file first, so that nothing that is slow or gone ever holds a container up,
//! `logs` works with every driver, and an engine that dies sends on from where it was.

mod address;
mod fluentd;
mod gelf;
mod journald;
mod syslog;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use super::LogLine;
use crate::id::ContainerId;

/// The drivers that send elsewhere.
pub(crate) const DRIVERS: [&str; 4] = ["fluentd", "gelf", "journald", "syslog"];

/// Whose lines are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Source {
    /// Id, whole.
    pub(crate) id: String,
    /// Name, without a slash.
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) image_id: String,
    pub(crate) command: String,
    /// When it was made, RFC 3339.
    pub(crate) created: String,
    /// Name of the host.
    pub(crate) host: String,
    /// What is sent to tell containers apart.
    pub(crate) tag: String,
    /// Labels and variables that were asked for.
    pub(crate) attributes: BTreeMap<String, String>,
}

/// A connection to where lines go.
#[derive(Debug)]
pub(crate) enum Remote {
    Syslog(syslog::Syslog),
    Gelf(gelf::Gelf),
    Fluentd(fluentd::Fluentd),
    Journald(journald::Journald),
}

impl Remote {
    /// Connects.
    pub(crate) async fn connect(
        driver: &str,
        options: &BTreeMap<String, String>,
        source: Source,
    ) -> Result<Self, String> {
        Ok(match driver {
            "syslog" => Self::Syslog(syslog::Syslog::connect(options, source).await?),
            "gelf" => Self::Gelf(gelf::Gelf::connect(options, source).await?),
            "fluentd" => Self::Fluentd(fluentd::Fluentd::connect(options, source).await?),
            "journald" => Self::Journald(journald::Journald::connect(source)?),
            _ => return Err(format!("no log driver named '{driver}' is registered")),
        })
    }

    /// Sends a line, which may be a piece of one. After an error the connection is of no use any more.
    pub(crate) async fn send(&mut self, line: &LogLine, partial: Option<&Partial>) -> io::Result<()> {
        match self {
            Self::Syslog(remote) => remote.send(line).await,
            Self::Gelf(remote) => remote.send(line).await,
            Self::Fluentd(remote) => remote.send(line, partial).await,
            Self::Journald(remote) => remote.send(line, partial).await,
        }
    }
}

/// Where a piece of a line belongs that is longer than 16 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Partial {
    /// Of the whole line: random digits.
    pub(crate) id: String,
    /// The pieces of a line are counted from 1.
    pub(crate) ordinal: u64,
    /// It ends the line.
    pub(crate) last: bool,
}

/// Knows for each output which line its pieces belong to.
#[derive(Debug, Default)]
pub(crate) struct Partials([Option<Partial>; 2]);

impl Partials {
    /// Where the next line belongs; nothing when it is whole.
    pub(crate) fn of(&mut self, line: &LogLine) -> Option<Partial> {
        let place = &mut self.0[line.output as usize];
        let last = line.bytes.ends_with(b"\n");
        let partial = match place.take() {
            Some(before) if line.continued => Partial { ordinal: before.ordinal + 1, last, ..before },
            _ if last => return None,
            _ => Partial { id: ContainerId::random().to_string(), ordinal: 1, last },
        };
        if !last {
            *place = Some(partial.clone());
        }
        Some(partial)
    }
}

/// How often a line is tried to be sent again, and how far the tries are apart: each time twice as far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tries {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
    /// Then it is left out.
    pub(crate) most: Option<u64>,
}

impl Default for Tries {
    fn default() -> Self {
        Self { first: Duration::from_millis(500), longest: Duration::from_secs(30), most: None }
    }
}

/// The tries that the options of a driver ask for.
pub(crate) fn tries(driver: &str, options: &BTreeMap<String, String>) -> Result<Tries, String> {
    match driver {
        "fluentd" => fluentd::tries(options),
        "gelf" => gelf::tries(options),
        _ => Ok(Tries::default()),
    }
}

/// Whether a container is started though there is nobody yet who takes its lines.
pub(crate) fn waits(driver: &str, options: &BTreeMap<String, String>) -> bool {
    driver == "fluentd" && truth(options, "fluentd-async").unwrap_or(false)
}

/// Whether the lines that are kept are nobody's to read.
pub(crate) fn hides(options: &BTreeMap<String, String>) -> bool {
    truth(options, "cache-disabled").unwrap_or(false)
}

/// An option that is true or false, in Go's words; false when it is missing.
fn truth(options: &BTreeMap<String, String>, name: &str) -> Result<bool, String> {
    match options.get(name).map(String::as_str) {
        None | Some("" | "false" | "False" | "FALSE" | "f" | "F" | "0") => Ok(false),
        Some("true" | "True" | "TRUE" | "t" | "T" | "1") => Ok(true),
        Some(other) => Err(format!("invalid value for {name}: {other}")),
    }
}

/// An option that is a time as Go writes it, such as `500ms` or `1m30s`.
fn duration(options: &BTreeMap<String, String>, name: &str) -> Result<Option<Duration>, String> {
    let Some(text) = options.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    let read = || {
        let (mut sum, mut rest) = (Duration::ZERO, text.as_str());
        while !rest.is_empty() {
            let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
            let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
            let unit = match unit {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
            sum = sum.checked_add(Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()?)?;
            rest = tail;
        }
        Some(sum)
    };
    read().map(Some).ok_or_else(|| format!("invalid value for {name}: {text}: it is a time such as 500ms or 1m30s"))
}

/// An option that is a whole number.
fn number(options: &BTreeMap<String, String>, name: &str) -> Result<Option<u64>, String> {
    let Some(text) = options.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse::<u32>()
        .map(|number| Some(number.into()))
        .map_err(|_| format!("{name} must be a positive integer: {text}"))
}

/// Options that every driver has.
const COMMON: [&str; 5] = ["labels", "labels-regex", "env", "env-regex", "tag"];

/// Refuses options that a driver does not have, and values that make no sense.
pub(crate) fn check(driver: &str, options: &BTreeMap<String, String>) -> Result<(), String> {
    let own: &[&str] = match driver {
        "syslog" => &[
            "syslog-address",
            "syslog-facility",
            "syslog-format",
            "syslog-tls-ca-cert",
            "syslog-tls-cert",
            "syslog-tls-key",
            "syslog-tls-skip-verify",
        ],
        "gelf" => &[
            "gelf-address",
            "gelf-compression-type",
            "gelf-compression-level",
            "gelf-tcp-max-reconnect",
            "gelf-tcp-reconnect-delay",
        ],
        "fluentd" => &[
            "fluentd-address",
            "fluentd-async",
            "fluentd-async-reconnect-interval",
            "fluentd-buffer-limit",
            "fluentd-max-retries",
            "fluentd-request-ack",
            "fluentd-retry-wait",
            "fluentd-sub-second-precision",
            "fluentd-write-timeout",
        ],
        "journald" => &[],
        _ => return Err(format!("no log driver named '{driver}' is registered")),
    };
    // Of the file that the lines lie in until they are sent, and in which `logs` reads.
    let kept = ["max-size", "max-file", "max-age", "compress", "mode", "max-buffer-size"];
    let cache = ["cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"];
    truth(options, "cache-disabled")?;
    for option in options.keys().map(String::as_str) {
        if ![own, &COMMON, &kept, &cache].iter().any(|known| known.contains(&option)) {
            return Err(format!("unknown log opt '{option}' for {driver} log driver"));
        }
    }
    match driver {
        "syslog" => syslog::check(options),
        "gelf" => gelf::check(options),
        "fluentd" => fluentd::check(options),
        _ => Ok(()),
    }
}

/// A message without the newline that ends it.
fn message(line: &LogLine) -> &[u8] {
    line.bytes.strip_suffix(b"\n").unwrap_or(&line.bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tries_are_as_often_and_as_far_apart_as_is_asked() {
        let of = |driver: &str, pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            tries(driver, &pairs).unwrap()
        };
        let second = Duration::from_secs(1);
        assert_eq!(of("syslog", &[]), Tries::default());
        let retries = [("fluentd-retry-wait", "1m"), ("fluentd-max-retries", "4")];
        assert_eq!(of("fluentd", &retries), Tries { first: 60 * second, longest: 60 * second, most: Some(4) });
        let interval = of("fluentd", &[("fluentd-async-reconnect-interval", "1.5s")]);
        assert_eq!(interval, Tries { first: second * 3 / 2, longest: second * 3 / 2, most: None });
        let tcp = [("gelf-address", "tcp://x"), ("gelf-tcp-max-reconnect", "3"), ("gelf-tcp-reconnect-delay", "2")];
        assert_eq!(of("gelf", &tcp), Tries { first: 2 * second, longest: 2 * second, most: Some(3) });
        let udp = [("gelf-address", "udp://x"), ("gelf-tcp-max-reconnect", "3")];
        let udp = udp.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert!(check("gelf", &udp).unwrap_err().contains("only valid for TCP"));
        let waits = |value: &str| super::waits("fluentd", &[("fluentd-async".to_owned(), value.to_owned())].into());
        assert!(waits("1") && waits("true") && !waits("0"));
    }

    #[test]
    fn the_pieces_of_a_line_are_counted_for_each_output() {
        use crate::logs::Output::{Stderr, Stdout};
        let mut partials = Partials::default();
        let mut next = |output, continued, text: &'static str| {
            partials.of(&LogLine { output, at: 1, continued, bytes: bytes::Bytes::from_static(text.as_bytes()) })
        };
        assert_eq!(next(Stdout, false, "whole\n"), None);
        let first = next(Stdout, false, "a").unwrap();
        assert_eq!((first.id.len(), first.ordinal, first.last), (64, 1, false));
        let other = next(Stderr, false, "x").unwrap();
        assert_eq!(next(Stdout, true, "b"), Some(Partial { ordinal: 2, ..first.clone() }));
        assert_eq!(next(Stdout, true, "\n"), Some(Partial { ordinal: 3, last: true, ..first.clone() }));
        assert_eq!(next(Stderr, true, "y\n"), Some(Partial { ordinal: 2, last: true, ..other.clone() }));
        assert_eq!(next(Stdout, false, "whole\n"), None);
        assert!(other.id != first.id && next(Stdout, false, "c").unwrap().id != first.id);
        // Of a line that somebody else has begun to send there is nothing to say but that it ends.
        assert_eq!(next(Stderr, true, "end\n"), None);
    }

    #[test]
    fn options_are_checked() {
        let with = |driver: &str, option: &str, value: &str| {
            check(driver, &BTreeMap::from([(option.to_owned(), value.to_owned())]))
        };
        with("syslog", "syslog-address", "udp://127.0.0.1:514").unwrap();
        with("syslog", "tag", "{{.Name}}").unwrap();
        with("gelf", "gelf-address", "udp://127.0.0.1:12201").unwrap();
        with("fluentd", "fluentd-address", "127.0.0.1:24224").unwrap();
        for (driver, option, value, why) in [
            ("syslog", "bogus", "1", "unknown log opt 'bogus' for syslog log driver"),
            ("syslog", "syslog-address", "ftp://x", "ftp"),
            ("syslog", "syslog-facility", "bogus", "facility"),
            ("syslog", "syslog-format", "bogus", "format"),
            ("syslog", "syslog-tls-cert", "x", "is for an address such as tcp+tls://"),
            ("gelf", "gelf-compression-type", "lzma", "gelf"),
            ("gelf", "tag", "x", "gelf-address"),
            ("fluentd", "fluentd-address", "http://x", "http"),
            ("awslogs", "tag", "x", "no log driver named 'awslogs'"),
            ("fluentd", "fluentd-retry-wait", "soon", "it is a time such as 500ms"),
            ("fluentd", "fluentd-max-retries", "-1", "positive integer"),
            ("fluentd", "fluentd-async-reconnect-interval", "11s", "between 100ms and 10s"),
            ("fluentd", "fluentd-request-ack", "maybe", "fluentd-request-ack"),
            ("fluentd", "fluentd-buffer-limit", "x", "fluentd-buffer-limit"),
            ("fluentd", "fluentd-write-timeout", "x", "fluentd-write-timeout"),
            ("fluentd", "cache-disabled", "maybe", "cache-disabled"),
        ] {
            let error = with(driver, option, value).unwrap_err();
            assert!(error.contains(why), "{driver} {option}: {error}");
        }
    }
}
