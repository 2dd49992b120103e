//! When the agent did what, for the host, which makes spans of it.
//!
//! Times are those of the guest's own clock since its kernel's clock began: what the host's clock said
//! then is the host's to know. One phase ends where the next begins.

use std::sync::{Mutex, MutexGuard, PoisonError};

use firebuild_protocol::v1::phase::What;
use firebuild_protocol::v1::{Boot, Phase};
use rustix::time::{ClockId, clock_gettime};

/// The agent's.
static TAKEN: Mutex<Phases> = Mutex::new(Phases::new());

struct Phases {
    /// When the phase that goes on began.
    since: u64,
    over: Vec<Phase>,
}

/// Notes that `what` is over, and that something else begins.
pub(crate) fn over(what: What) {
    taken().over(what, now());
}

/// Notes that something begins, and that nothing was done until now.
pub(crate) fn begin() {
    taken().since = now();
}

/// What is over and was not taken yet, to be sent at once.
pub(crate) fn take() -> Boot {
    taken().take(now())
}

fn taken() -> MutexGuard<'static, Phases> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Phases {
    const fn new() -> Self {
        Self {
            since: 0,
            over: Vec::new(),
        }
    }

    fn over(&mut self, what: What, now: u64) {
        self.over.push(Phase {
            what: what.into(),
            start: self.since,
            end: now,
        });
        self.since = now;
    }

    fn take(&mut self, now: u64) -> Boot {
        Boot {
            now,
            phases: std::mem::take(&mut self.over),
        }
    }
}

/// Microseconds since the kernel's clock began.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let whole = u64::try_from(now.tv_sec).unwrap_or_default() * 1_000_000;
    whole + u64::try_from(now.tv_nsec / 1000).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_each_other_and_are_told_once() {
        let mut phases = Phases::new();
        phases.over(What::Kernel, 300);
        phases.over(What::Modules, 340);
        phases.since = 500;
        phases.over(What::Launch, 510);
        let told = phases.take(600);
        assert_eq!(told.now, 600);
        let told: Vec<_> = told
            .phases
            .iter()
            .map(|it| (it.what(), it.start, it.end))
            .collect();
        let expected = [
            (What::Kernel, 0, 300),
            (What::Modules, 300, 340),
            (What::Launch, 500, 510),
        ];
        assert_eq!(told, expected);
        assert!(phases.take(700).phases.is_empty());
        assert!(now() > 0);
    }
}
