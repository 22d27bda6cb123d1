//! Numbers, durations and sizes as users write them.
//!
//! A number has exactly one spelling, as in the server itself: no sign but `-`, no leading zero, no blank. Durations and
//! sizes are such a number and a unit, in either case: `500ms 30s 15m 2h 7d`, `512 64kb 10mb 1gb`.

use crate::{Error, Result};

/// Durations, the largest unit first.
const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 24 * 60 * 60 * 1000), ("h", 60 * 60 * 1000), ("m", 60 * 1000), ("s", 1000), ("ms", 1)];

/// Zero as it is written: every unit divides it, so none is its largest.
const ZERO_DURATION: &str = "0s";

/// Sizes, the largest unit first. Powers of 1024, as in the server's own configuration.
const SIZE_UNITS: [(&str, u64); 4] = [("gb", 1 << 30), ("mb", 1 << 20), ("kb", 1 << 10), ("b", 1)];

/// The longest duration: half of what a signed integer holds, so that a moment and two durations can still be added.
const MAX_DURATION_MS: u64 = i64::MAX as u64 / 2;

/// The largest size: replies carry sizes as signed integers.
const MAX_SIZE_BYTES: u64 = i64::MAX as u64;

/// How much of a refused text an error repeats.
const EXCERPT_CHARS: usize = 64;

/// Whether a duration may be a plain number, meaning milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitRule {
    /// In commands: a plain number is milliseconds.
    Optional,
    /// In policies and configs, where `TTL 3600` would be read as seconds: only zero needs no unit.
    Required,
}

/// Reads a duration: `500ms 30s 15m 2h 7d`.
pub fn parse_duration_ms(text: &[u8], unit: UnitRule) -> Result<u64> {
    let refused = |why: &str| Error::invalid(format!("invalid duration '{}', {why}", excerpt(text)));
    let form = match unit {
        UnitRule::Optional => "use a number and a unit such as 500ms 30s 15m 2h 7d, or plain milliseconds",
        UnitRule::Required => "use a number and a unit such as 500ms 30s 15m 2h 7d",
    };

    let (number, suffix) = split_unit(text).ok_or_else(|| refused(form))?;
    let factor = match (suffix, unit) {
        (b"", UnitRule::Optional) => 1,
        (b"", UnitRule::Required) if number == b"0" => 1,
        _ => factor_of(suffix, &DURATION_UNITS).ok_or_else(|| refused(form))?,
    };
    scale(number, factor, MAX_DURATION_MS).ok_or_else(|| refused("it is too long"))
}

/// Reads a size in bytes: `512 64kb 10mb 1gb`.
pub fn parse_size(text: &[u8]) -> Result<u64> {
    let refused = |why: &str| Error::invalid(format!("invalid size '{}', {why}", excerpt(text)));
    let form = "use bytes or a number and a unit such as 512 64kb 10mb 1gb";

    let (number, suffix) = split_unit(text).ok_or_else(|| refused(form))?;
    let factor = match suffix {
        b"" => 1,
        _ => factor_of(suffix, &SIZE_UNITS).ok_or_else(|| refused(form))?,
    };
    scale(number, factor, MAX_SIZE_BYTES).ok_or_else(|| refused("it is too large"))
}

/// Writes a duration in the largest unit that is exact, such that [`parse_duration_ms`] reads it back.
pub fn format_duration(ms: u64) -> String {
    exact(ms, &DURATION_UNITS).unwrap_or_else(|| ZERO_DURATION.to_owned())
}

/// Writes a size in the largest unit that is exact (bytes without a unit), such that [`parse_size`] reads it back.
#[cfg(test)]
fn format_size(bytes: u64) -> String {
    let units = SIZE_UNITS.iter().filter(|(_, factor)| *factor > 1);
    exact(bytes, units).unwrap_or_else(|| bytes.to_string())
}

/// Reads a signed integer in its only spelling: `-0`, `+1`, `01` and blanks are refused.
pub fn parse_i64(text: &[u8]) -> Result<i64> {
    let number = match text.strip_prefix(b"-") {
        Some(b"0") => None,
        Some(digits) => amount(digits).and_then(|amount| 0_i64.checked_sub_unsigned(amount)),
        None => amount(text).and_then(|amount| amount.try_into().ok()),
    };
    number.ok_or_else(|| Error::NotAnInteger)
}

/// Reads an unsigned integer in its only spelling.
pub fn parse_u64(text: &[u8]) -> Result<u64> {
    amount(text).ok_or_else(|| Error::NotAnInteger)
}

/// The start of a text that was refused, fit for an error reply: bounded, one line, valid UTF-8.
pub(crate) fn excerpt(text: &[u8]) -> String {
    // No character is longer than four bytes, so a huge argument need not be converted to show its start.
    let start = text.get(..EXCERPT_CHARS * 4).unwrap_or(text);
    let shown = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    String::from_utf8_lossy(start).chars().take(EXCERPT_CHARS).map(shown).collect()
}

/// What digits say, in their only spelling.
fn amount(digits: &[u8]) -> Option<u64> {
    if matches!(digits, [] | [b'0', _, ..]) {
        return None;
    }
    digits.iter().try_fold(0_u64, |amount, digit| {
        let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
        amount.checked_mul(10)?.checked_add(digit.into())
    })
}

/// Digits and what follows them; nothing when the digits are missing or not in their only spelling.
fn split_unit(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, suffix) = text.split_at_checked(digits)?;
    match number {
        [] | [b'0', _, ..] => None,
        _ => Some((number, suffix)),
    }
}

fn factor_of(suffix: &[u8], units: &[(&str, u64)]) -> Option<u64> {
    let unit = units.iter().find(|(name, _)| suffix.eq_ignore_ascii_case(name.as_bytes()));
    unit.map(|(_, factor)| *factor)
}

fn scale(number: &[u8], factor: u64, max: u64) -> Option<u64> {
    let product = parse_u64(number).ok()?.checked_mul(factor)?;
    (product <= max).then_some(product)
}

/// The value in the first unit that divides it; nothing for zero, which every unit divides.
fn exact<'a>(value: u64, units: impl IntoIterator<Item = &'a (&'a str, u64)>) -> Option<String> {
    let divides = |(_, factor): &&(&str, u64)| value > 0 && value.is_multiple_of(*factor);
    let (name, factor) = units.into_iter().find(divides)?;
    Some(format!("{}{name}", value / factor))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn durations() {
        let day = 24 * 60 * 60 * 1000;
        let half = i64::MAX / 2;
        let cases = [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("15m", Some(900_000)),
            ("2h", Some(7_200_000)),
            ("7d", Some(7 * day)),
            ("2H", Some(7_200_000)),
            ("5Ms", Some(5)),
            ("0s", Some(0)),
            ("0d", Some(0)),
            (&format!("{half}ms"), Some(half as u64)),
            (&format!("{}ms", half + 1), None),
            (&format!("{}d", half as u64 / day), Some(half as u64 / day * day)),
            (&format!("{}d", half as u64 / day + 1), None),
            ("18446744073709551616ms", None),
            ("18446744073709551615d", None),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("+1s", None),
            ("01s", None),
            ("00s", None),
            (" 1s", None),
            ("1s ", None),
            ("1 s", None),
            ("1.5h", None),
            ("1h30m", None),
            ("1w", None),
            ("1sec", None),
            ("1s\0", None),
            ("0x1s", None),
        ];
        for (text, expected) in cases {
            for rule in [UnitRule::Optional, UnitRule::Required] {
                let read = parse_duration_ms(text.as_bytes(), rule);
                assert_eq!(read.as_ref().ok(), expected.as_ref(), "{text:?} {rule:?}: {read:?}");
            }
        }
    }

    #[test]
    fn durations_without_a_unit() {
        let cases: [(&str, Option<u64>, Option<u64>); 4] =
            [("0", Some(0), Some(0)), ("1500", Some(1500), None), ("00", None, None), ("-1", None, None)];
        for (text, optional, required) in cases {
            assert_eq!(parse_duration_ms(text.as_bytes(), UnitRule::Optional).ok(), optional, "{text:?}");
            assert_eq!(parse_duration_ms(text.as_bytes(), UnitRule::Required).ok(), required, "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        let cases = [
            ("0", Some(0)),
            ("512", Some(512)),
            ("512b", Some(512)),
            ("64kb", Some(64 << 10)),
            ("64KB", Some(64 << 10)),
            ("10mB", Some(10 << 20)),
            ("1gb", Some(1 << 30)),
            ("9223372036854775807", Some(i64::MAX as u64)),
            ("9223372036854775808", None),
            ("8589934591gb", Some(8_589_934_591 << 30)),
            ("8589934592gb", None),
            ("18446744073709551615gb", None),
            ("", None),
            ("kb", None),
            // In the server's configuration `k` is 1000; two meanings of nearly the same word help nobody.
            ("1k", None),
            ("1tb", None),
            ("-1", None),
            ("01", None),
            ("1.5mb", None),
            ("1 mb", None),
            ("1mb ", None),
        ];
        for (text, expected) in cases {
            let read = parse_size(text.as_bytes());
            assert_eq!(read.as_ref().ok(), expected.as_ref(), "{text:?}: {read:?}");
        }
    }

    #[test]
    fn written_and_read_back() {
        let durations = [
            (0, "0s"),
            (1, "1ms"),
            (1500, "1500ms"),
            (2000, "2s"),
            (90_000, "90s"),
            (900_000, "15m"),
            (3_600_000, "1h"),
            (86_400_000, "1d"),
            (MAX_DURATION_MS, "4611686018427387903ms"),
        ];
        for (ms, text) in durations {
            assert_eq!(format_duration(ms), text);
            assert_eq!(parse_duration_ms(text.as_bytes(), UnitRule::Required), Ok(ms));
        }
        let sizes = [
            (0, "0"),
            (512, "512"),
            (1500, "1500"),
            (65_536, "64kb"),
            (10 << 20, "10mb"),
            (1 << 30, "1gb"),
            (1 << 40, "1024gb"),
            (MAX_SIZE_BYTES, "9223372036854775807"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(format_size(bytes), text);
            assert_eq!(parse_size(text.as_bytes()), Ok(bytes));
        }
    }

    #[test]
    fn integers() {
        let cases: [(&str, Option<i64>, Option<u64>); 17] = [
            ("0", Some(0), Some(0)),
            ("7", Some(7), Some(7)),
            ("-7", Some(-7), None),
            ("9223372036854775807", Some(i64::MAX), Some(i64::MAX as u64)),
            ("9223372036854775808", None, Some(1 << 63)),
            ("-9223372036854775808", Some(i64::MIN), None),
            ("-9223372036854775809", None, None),
            ("18446744073709551615", None, Some(u64::MAX)),
            ("18446744073709551616", None, None),
            ("", None, None),
            ("-", None, None),
            ("-0", None, None),
            ("--1", None, None),
            ("+1", None, None),
            ("01", None, None),
            (" 1", None, None),
            ("1e3", None, None),
        ];
        for (text, signed, unsigned) in cases {
            assert_eq!(parse_i64(text.as_bytes()), signed.ok_or(Error::NotAnInteger), "{text:?}");
            assert_eq!(parse_u64(text.as_bytes()), unsigned.ok_or(Error::NotAnInteger), "{text:?}");
        }
        assert_eq!(parse_i64(b"1\xff"), Err(Error::NotAnInteger));
    }

    #[test]
    fn errors_say_what_was_wrong() {
        let refused = |text: &[u8], rule| parse_duration_ms(text, rule).unwrap_err().reply().into_owned();
        assert_eq!(
            refused(b"30", UnitRule::Required),
            "ERR invalid duration '30', use a number and a unit such as 500ms 30s 15m 2h 7d"
        );
        assert_eq!(
            refused(b"soon", UnitRule::Optional),
            "ERR invalid duration 'soon', use a number and a unit such as 500ms 30s 15m 2h 7d, or plain milliseconds"
        );
        assert_eq!(
            refused(b"999999999999d", UnitRule::Required),
            "ERR invalid duration '999999999999d', it is too long"
        );
        assert_eq!(
            parse_size(b"1k").unwrap_err().reply(),
            "ERR invalid size '1k', use bytes or a number and a unit such as 512 64kb 10mb 1gb"
        );
    }

    #[test]
    fn excerpts_are_short_and_of_one_line() {
        let wide = "😀".repeat(65);
        let cases: [(&[u8], String); 6] = [
            (b"", String::new()),
            (b"30", "30".to_owned()),
            (b"a\r\n\0b", "a\u{fffd}\u{fffd}\u{fffd}b".to_owned()),
            (b"\xff", "\u{fffd}".to_owned()),
            (&[b'x'; 1000], "x".repeat(64)),
            (wide.as_bytes(), "😀".repeat(64)),
        ];
        for (text, expected) in cases {
            assert_eq!(excerpt(text), expected);
        }
    }
}
