//! Times as Go writes them: `1m30s`, `1.5h`, `300ms`.

use std::time::Duration;

/// A time that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDurationError {
    /// Not numbers with units.
    #[error("`{0}` is not a time")]
    Syntax(String),
    /// A number without a unit.
    #[error("`{0}` has no unit")]
    NoUnit(String),
    /// Over 292 years.
    #[error("`{0}` is too long")]
    Overflow(String),
    /// Above 0 and below a millisecond, or negative.
    #[error("`{0}` is less than 1ms")]
    TooShort(String),
}

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a time of `HEALTHCHECK`: zero (inherited), or at least a millisecond.
///
/// # Errors
/// [`ParseDurationError`].
pub(crate) fn parse_interval(text: &str) -> Result<Duration, ParseDurationError> {
    let shown = || text.chars().take(50).collect::<String>();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let nanoseconds = match digits {
        "0" => 0,
        _ => sum(digits, &shown)?,
    };
    if nanoseconds != 0 && (negative || nanoseconds < 1_000_000) {
        return Err(ParseDurationError::TooShort(shown()));
    }
    Ok(Duration::from_nanos(nanoseconds))
}

fn sum(text: &str, shown: &dyn Fn() -> String) -> Result<u64, ParseDurationError> {
    if text.is_empty() {
        return Err(ParseDurationError::Syntax(shown()));
    }
    let mut total: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let whole = digits(&mut rest);
        let fraction = match rest.strip_prefix('.') {
            Some(behind) => {
                rest = behind;
                digits(&mut rest)
            }
            None => "",
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(ParseDurationError::Syntax(shown()));
        }
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let (unit, behind) = rest.split_at(end);
        if unit.is_empty() {
            return Err(ParseDurationError::NoUnit(shown()));
        }
        let unit = UNITS.iter().find(|(name, _)| *name == unit);
        let (_, unit) = unit.ok_or_else(|| ParseDurationError::Syntax(shown()))?;
        let part = scale(whole, fraction, *unit);
        total = part.map_or(u128::MAX, |part| total.saturating_add(part));
        if total > i64::MAX.unsigned_abs().into() {
            return Err(ParseDurationError::Overflow(shown()));
        }
        rest = behind;
    }
    u64::try_from(total).map_err(|_| ParseDurationError::Overflow(shown()))
}

/// Takes the digits off the beginning.
fn digits<'a>(rest: &mut &'a str) -> &'a str {
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, behind) = rest.split_at(end);
    *rest = behind;
    digits
}

/// `whole.fraction` units in nanoseconds, rounded down; `None` if that is beyond any bound.
fn scale(whole: &str, fraction: &str, unit: u64) -> Option<u128> {
    let whole: u128 = match whole {
        "" => 0,
        digits => digits.parse::<u64>().ok()?.into(),
    };
    // More digits than these are below a nanosecond for every unit.
    let fraction = &fraction[..fraction.len().min(15)];
    let numerator: u128 = match fraction {
        "" => 0,
        digits => digits.parse::<u64>().ok()?.into(),
    };
    let denominator = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    Some(whole * u128::from(unit) + numerator * u128::from(unit) / denominator)
}

/// Writes a time so that [`parse_interval`] reads it back.
pub(crate) fn write(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    let fits = |(_, unit): &&(&str, u64)| nanoseconds.is_multiple_of(u128::from(*unit));
    let largest = UNITS
        .iter()
        .rev()
        .filter(|(name, _)| name.is_ascii())
        .find(fits);
    match largest {
        Some((name, unit)) if nanoseconds > 0 => {
            format!("{}{name}", nanoseconds / u128::from(*unit))
        }
        _ => "0s".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("0s", 0),
            ("+5s", 5_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("2000us", 2_000_000),
            ("2000µs", 2_000_000),
            ("1h2m3s4ms", 3_723_004_000_000),
            ("1ms", 1_000_000),
        ] {
            let duration = Duration::from_nanos(nanoseconds);
            assert_eq!(parse_interval(text), Ok(duration), "{text}");
            assert_eq!(parse_interval(&write(duration)), Ok(duration), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        use ParseDurationError::{NoUnit, Overflow, Syntax, TooShort};
        for (text, error) in [
            ("", Syntax as fn(String) -> _),
            ("s", Syntax),
            (".s", Syntax),
            ("5 s", Syntax),
            ("5d", Syntax),
            ("--5s", Syntax),
            ("5", NoUnit),
            ("1m5", NoUnit),
            ("999us", TooShort),
            ("1ns", TooShort),
            ("-5s", TooShort),
            ("9999999h", Overflow),
            ("99999999999999999999999s", Overflow),
        ] {
            assert_eq!(parse_interval(text), Err(error(text.to_owned())), "{text}");
        }
    }
}
