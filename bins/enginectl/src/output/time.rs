//! Times and durations as people write and read them, in Docker's words.

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};

/// How long, in words: `About a minute`, `3 hours`.
pub(crate) fn human_duration(seconds: i64) -> String {
    let hours = (seconds + 1800) / 3600;
    match seconds {
        i64::MIN..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{} minutes", seconds / 60),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// How long ago that was, in words; nothing of Go's zero time.
pub(crate) fn ago(then_seconds: i64, now_seconds: i64) -> String {
    if then_seconds <= GO_ZERO_SECONDS {
        return "N/A".to_owned();
    }
    format!("{} ago", human_duration(now_seconds - then_seconds))
}

/// Go's zero time (year 1) in Unix seconds.
pub(crate) const GO_ZERO_SECONDS: i64 = -62_135_596_800;

/// Seconds since the epoch, now.
pub(crate) fn now_seconds() -> i64 {
    Timestamp::now().as_second()
}

/// A local time as Go prints it: `2026-01-02 15:04:05 +0100 CET`.
pub(crate) fn local(seconds: i64) -> String {
    in_zone(seconds, TimeZone::system())
}

fn in_zone(seconds: i64, zone: TimeZone) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| "N/A".to_owned(), |time| go_form(time, zone))
}

fn go_form(time: Timestamp, zone: TimeZone) -> String {
    time.to_zoned_datetime(zone).strftime("%Y-%m-%d %H:%M:%S%.f %z %Z").to_string()
}

/// A local time as RFC 3339 in seconds.
pub(crate) fn rfc3339(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => zulu(time.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()),
        Err(_) => "N/A".to_owned(),
    }
}

/// A local time as RFC 3339 with nine digits of a second, as the events command shows it.
pub(crate) fn rfc3339_nanos(nanos: i128) -> String {
    match Timestamp::from_nanosecond(nanos) {
        Ok(time) => zulu(time.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string()),
        Err(_) => nanos.to_string(),
    }
}

/// No offset is written as `Z`.
fn zulu(text: String) -> String {
    match text.strip_suffix("+00:00") {
        Some(time) => format!("{time}Z"),
        None => text,
    }
}

/// A time of the wire as local time in Go's form; empty if it is no time.
pub(crate) fn local_of(text: &str) -> String {
    text.parse::<Timestamp>().map_or_else(|_| String::new(), |time| go_form(time, TimeZone::system()))
}

/// What `--since` and `--until` take, as the daemon wants it: a duration back from now (`10m`, `1h30m`), Unix seconds
/// (passed on with their fraction), or a date with as much of a time and zone as was written.
pub(crate) fn timestamp(text: &str, now: Timestamp) -> Result<String, String> {
    if let Ok(nanos) = parse_duration(text)
        && text.parse::<f64>().is_err()
    {
        let at = now.checked_sub(SignedDuration::from_nanos(nanos)).map_err(|error| error.to_string())?;
        return Ok(seconds_nanos(at));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && text.parse::<f64>().is_ok() {
        return Ok(text.to_owned());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(seconds_nanos(time));
    }
    let civil = civil_time(text).ok_or_else(|| format!("failed to parse value as time or duration: {text:?}"))?;
    let zoned = civil.to_zoned_datetime(TimeZone::system()).map_err(|error| error.to_string())?;
    Ok(seconds_nanos(zoned.timestamp()))
}

fn civil_time(text: &str) -> Option<civil::DateTime> {
    let text = text.replacen(' ', "T", 1);
    if let Ok(time) = text.parse::<civil::DateTime>() {
        return Some(time);
    }
    ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H"].iter().find_map(|form| {
        let parts = jiff::fmt::strtime::parse(form, &text).ok()?;
        let date = parts.to_date().ok()?;
        Some(date.at(parts.hour()?, parts.minute().unwrap_or(0), 0, 0))
    })
}

fn seconds_nanos(time: Timestamp) -> String {
    format!("{}.{:09}", time.as_second(), time.subsec_nanosecond())
}

/// Nanoseconds of a Go duration: `1h30m`, `1.5s`, `250ms`, `0`.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid duration {text:?}: write it as 30s, 5m or 1h30m");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let unit_length = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..unit_length] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(invalid()),
        };
        total += number * unit;
        rest = &rest[unit_length..];
    }
    if total >= i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(if negative { -(total as i64) } else { total as i64 })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations_read_as_docker_words_them() {
        for (seconds, text) in [
            (-5, "Less than a second"),
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (3600 * 47, "47 hours"),
            (3600 * 48, "2 days"),
            (86400 * 13, "13 days"),
            (86400 * 14, "2 weeks"),
            (86400 * 59, "8 weeks"),
            (86400 * 60, "2 months"),
            (86400 * 729, "24 months"),
            (86400 * 730, "2 years"),
        ] {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
        assert_eq!(ago(100, 220), "2 minutes ago");
        assert_eq!(ago(GO_ZERO_SECONDS, 220), "N/A");
    }

    #[test]
    fn go_durations() {
        for (text, nanos) in [
            ("0", 0),
            ("1s", 1_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("250ms", 250_000_000),
            ("-1s", -1_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(nanos), "{text}");
        }
        for text in ["", "1", "s", "1x", "1 s", "1.2.3s", "99999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn since_takes_durations_seconds_and_dates() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let check = |text: &str, expected: &str| assert_eq!(timestamp(text, now).unwrap(), expected, "{text}");
        check("5s", "1767323040.000000000");
        check("1767323040", "1767323040");
        check("1767323040.5", "1767323040.5");
        check("2026-01-02T03:04:00Z", "1767323040.000000000");
        check("2026-01-02T04:04:00+01:00", "1767323040.000000000");
        check("2026-01-02T03:04:00.25Z", "1767323040.250000000");
        assert!(timestamp("2026-01-02", now).is_ok());
        assert!(timestamp("2026-01-02T03:04", now).is_ok());
        assert!(timestamp("2026-01-02 03:04:05", now).is_ok());
        assert!(timestamp("yesterday", now).is_err());
    }

    #[test]
    fn local_times_are_go_s() {
        assert_eq!(in_zone(1_767_323_045, TimeZone::UTC), "2026-01-02 03:04:05 +0000 UTC");
        let time: Timestamp = "2026-01-02T03:04:05.0012Z".parse().unwrap();
        assert_eq!(go_form(time, TimeZone::UTC), "2026-01-02 03:04:05.0012 +0000 UTC");
        assert_eq!(zulu("2026-01-02T03:04:05+00:00".to_owned()), "2026-01-02T03:04:05Z");
        assert_eq!(zulu("2026-01-02T03:04:05+01:00".to_owned()), "2026-01-02T03:04:05+01:00");
    }
}
