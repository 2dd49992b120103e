//! How fast the processor's time stamp counter runs.
//!
//! An emulated guest reads the host's counter and has no other clock to measure it by: QEMU's
//! microvm has neither the speaker's port nor an ACPI timer, which kernels take for that, and
//! without a known rate a kernel waits for ticks that never come. So it is told.

use std::time::{Duration, Instant};

use super::sys::ticks;

/// How long is measured at least: the error is then below one in ten thousand.
const PERIOD: Duration = Duration::from_millis(4);
/// How exactly both clocks have to be read at the same time.
const EXACT: Duration = Duration::from_micros(1);
/// How often that is tried, on a machine that is busy.
const TRIES: usize = 1000;

/// A measurement of the counter's rate, made while something else is done.
#[derive(Debug, Clone, Copy)]
pub struct TscMeasurement {
    start: Instant,
    ticks: u64,
}

impl TscMeasurement {
    /// Begins one.
    #[must_use]
    pub fn begin() -> Self {
        let (start, ticks) = both_clocks();
        Self { start, ticks }
    }

    /// The rate, in kHz. Waits until four milliseconds have passed since the beginning.
    #[must_use]
    pub fn khz(self) -> u32 {
        std::thread::sleep(PERIOD.saturating_sub(self.start.elapsed()));
        let (end, ticks) = both_clocks();
        let passed = (end - self.start).as_nanos().max(1);
        let khz = u128::from(ticks.saturating_sub(self.ticks)) * 1_000_000 / passed;
        u32::try_from(khz).unwrap_or(u32::MAX)
    }
}

/// Wall clock and counter, read as nearly at once as can be had.
fn both_clocks() -> (Instant, u64) {
    let mut best = (Duration::MAX, Instant::now(), ticks());
    for _ in 0..TRIES {
        let before = Instant::now();
        let counter = ticks();
        let took = before.elapsed();
        if took < best.0 {
            best = (took, before + took / 2, counter);
        }
        if took < EXACT {
            break;
        }
    }
    (best.1, best.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_same_whenever_it_is_measured() {
        let first = TscMeasurement::begin().khz();
        assert!((100_000..20_000_000).contains(&first), "{first}");
        for _ in 0..5 {
            let again = TscMeasurement::begin().khz();
            assert!(first.abs_diff(again) < first / 1000, "{first} {again}");
        }
    }
}
