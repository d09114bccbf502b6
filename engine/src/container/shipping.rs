//! Output on its way to a syslog, a journal, a fluentd or a GELF server: one task for each running container that has such a
//! driver, which reads the log as it grows. How far it has come is written down, so that the next engine sends on from there,
//! also what a container wrote that has ended meanwhile.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use regex::Regex;

use super::inventory::{Inner, Shared};
use super::record::Record;
use super::{Config, Error};
use crate::logs::LogOptions;
use crate::logs::remote::{self, DRIVERS, Partials, Remote, Source};

/// The file in the container's directory that tells how far sending has come.
const PLACE: &str = "sent";
/// The longest attributes of a record, in bytes as they are written.
const MAX_ATTRIBUTES: usize = 16 << 10;
/// How long the last lines of a container may take before it is removed.
const LAST_LINES: Duration = Duration::from_secs(5);
/// How long the lines of a container that has ended are tried to be sent to somebody who is not there.
const AFTERWARDS: Duration = Duration::from_secs(600);

/// Whether output is sent elsewhere.
pub(super) fn is_remote(config: &Config) -> bool {
    DRIVERS.contains(&config.host.log.driver.as_str())
}

/// The labels and variables that the options of a log driver ask for, and the tag when one was given.
pub(super) fn attributes(record: &Record) -> Result<BTreeMap<String, String>, Error> {
    let config = &record.config;
    let options = &config.host.log.options;
    let regex = |name: &str| match options.get(name) {
        Some(text) => {
            Regex::new(text).map(Some).map_err(|error| Error::invalid(format!("invalid value for {name}: {error}")))
        }
        None => Ok(None),
    };
    let mut attributes = BTreeMap::new();
    let mut pick = |names: &str, pattern: &str, all: Vec<(&str, &str)>| {
        let wanted: Vec<&str> = options.get(names).map(|names| names.split(',').collect()).unwrap_or_default();
        let pattern = regex(pattern)?;
        for (name, value) in all {
            if wanted.contains(&name) || pattern.as_ref().is_some_and(|pattern| pattern.is_match(name)) {
                attributes.insert(name.to_owned(), value.to_owned());
            }
        }
        Ok::<_, Error>(())
    };
    pick(
        "labels",
        "labels-regex",
        config.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
    )?;
    pick("env", "env-regex", config.env.iter().filter_map(|entry| entry.split_once('=')).collect())?;
    Ok(attributes)
}

/// What `--details` shows of each line.
pub(super) fn details(record: &Record) -> Result<BTreeMap<String, String>, Error> {
    let mut details = attributes(record)?;
    if record.config.host.log.options.contains_key("tag") {
        details.insert("tag".to_owned(), tag(record)?);
    }
    Ok(details)
}

/// What every record of a log of Docker's form has as its attributes: a JSON object as Docker writes it, or nothing.
pub(super) fn record_attributes(record: &Record) -> Result<String, Error> {
    if record.config.host.log.driver != "json-file" {
        return Ok(String::new());
    }
    let details = details(record)?;
    if details.is_empty() {
        return Ok(String::new());
    }
    let plain = serde_json::to_string(&details)
        .map_err(|error| Error::Internal(format!("write the attributes of a log: {error}")))?;
    // As Go does, so that it may stand in HTML.
    let escaped =
        [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];
    let object = escaped.into_iter().fold(plain, |text, (character, escape)| text.replace(character, escape));
    if object.len() > MAX_ATTRIBUTES {
        return Err(Error::invalid(format!(
            "the labels, variables and the tag that every record of the log is to have are {} bytes long: at most {MAX_ATTRIBUTES} are possible",
            object.len()
        )));
    }
    Ok(object)
}

/// What tells containers apart where their lines come together: a template of Docker's words.
pub(super) fn tag(record: &Record) -> Result<String, Error> {
    let template = record.config.host.log.options.get("tag").map_or("{{.ID}}", String::as_str);
    let mut tag = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let unknown = || {
            Error::invalid(format!(
                "invalid log tag {template:?}: use {{{{.ID}}}}, {{{{.FullID}}}}, {{{{.Name}}}}, {{{{.ImageID}}}}, {{{{.ImageFullID}}}}, {{{{.ImageName}}}} and {{{{.DaemonName}}}}"
            ))
        };
        let (word, after) = after.split_once("}}").ok_or_else(unknown)?;
        tag.push_str(before);
        let image = record.image.as_str();
        tag.push_str(match word.trim() {
            ".ID" => record.id.short(),
            ".FullID" => record.id.as_str(),
            ".Name" => &record.name,
            ".ImageID" => image.strip_prefix("sha256:").unwrap_or(image).get(..12).unwrap_or(image),
            ".ImageFullID" => image,
            ".ImageName" => &record.config.image,
            ".DaemonName" => "engine",
            _ => return Err(unknown()),
        });
        rest = after;
    }
    tag.push_str(rest);
    Ok(tag)
}

fn source(record: &Record) -> Result<Source, Error> {
    let (program, arguments) = record.config.process();
    let created = jiff::Timestamp::from_nanosecond(record.created_at.into()).unwrap_or_default();
    Ok(Source {
        id: record.id.to_string(),
        name: record.name.clone(),
        image: record.config.image.clone(),
        image_id: record.image.to_string(),
        command: [&[program], &arguments[..]].concat().join(" "),
        created: created.to_string(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        tag: tag(record)?,
        attributes: attributes(record)?,
    })
}

/// Refuses to start a container whose output could not be sent, unless its options take that upon them.
pub(super) async fn reach(record: &Record) -> Result<(), Error> {
    let log = &record.config.host.log;
    if !is_remote(&record.config) || remote::waits(&log.driver, &log.options) {
        return Ok(());
    }
    Remote::connect(&log.driver, &log.options, source(record)?).await.map(drop).map_err(|error| Error::Start {
        code: 128,
        message: format!("failed to create task for container: failed to initialize logging driver: {error}"),
    })
}

/// Sends what a container has written since the last line that was sent, and what it writes until it ends. Must be called within
/// a tokio runtime.
pub(super) fn begin(shared: &Arc<Shared>, inner: &Arc<Inner>) {
    if !is_remote(&inner.record().config) {
        return;
    }
    // Taken here, so that whoever waits for the last lines finds that they are being sent. Whoever sends already goes on with
    // this run.
    let mut turn = Arc::clone(&inner.shipping).try_lock_owned();
    let (shared, inner) = (Arc::clone(shared), Arc::clone(inner));
    tokio::spawn(async move {
        let mut running = inner.running.subscribe();
        while let Ok(alone) = turn {
            let shipped = ship(&shared, &inner).await;
            drop(alone);
            if let Err(error) = shipped {
                tracing::error!(container = %inner.id, %error, "the output of a container is not sent any more");
                return;
            }
            if !*running.borrow_and_update() || shared.open().is_err() {
                return;
            }
            turn = Arc::clone(&inner.shipping).try_lock_owned();
        }
    });
}

/// Waits until the last lines of a container that has ended are sent, for a while.
pub(super) async fn last_lines(inner: &Inner) {
    if is_remote(&inner.record().config) {
        let _ = tokio::time::timeout(LAST_LINES, inner.shipping.lock()).await;
    }
}

async fn ship(shared: &Arc<Shared>, inner: &Arc<Inner>) -> Result<(), Error> {
    let record = inner.record();
    let log = &record.config.host.log;
    let directory = shared.directory(&inner.id);
    let (mut last, mut count) = read_place(&directory);
    let mut known = count;
    let mut options = LogOptions::default().follow(true);
    options.since = Some(last).filter(|last| *last > 0);
    let (name, running) = (super::start::log_name(&inner.id), inner.running.subscribe());
    let mut lines = crate::logs::read(&directory, &name, options, running, &shared.watcher);
    let source = source(&record)?;
    let tries = remote::tries(&log.driver, &log.options).map_err(Error::Invalid)?;
    let mut closing = shared.closing.subscribe();
    let (mut remote, mut partials) = (None, Partials::default());
    // Since when nobody takes the lines of a container that has ended.
    let mut in_vain: Option<Instant> = None;
    loop {
        let batch = tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return Ok(()),
            batch = lines.next_batch() => batch,
        };
        let Some(batch) = batch else { return Ok(()) };
        for line in batch? {
            let partial = partials.of(&line);
            if line.at == last && known > 0 {
                known -= 1;
                continue;
            }
            let (mut wait, mut tried) = (tries.first, 0);
            loop {
                let sent = match &mut remote {
                    Some(remote) => {
                        Remote::send(remote, &line, partial.as_ref()).await.map_err(|error| error.to_string())
                    }
                    None => match Remote::connect(&log.driver, &log.options, source.clone()).await {
                        Ok(connected) => {
                            remote = Some(connected);
                            continue;
                        }
                        Err(error) => Err(error),
                    },
                };
                let Err(error) = sent else {
                    in_vain = None;
                    break;
                };
                remote = None;
                if tries.most.is_some_and(|most| tried >= most) {
                    tracing::warn!(container = %inner.id, driver = log.driver, %error, "a line is not sent");
                    break;
                }
                tried += 1;
                if *inner.running.borrow() {
                    in_vain = None;
                } else if in_vain.get_or_insert_with(Instant::now).elapsed() > AFTERWARDS {
                    tracing::warn!(container = %inner.id, driver = log.driver, %error, "the last lines are left to the next start");
                    write_place(&directory, last, count);
                    return Ok(());
                }
                tracing::warn!(container = %inner.id, driver = log.driver, %error, "output cannot be sent at the moment");
                tokio::select! {
                    _ = closing.wait_for(|closing| *closing) => return Ok(()),
                    () = tokio::time::sleep(wait) => wait = (wait * 2).min(tries.longest),
                }
                if inner.is_gone() {
                    return Ok(());
                }
            }
            (last, count) = if line.at == last { (last, count + 1) } else { (line.at, 1) };
        }
        write_place(&directory, last, count);
    }
}

/// The time of the last line that was sent, and how many of that time were.
fn read_place(directory: &Path) -> (i64, u64) {
    let text = std::fs::read_to_string(directory.join(PLACE)).unwrap_or_default();
    let numbers = text.trim().split_once(' ').and_then(|(last, count)| Some((last.parse().ok()?, count.parse().ok()?)));
    numbers.unwrap_or_default()
}

fn write_place(directory: &Path, last: i64, count: u64) {
    // At worst some lines are sent twice.
    let draft = directory.join(format!(".{PLACE}"));
    if std::fs::write(&draft, format!("{last} {count}\n")).is_ok() {
        let _ = std::fs::rename(draft, directory.join(PLACE));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::container::ContainerState;
    use crate::id::ContainerId;

    fn record(options: &[(&str, &str)]) -> Record {
        let mut config = Config { image: "busybox".to_owned(), ..Config::default() };
        config.labels = [("tier".to_owned(), "db".to_owned()), ("other".to_owned(), "x".to_owned())].into();
        config.env = ["A=1", "AB=2", "C=3"].map(str::to_owned).to_vec();
        config.host.log.options =
            options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let image = format!("sha256:{}", "1".repeat(64)).parse().unwrap();
        let mut record = Record::new(ContainerId::random(), image, config, ContainerState::default());
        record.name = "web".to_owned();
        record
    }

    #[test]
    fn labels_and_variables_are_picked() {
        let of = |options: &[(&str, &str)]| {
            details(&record(options))
                .unwrap()
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
                .join(",")
        };
        assert_eq!(of(&[]), "");
        assert_eq!(of(&[("labels", "tier,nope"), ("env", "C")]), "C=3,tier=db");
        assert_eq!(of(&[("labels-regex", "^o"), ("env-regex", "^A")]), "A=1,AB=2,other=x");
        assert_eq!(of(&[("tag", "{{.Name}}/{{.ImageName}}")]), "tag=web/busybox");
        assert!(details(&record(&[("env-regex", "(")])).is_err());
    }

    #[test]
    fn records_have_the_attributes_that_are_asked_for() {
        let mut record = record(&[("labels", "tier"), ("env", "C"), ("tag", "<{{.Name}}>")]);
        assert_eq!(record_attributes(&record).unwrap(), "");
        record.config.host.log.driver = "json-file".to_owned();
        assert_eq!(record_attributes(&record).unwrap(), r#"{"C":"3","tag":"\u003cweb\u003e","tier":"db"}"#);
        record.config.env.push(format!("C={}", "x".repeat(MAX_ATTRIBUTES)));
        assert!(record_attributes(&record).unwrap_err().to_string().contains("at most 16384 are possible"));
        record.config.host.log.options.clear();
        assert_eq!(record_attributes(&record).unwrap(), "");
    }

    #[test]
    fn tags_are_dockers_templates() {
        let web = record(&[]);
        assert_eq!(tag(&web).unwrap(), web.id.short());
        assert_eq!(tag(&record(&[("tag", "a {{ .ImageID }} b")])).unwrap(), "a 111111111111 b");
        for wrong in ["{{.Bogus}}", "{{.ID"] {
            assert!(tag(&record(&[("tag", wrong)])).unwrap_err().to_string().contains("invalid log tag"));
        }
    }

    #[test]
    fn how_far_it_came_is_found_again() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(read_place(place.path()), (0, 0));
        write_place(place.path(), 7, 3);
        assert_eq!(read_place(place.path()), (7, 3));
        std::fs::write(place.path().join(PLACE), "x").unwrap();
        assert_eq!(read_place(place.path()), (0, 0));
    }
}
