//! Whether a VM whose workload has ended is started again, and after how long: `--restart`.
//!
//! The rules and the words are Docker's: the delay is 100 ms and doubles up to a minute; a workload
//! that ran for ten seconds begins with 100 ms again.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::record::{Exit, State};

/// The first delay.
const FIRST: Duration = Duration::from_millis(100);

/// The longest delay.
const MOST: Duration = Duration::from_secs(60);

/// After how long a workload counts as one that ran.
const RAN: Duration = Duration::from_secs(10);

/// Whether a VM whose workload has ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// If the workload failed, or the VM did.
    OnFailure {
        /// At most so often; without bound if none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_most: Option<u32>,
    },
    /// However it ended, unless somebody stopped it; and when the host starts.
    Always,
    /// The same, but not when the host starts if somebody had stopped it.
    UnlessStopped,
}

/// A text that is no restart policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a restart policy; write `no`, `on-failure`, `on-failure:5`, `always` or `unless-stopped`"
)]
pub struct ParsePolicyError(String);

impl RestartPolicy {
    /// Whether a VM that ended so, by itself, and was started again `count` times already, is to be
    /// started again.
    #[must_use]
    pub fn applies(self, end: &State, count: u32) -> bool {
        let success = matches!(
            end,
            State::Stopped {
                exit: Exit::Status(0)
            }
        );
        match self {
            Self::No => false,
            Self::OnFailure { at_most } => !success && at_most.is_none_or(|most| count < most),
            Self::Always | Self::UnlessStopped => true,
        }
    }

    /// Whether a VM that does not run is to be started when the host starts.
    #[must_use]
    pub fn applies_at_boot(self, was_stopped: bool) -> bool {
        match self {
            Self::No | Self::OnFailure { .. } => false,
            Self::Always => true,
            Self::UnlessStopped => !was_stopped,
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::OnFailure { at_most: None } => f.write_str("on-failure"),
            Self::OnFailure {
                at_most: Some(most),
            } => write!(f, "on-failure:{most}"),
            Self::Always => f.write_str("always"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

impl FromStr for RestartPolicy {
    type Err = ParsePolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParsePolicyError(text.chars().take(100).collect());
        match text.split_once(':') {
            None => match text {
                "no" => Ok(Self::No),
                "on-failure" => Ok(Self::OnFailure { at_most: None }),
                "always" => Ok(Self::Always),
                "unless-stopped" => Ok(Self::UnlessStopped),
                _ => Err(error()),
            },
            Some(("on-failure", most)) if most.bytes().all(|byte| byte.is_ascii_digit()) => {
                let at_most = Some(most.parse().map_err(|_| error())?);
                Ok(Self::OnFailure { at_most })
            }
            Some(_) => Err(error()),
        }
    }
}

/// The delays between one end and the next start.
#[derive(Debug)]
pub(crate) struct Delay(Duration);

impl Delay {
    /// Delays from the beginning.
    pub(crate) fn new() -> Self {
        Self(FIRST)
    }

    /// The next one, after a workload that ran for so long.
    pub(crate) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= RAN {
            self.0 = FIRST;
        }
        let now = self.0;
        self.0 = (now * 2).min(MOST);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Report;

    #[test]
    fn policies_are_written_as_they_are_read() {
        for text in [
            "no",
            "on-failure",
            "on-failure:0",
            "on-failure:7",
            "always",
            "unless-stopped",
        ] {
            let policy: RestartPolicy = text.parse().unwrap();
            assert_eq!(policy.to_string(), text);
            let json = serde_json::to_string(&policy).unwrap();
            assert_eq!(
                serde_json::from_str::<RestartPolicy>(&json).unwrap(),
                policy
            );
        }
        for text in [
            "",
            "No",
            "on-failure:",
            "on-failure:-1",
            "on-failure:+1",
            "always:3",
            "x",
        ] {
            let parsed: Result<RestartPolicy, _> = text.parse();
            assert!(parsed.is_err(), "{text}");
        }
    }

    #[test]
    fn who_is_started_again() {
        let good = State::Stopped {
            exit: Exit::Status(0),
        };
        let bad = State::Stopped {
            exit: Exit::Status(1),
        };
        let crashed = State::Failed {
            reason: Report::new("x"),
        };
        for (policy, end, count, expected) in [
            ("no", &bad, 0, false),
            ("on-failure", &good, 0, false),
            ("on-failure", &bad, 1000, true),
            ("on-failure:2", &crashed, 1, true),
            ("on-failure:2", &bad, 2, false),
            ("always", &good, 5, true),
            ("unless-stopped", &good, 5, true),
        ] {
            let policy: RestartPolicy = policy.parse().unwrap();
            assert_eq!(
                policy.applies(end, count),
                expected,
                "{policy} {end:?} {count}"
            );
        }
        let at_boot = |text: &str, stopped| {
            text.parse::<RestartPolicy>()
                .unwrap()
                .applies_at_boot(stopped)
        };
        assert!(at_boot("always", true) && at_boot("unless-stopped", false));
        assert!(!at_boot("unless-stopped", true) && !at_boot("on-failure", false));
    }

    #[test]
    fn delays_double_up_to_a_minute_and_begin_again() {
        let mut delay = Delay::new();
        let quick = Duration::from_millis(1);
        let seen: Vec<u128> = (0..12).map(|_| delay.after(quick).as_millis()).collect();
        assert_eq!(&seen[..4], [100, 200, 400, 800]);
        assert_eq!(seen[11], 60_000);
        assert_eq!(delay.after(Duration::from_secs(10)), FIRST);
        assert_eq!(delay.after(quick), 2 * FIRST);
    }
}
