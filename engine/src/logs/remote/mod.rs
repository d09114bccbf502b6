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

use super::LogLine;

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

    /// Sends a line. After an error the connection is of no use any more.
    pub(crate) async fn send(&mut self, line: &LogLine) -> io::Result<()> {
        match self {
            Self::Syslog(remote) => remote.send(line).await,
            Self::Gelf(remote) => remote.send(line).await,
            Self::Fluentd(remote) => remote.send(line).await,
            Self::Journald(remote) => remote.send(line).await,
        }
    }
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
        "gelf" => &["gelf-address", "gelf-compression-type", "gelf-compression-level"],
        "fluentd" => &["fluentd-address", "fluentd-sub-second-precision", "fluentd-async"],
        "journald" => &[],
        _ => return Err(format!("no log driver named '{driver}' is registered")),
    };
    for option in options.keys() {
        let kept = ["max-size", "max-file", "max-age", "mode", "max-buffer-size"];
        if !own.contains(&option.as_str()) && !COMMON.contains(&option.as_str()) && !kept.contains(&option.as_str()) {
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
        ] {
            let error = with(driver, option, value).unwrap_err();
            assert!(error.contains(why), "{driver} {option}: {error}");
        }
    }
}
