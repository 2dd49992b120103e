//! Durations as people write and read them: the one place where they are parsed and printed.

use std::time::Duration;

/// The longest duration that can be written: a hundred years.
const MOST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a duration; write seconds, or numbers with units, such as `10`, `1m30s` or `500ms`"
)]
pub struct ParseDurationError(String);

/// Units, the largest first, in nanoseconds.
const UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Parses a duration: a number of seconds, or numbers with the units `d`, `h`, `m`, `s`, `ms`, `us`
/// and `ns`, each at most once and the largest first. A number may have decimals: `1.5s`.
///
/// # Errors
/// It is none, or longer than a hundred years.
pub fn parse(text: &str) -> Result<Duration, ParseDurationError> {
    let error = || ParseDurationError(text.chars().take(100).collect());
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().map_err(|_| error())?;
        return bounded(Duration::from_secs(seconds)).ok_or_else(error);
    }
    let (mut rest, mut sum, mut least) = (text, Duration::ZERO, 0);
    while !rest.is_empty() {
        let digits = rest
            .bytes()
            .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
            .count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let index = UNITS.iter().position(|(name, _)| *name == unit);
        let index = index.filter(|index| *index >= least).ok_or_else(error)?;
        least = index + 1;
        let part = product(number, UNITS[index].1).ok_or_else(error)?;
        sum = sum.checked_add(part).and_then(bounded).ok_or_else(error)?;
        rest = after;
    }
    Ok(sum)
}

fn bounded(duration: Duration) -> Option<Duration> {
    (duration <= MOST).then_some(duration)
}

/// A decimal number of units of `nanoseconds`.
fn product(number: &str, nanoseconds: u64) -> Option<Duration> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || part.is_empty() || part.len() > 9 || part.contains('.') {
        return None;
    }
    let scale = 10_u128.checked_pow(u32::try_from(part.len()).ok()?)?;
    let whole: u128 = whole.parse().ok()?;
    let part: u128 = part.parse().ok()?;
    let total = whole
        .checked_mul(nanoseconds.into())?
        .checked_add(part * u128::from(nanoseconds) / scale)?;
    Some(Duration::from_nanos(u64::try_from(total).ok()?))
}

/// Prints a duration so that [`parse`] reads the same: `1m30s`, `500ms`, `0s`.
#[must_use]
pub fn print(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    let mut text = String::new();
    for (name, unit) in UNITS {
        let count = rest / u128::from(unit);
        if count > 0 {
            text.push_str(&format!("{count}{name}"));
        }
        rest %= u128::from(unit);
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_forms_that_people_write() {
        for (text, milliseconds) in [
            ("0", 0),
            ("10", 10_000),
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("1.5s", 1_500),
            ("500ms", 500),
            ("2h", 7_200_000),
            ("1d1ms", 86_400_001),
        ] {
            assert_eq!(
                parse(text).map(|d| d.as_millis()),
                Ok(milliseconds),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "s",
            "-1",
            "1x",
            "1s1m",
            "1s1s",
            "1.s",
            ".5s",
            "1..5s",
            "1 s",
            "99999999999999",
            "999999999d",
            "١s",
            "1e3s",
            "1m30",
        ] {
            let parsed = parse(text);
            // An empty text is all digits, and no number.
            assert!(parsed.is_err(), "{text}: {parsed:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(nanoseconds in 0..3_000_000_000_000_000_000_u64) {
            let duration = Duration::from_nanos(nanoseconds);
            prop_assert_eq!(parse(&print(duration)), Ok(duration));
        }

        #[test]
        fn any_text_is_answered(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
