//! Sizes as people write and read them.

/// A size in bytes with decimal units and so many significant digits, as `1.23MB`.
fn human(size: f64, significant: usize, units: &[&str], base: f64) -> String {
    let mut size = size;
    let mut unit = 0;
    while size >= base && unit + 1 < units.len() {
        size /= base;
        unit += 1;
    }
    format!("{}{}", significant_digits(size, significant), units[unit])
}

/// Go's `%.Ng` for numbers below a million.
fn significant_digits(number: f64, digits: usize) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    let magnitude = number.abs().log10().floor() as i32;
    let decimals = (digits as i32 - 1 - magnitude).max(0) as usize;
    let mut text = format!("{number:.decimals$}");
    // Rounding may have added a digit (999.9 -> 1000): `%g` then turns to an exponent, which Docker shows as 1e+03.
    let whole = text.split('.').next().unwrap_or_default().trim_start_matches('-').len();
    if whole > digits {
        let exponent = whole - 1;
        let mantissa = number / 10f64.powi(exponent as i32);
        let scaled = format!("{mantissa:.*}", digits - 1);
        let scaled = if scaled.contains('.') { scaled.trim_end_matches('0').trim_end_matches('.') } else { &scaled };
        return format!("{scaled}e+{exponent:02}");
    }
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    text
}

const DECIMAL: &[&str] = &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: &[&str] = &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// Decimal units, three significant digits: images and containers.
pub(crate) fn short(bytes: i64) -> String {
    human(bytes as f64, 3, DECIMAL, 1000.0)
}

/// Decimal units, four significant digits: progress.
pub(crate) fn decimal(bytes: i64) -> String {
    human(bytes as f64, 4, DECIMAL, 1000.0)
}

/// Binary units, four significant digits: memory.
pub(crate) fn binary(bytes: i64) -> String {
    human(bytes as f64, 4, BINARY, 1024.0)
}

/// Bytes from `512m`, `1.5g`, `64KiB` or `1024`; units are powers of 1024.
pub(crate) fn parse(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.').map(|at| at + 1).ok_or_else(invalid)?;
    let (number, unit) = (&text[..end], text[end..].trim_start_matches(' '));
    let number: f64 = number.trim().parse().map_err(|_| invalid())?;
    if !number.is_finite() || number < 0.0 {
        return Err(invalid());
    }
    let unit = unit.to_ascii_lowercase();
    let exponent = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if unit == "ib" => return Err(invalid()),
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(invalid()),
    };
    let bytes = number * 1024f64.powi(exponent);
    if bytes >= i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(bytes as i64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_read_as_docker_shows_them() {
        for (bytes, text) in [
            (0, "0B"),
            (1, "1B"),
            (999, "999B"),
            (1000, "1kB"),
            (1_234_567, "1.23MB"),
            (4_261_502, "4.26MB"),
            (77_800_000, "77.8MB"),
            (187_000_000, "187MB"),
            (1_090_000_000, "1.09GB"),
            (999_999, "1e+03kB"),
        ] {
            assert_eq!(short(bytes), text, "{bytes}");
        }
        assert_eq!(decimal(1_234_567), "1.235MB");
        assert_eq!(decimal(49_560_000), "49.56MB");
        assert_eq!(binary(8_326_270_976), "7.754GiB");
        assert_eq!(binary(64 << 20), "64MiB");
    }

    #[test]
    fn sizes_are_read_in_powers_of_1024() {
        for (text, bytes) in [
            ("32", 32),
            ("32b", 32),
            ("32B", 32),
            ("32k", 32 << 10),
            ("32KB", 32 << 10),
            ("32 kib", 32 << 10),
            ("32m", 32 << 20),
            ("1.5g", 3 << 29),
            ("2T", 2 << 40),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "k", "-1", "1x", "1kbb", "1e99", "hello", "32ib", "9999999p"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
