//! Times as clients write and read them. The engine has nanoseconds since 1970, 0 for never.

use std::time::{SystemTime, UNIX_EPOCH};

use engine_api::ZERO_TIME;
use jiff::Timestamp;

use crate::error::Error;

const SECOND: i64 = 1_000_000_000;

/// RFC 3339 with as many digits as needed, as Go writes it; Go's zero time for never.
pub(crate) fn rfc3339(nanos: i64) -> String {
    if nanos == 0 {
        return ZERO_TIME.to_owned();
    }
    Timestamp::from_nanosecond(nanos.into()).map_or_else(|_| ZERO_TIME.to_owned(), |time| time.to_string())
}

/// RFC 3339 in whole seconds.
pub(crate) fn rfc3339_seconds(time: SystemTime) -> String {
    rfc3339(nanos_of(time) / SECOND * SECOND)
}

/// Whole seconds since 1970.
pub(crate) fn seconds(nanos: i64) -> i64 {
    nanos.div_euclid(SECOND)
}

/// Nanoseconds since 1970.
pub(crate) fn nanos_of(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// Nanoseconds since 1970, now.
pub(crate) fn now() -> i64 {
    nanos_of(SystemTime::now())
}

/// Seconds since 1970 of a time in RFC 3339; 0 when it is none.
pub(crate) fn seconds_of(text: &str) -> i64 {
    text.parse::<Timestamp>().map_or(0, Timestamp::as_second)
}

/// Reads `seconds[.fraction]` since 1970, or RFC 3339; None for empty text and for 0.
pub(crate) fn parse(name: &str, text: &str) -> Result<Option<i64>, Error> {
    let invalid =
        || Error::invalid(format!("invalid value for \"{name}\": {text:?} is neither seconds since 1970 nor RFC 3339"));
    if text.is_empty() {
        return Ok(None);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanos = match whole.parse::<i64>() {
        Ok(whole) => {
            if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(invalid());
            }
            let digits = format!("{fraction:0<9.9}");
            let fraction: i64 = digits.parse().map_err(|_| invalid())?;
            whole.checked_mul(SECOND).and_then(|whole| whole.checked_add(fraction)).ok_or_else(invalid)?
        }
        Err(_) => {
            let time: Timestamp = text.parse().map_err(|_| invalid())?;
            i64::try_from(time.as_nanosecond()).map_err(|_| invalid())?
        }
    };
    Ok((nanos != 0).then_some(nanos))
}

/// Reads the filter `until`: a time, or how long ago that is as Go writes durations, such as `1h30m`. Nanoseconds since 1970.
pub(crate) fn until(text: &str) -> Result<i64, Error> {
    match go_duration(text) {
        Some(ago) => Ok(now().saturating_sub(ago)),
        None => Ok(parse("until", text)?.unwrap_or(0)),
    }
}

/// Nanoseconds of a duration such as `1h30m` or `1.5h`; None when it is none.
fn go_duration(text: &str) -> Option<i64> {
    let mut nanos = 0_f64;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let unit = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        nanos += number.parse::<f64>().ok()? * unit;
        rest = tail;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a conversion of a float saturates")]
    Some(nanos as i64)
}

/// How long that is, in Docker's words.
pub(crate) fn human(nanos: i64) -> String {
    let seconds = nanos.max(0) / SECOND;
    let minutes = seconds / 60;
    // Half an hour and more counts as one.
    let hours = (seconds + 1800) / 3600;
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_are_written_as_go_does() {
        assert_eq!(rfc3339(0), "0001-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_700_000_000_000_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339(1_700_000_000_120_000_000), "2023-11-14T22:13:20.12Z");
        assert_eq!(rfc3339(1_700_000_000_000_000_001), "2023-11-14T22:13:20.000000001Z");
        assert_eq!(seconds_of("2023-11-14T22:13:20.5Z"), 1_700_000_000);
    }

    #[test]
    fn times_are_read_in_both_forms() {
        let parse = |text| parse("since", text).unwrap();
        assert_eq!(parse(""), None);
        assert_eq!(parse("0"), None);
        assert_eq!(parse("1700000000"), Some(1_700_000_000_000_000_000));
        assert_eq!(parse("1700000000.000000001"), Some(1_700_000_000_000_000_001));
        assert_eq!(parse("1700000000.5"), Some(1_700_000_000_500_000_000));
        assert_eq!(parse("2023-11-14T22:13:20Z"), Some(1_700_000_000_000_000_000));
        for text in ["x", "1.x", "99999999999999999", "2023-11-14"] {
            assert!(super::parse("since", text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(go_duration("1h30m"), Some(5_400 * SECOND));
        assert_eq!(go_duration("1.5s"), Some(SECOND * 3 / 2));
        for text in ["", "1", "h", "1x", "2023-11-14T22:13:20Z"] {
            assert_eq!(go_duration(text), None, "{text}");
        }
        assert!(until("1h").unwrap() < now());
        assert_eq!(until("1700000000").unwrap(), 1_700_000_000 * SECOND);
    }

    #[test]
    fn durations_are_told_in_dockers_words() {
        let minute = 60;
        let hour = 60 * minute;
        let day = 24 * hour;
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (minute, "About a minute"),
            (2 * minute, "2 minutes"),
            (hour, "About an hour"),
            (90 * minute, "2 hours"),
            (2 * day, "2 days"),
            (15 * day, "2 weeks"),
            (61 * day, "2 months"),
            (800 * day, "2 years"),
        ] {
            assert_eq!(human(seconds * SECOND), text);
        }
    }
}
