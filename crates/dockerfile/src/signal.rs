//! Signals of Linux, by name or number: `STOPSIGNAL`.

use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A signal's number, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(u8);

/// A text that names no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a signal")]
pub struct ParseSignalError(String);

/// The names without `SIG`; signal(7) for x86 and Arm.
const NAMES: [(&str, u8); 36] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMIN", REALTIME_FIRST),
    ("RTMAX", REALTIME_LAST),
];

const REALTIME_FIRST: u8 = 34;
const REALTIME_LAST: u8 = 64;

impl Signal {
    /// The number, 1 to 64.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }
}

impl FromStr for Signal {
    type Err = ParseSignalError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseSignalError(text.chars().take(50).collect());
        if let Ok(number) = text.parse::<i64>() {
            return match u8::try_from(number) {
                Ok(number @ 1..=REALTIME_LAST) => Ok(Self(number)),
                _ => Err(wrong()),
            };
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let named = NAMES.iter().find(|(known, _)| *known == name);
        if let Some((_, number)) = named {
            return Ok(Self(*number));
        }
        let distance = |digits: &str| match digits.parse::<u8>() {
            Ok(distance) if !digits.starts_with('+') => Ok(distance),
            _ => Err(wrong()),
        };
        let number = if let Some(digits) = name.strip_prefix("RTMIN+") {
            REALTIME_FIRST.checked_add(distance(digits)?)
        } else if let Some(digits) = name.strip_prefix("RTMAX-") {
            REALTIME_LAST.checked_sub(distance(digits)?)
        } else {
            None
        };
        match number {
            Some(number @ REALTIME_FIRST..=REALTIME_LAST) => Ok(Self(number)),
            _ => Err(wrong()),
        }
    }
}

impl Serialize for Signal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_numbers() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("sigterm", 15),
            ("TERM", 15),
            ("9", 9),
            ("64", 64),
            ("SIGRTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmax-1", 63),
        ] {
            assert_eq!(text.parse(), Ok(Signal(number)), "{text}");
        }
        for text in [
            "",
            "0",
            "-1",
            "65",
            "SIG",
            "SIGFOO",
            "RTMIN+31",
            "RTMAX-31",
            "RTMIN++1",
            "RTMIN-1",
            "RTMIN+256",
        ] {
            assert_eq!(
                text.parse::<Signal>(),
                Err(ParseSignalError(text.to_owned())),
                "{text}"
            );
        }
    }
}
