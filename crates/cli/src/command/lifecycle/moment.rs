//! Moments as flags have them: `--since`, `--until`.

use std::str::FromStr;

use firebuild_core::duration;
use jiff::{SignedDuration, Timestamp};

/// A moment: `10m` ago, `2026-11-21T10:00:00Z`, or seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) Timestamp);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        at(text, Timestamp::now()).map(Self).ok_or_else(|| {
            let text: String = text.chars().take(100).collect();
            format!(
                "`{text}` is not a moment; write how long ago, such as `10m`, a time such as `2026-11-21T10:00:00Z`, or seconds since 1970"
            )
        })
    }
}

fn at(text: &str, now: Timestamp) -> Option<Timestamp> {
    let number = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if number && !text.is_empty() {
        let (seconds, part) = text.split_once('.').unwrap_or((text, "0"));
        let nanoseconds: i32 = format!("{part:0<9}").get(..9)?.parse().ok()?;
        return Timestamp::new(seconds.parse().ok()?, nanoseconds).ok();
    }
    if let Ok(ago) = duration::parse(text) {
        return now.checked_sub(SignedDuration::try_from(ago).ok()?).ok();
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_a_moment() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("10m", Some("2026-11-21T09:50:00Z")),
            ("1h30m", Some("2026-11-21T08:30:00Z")),
            ("1700000000", Some("2023-11-14T22:13:20Z")),
            ("1700000000.5", Some("2023-11-14T22:13:20.5Z")),
            ("2026-01-02T03:04:05+01:00", Some("2026-01-02T02:04:05Z")),
            ("", None),
            ("yesterday", None),
            ("1.2.3", None),
            ("99999999999999999999", None),
        ] {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(at(text, now), expected, "{text}");
        }
    }
}
