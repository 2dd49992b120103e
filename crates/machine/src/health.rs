//! The health of a workload, as its guest looks into it and its record tells it.

use firebuild_protocol::v1;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How many looks are kept.
const KEPT: usize = 5;

/// How much of what a probe wrote is kept, in bytes.
const SHOWN: usize = 4096;

/// The health of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// How it is.
    pub status: HealthStatus,
    /// How many looks in a row have failed.
    pub failing_streak: u32,
    /// The last few looks, the oldest first.
    pub log: Vec<Look>,
}

/// How a workload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// It has just been started.
    Starting,
    /// The last look found it well.
    Healthy,
    /// Too many looks in a row have failed.
    Unhealthy,
}

/// One look into a workload's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Look {
    /// When it began.
    pub start: Timestamp,
    /// When it was told.
    pub end: Timestamp,
    /// The probe's status: 0 if all is well, -1 if it took too long or could not be started.
    pub exit_code: i32,
    /// The beginning of what it wrote.
    pub output: String,
}

impl Health {
    /// That of a workload that has just been started.
    pub(crate) fn new() -> Self {
        Self {
            status: HealthStatus::Starting,
            failing_streak: 0,
            log: Vec::new(),
        }
    }

    /// Notes what a guest says, as far as it makes sense. Returns whether the status is another one
    /// now.
    pub(crate) fn note(&mut self, probed: &v1::Probed, now: Timestamp) -> bool {
        let before = self.status;
        self.status = match probed.health() {
            v1::probed::Health::Starting => HealthStatus::Starting,
            v1::probed::Health::Healthy => HealthStatus::Healthy,
            v1::probed::Health::Unhealthy => HealthStatus::Unhealthy,
        };
        self.failing_streak = probed.failing_streak;
        let took = SignedDuration::from_millis(probed.took_milliseconds.into());
        let output = &probed.output[..probed.output.len().min(SHOWN)];
        if self.log.len() >= KEPT {
            self.log.drain(..=self.log.len() - KEPT);
        }
        self.log.push(Look {
            start: now.checked_sub(took).unwrap_or(now),
            end: now,
            exit_code: probed.status.clamp(-1, 255),
            output: String::from_utf8_lossy(output).into_owned(),
        });
        self.status != before
    }
}

impl HealthStatus {
    /// One lower-case word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded() {
        let mut health = Health::new();
        let now = Timestamp::now();
        for number in 0..20 {
            let probed = v1::Probed {
                health: if number < 10 { 2 } else { 77 },
                failing_streak: number,
                took_milliseconds: u32::MAX,
                status: if number == 19 { i32::MAX } else { 1 },
                output: vec![0xff; 1 << 20].into(),
            };
            let changed = health.note(&probed, now);
            assert_eq!(changed, number == 0 || number == 10, "{number}");
        }
        assert_eq!(health.log.len(), KEPT);
        let last = health.log.last().unwrap();
        assert_eq!((last.exit_code, last.output.chars().count()), (255, SHOWN));
        assert!(last.start < last.end && health.failing_streak == 19);
        let text = serde_json::to_string(&health).unwrap();
        assert_eq!(serde_json::from_str::<Health>(&text).unwrap(), health);
    }
}
