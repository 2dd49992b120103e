//! What takes time when a VM starts and when it ends: phases, on the host and in the guest.
//!
//! They are taken down whether anybody wants them or not, because that costs next to nothing, and are
//! told twice ([`Watch`]): when the VM's purpose runs, and when everything is given back. A phase of
//! the guest's is known by the guest's own clock; it is placed by when its message came. The guest may
//! say what it likes: each phase of its lies within the phase of the host's that waited for it, there
//! are no more than [`MOST`] in a message, and their names are ours.

use std::time::{Duration, Instant, SystemTime};

use firebuild_protocol::v1;
use firebuild_protocol::v1::phase::What;

use crate::record::Record;

/// How many phases of one message are taken.
const MOST: usize = 16;

/// The phase in which the guest boots. Until the guest's clock begins, the VMM makes the machine and
/// the kernel unpacks itself.
const BOOT: &str = "boot";

/// The phase in which the guest starts its workload.
const LAUNCH: &str = "start workload";

/// What is called for phases, once for each [`Part`]. It is to be quick.
pub type Watch = fn(&Record, Part, &[Phase]);

/// Which part of a VM's life the phases are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Until what the VM is for runs, or until that failed.
    Start,
    /// From when it was clear that the VM would end, until everything was given back.
    End,
}

/// Something that took time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// What was done, such as `network`.
    pub name: &'static str,
    /// The phase that it was a part of, which is in the same list, if any.
    pub within: Option<&'static str>,
    /// When it began.
    pub start: SystemTime,
    /// When it ended; not before it began.
    pub end: SystemTime,
}

/// What is taken down of one VM.
#[derive(Debug)]
pub(crate) struct Phases {
    /// A moment by both clocks, so that a step of the one shows nowhere.
    zero: (SystemTime, Instant),
    /// When the phase that goes on began.
    since: Instant,
    start: Vec<Phase>,
    is_start_told: bool,
    /// When it was clear that the VM would end.
    ending: Option<Instant>,
    end: Vec<Phase>,
}

impl Phases {
    /// From now on.
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            zero: (SystemTime::now(), now),
            since: now,
            start: Vec::new(),
            is_start_told: false,
            ending: None,
            end: Vec::new(),
        }
    }

    /// Notes that `name` is over, which began at that time on another process's clock.
    pub(crate) fn over_since(&mut self, name: &'static str, began: SystemTime) {
        self.over(name);
        if let Some(phase) = self.start.last_mut() {
            phase.start = began.min(phase.end);
        }
    }

    /// Notes that a phase begins, and that nothing was done since the last.
    pub(crate) fn begin(&mut self) {
        self.since = Instant::now();
    }

    /// Notes that a phase of the start is over, and that something else begins.
    pub(crate) fn over(&mut self, name: &'static str) {
        let now = Instant::now();
        let phase = self.phase(name, self.since, now);
        self.since = now;
        self.start.push(phase);
    }

    /// The guest has called.
    pub(crate) fn booted(&mut self) {
        self.over(BOOT);
    }

    /// The guest has started its workload.
    pub(crate) fn launched(&mut self) {
        self.over(LAUNCH);
    }

    /// What a guest said at this moment of its boot.
    pub(crate) fn boot(&mut self, boot: &v1::Boot, received: Instant) {
        self.guest(boot, received, BOOT);
    }

    /// What a guest said at this moment of its workload's start.
    pub(crate) fn launch(&mut self, boot: &v1::Boot, received: Instant) {
        self.guest(boot, received, LAUNCH);
    }

    /// What lies within the phase `within`, which may be going on still.
    fn guest(&mut self, boot: &v1::Boot, received: Instant, within: &'static str) {
        if self.start.iter().any(|phase| phase.within == Some(within)) {
            // It says that once.
            return;
        }
        let earlier = self.start.iter().find(|phase| phase.name == within);
        let bounds = match earlier {
            Some(phase) => (phase.start, phase.end),
            None => (self.time(self.since), self.time(received)),
        };
        let received = self.time(received);
        let at = |moment: u64| {
            let ago = Duration::from_micros(boot.now.saturating_sub(moment));
            let time = received.checked_sub(ago).unwrap_or(bounds.0);
            time.clamp(bounds.0, bounds.1)
        };
        let told = boot.phases.iter().take(MOST).filter_map(|phase| {
            let (start, end) = (at(phase.start), at(phase.end));
            Some(Phase {
                name: name(phase.what())?,
                within: Some(within),
                start,
                end: end.max(start),
            })
        });
        let told: Vec<Phase> = told.collect();
        if let Some(first) = told.first().filter(|_| within == BOOT) {
            self.start.push(Phase {
                name: "power on",
                start: bounds.0,
                end: first.start,
                ..*first
            });
        }
        self.start.extend(told);
    }

    /// Notes that the VM is going to end, unless that was clear before.
    pub(crate) fn ending(&mut self) {
        self.ending.get_or_insert_with(Instant::now);
    }

    /// Notes that the VM has ended.
    pub(crate) fn ended(&mut self) {
        if let Some(began) = self.ending.take()
            && self.end.is_empty()
        {
            let phase = self.phase("stop", began, Instant::now());
            self.end.push(phase);
        }
        self.begin();
    }

    /// Notes that everything is given back.
    pub(crate) fn released(&mut self) {
        let phase = self.phase("release", self.since, Instant::now());
        self.end.push(phase);
    }

    /// Tells what has not been told.
    pub(crate) fn tell(&mut self, watch: Option<Watch>, record: &Record, part: Part) {
        let start = std::mem::take(&mut self.start);
        let is_new = !std::mem::replace(&mut self.is_start_told, true);
        let end = match part {
            Part::Start => Vec::new(),
            Part::End => std::mem::take(&mut self.end),
        };
        let Some(watch) = watch else { return };
        if is_new && !start.is_empty() {
            watch(record, Part::Start, &start);
        }
        if !end.is_empty() {
            watch(record, Part::End, &end);
        }
    }

    fn phase(&self, name: &'static str, start: Instant, end: Instant) -> Phase {
        let (start, end) = (self.time(start), self.time(end));
        Phase {
            name,
            within: None,
            start,
            end: end.max(start),
        }
    }

    fn time(&self, moment: Instant) -> SystemTime {
        let (time, zero) = self.zero;
        match moment.checked_duration_since(zero) {
            Some(later) => time + later,
            None => time,
        }
    }
}

fn name(what: What) -> Option<&'static str> {
    Some(match what {
        What::Unknown => return None,
        What::Kernel => "kernel",
        What::Modules => "modules",
        What::Link => "link",
        What::Metadata => "metadata",
        What::Network => "guest network",
        What::Drives => "guest drives",
        What::Connect => "connect",
        What::Mounts => "mounts",
        What::Launch => "launch",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(now: u64, phases: &[(What, u64, u64)]) -> v1::Boot {
        let phases = phases.iter().map(|&(what, start, end)| v1::Phase {
            what: what.into(),
            start,
            end,
        });
        v1::Boot {
            now,
            phases: phases.collect(),
        }
    }

    /// Ten seconds in which the guest boots, of which it may say anything.
    fn told(boot: &v1::Boot) -> Vec<(&'static str, u128, u128)> {
        let mut phases = Phases::new();
        let (zero, start) = phases.zero;
        phases.guest(boot, start + Duration::from_secs(10), BOOT);
        let since = |time: SystemTime| time.duration_since(zero).unwrap().as_millis();
        let all = phases.start.iter();
        all.map(|it| (it.name, since(it.start), since(it.end)))
            .collect()
    }

    #[test]
    fn a_guests_phases_are_placed_by_when_they_came() {
        let honest = boot(
            8_000_000,
            &[
                (What::Kernel, 0, 5_000_000),
                (What::Connect, 5_000_000, 7_900_000),
            ],
        );
        let expected = [
            ("power on", 0, 2000),
            ("kernel", 2000, 7000),
            ("connect", 7000, 9900),
        ];
        assert_eq!(told(&honest), expected);
    }

    #[test]
    fn whatever_a_guest_says_lies_within_its_boot() {
        let max = u64::MAX;
        let lies = boot(
            max,
            &[
                (What::Kernel, 0, max),
                (What::Link, max, 0),
                (What::Unknown, 0, 1),
            ],
        );
        assert_eq!(
            told(&lies),
            [
                ("power on", 0, 0),
                ("kernel", 0, 10_000),
                ("link", 10_000, 10_000)
            ]
        );
        let future = boot(0, &[(What::Drives, 5, max)]);
        let expected = [("power on", 0, 10_000), ("guest drives", 10_000, 10_000)];
        assert_eq!(told(&future), expected);
        let many = boot(1, &vec![(What::Kernel, 0, 1); 9999]);
        assert_eq!(told(&many).len(), 1 + MOST);
        assert_eq!(told(&boot(0, &[])), []);
    }

    #[test]
    fn what_is_told_late_lies_in_the_phase_that_is_over() {
        let mut phases = Phases::new();
        phases.booted();
        let later = Instant::now() + Duration::from_secs(5);
        phases.boot(&boot(9_000_000, &[(What::Kernel, 0, 9_000_000)]), later);
        let [over, _, kernel] = &phases.start[..] else {
            panic!("{phases:?}");
        };
        assert_eq!(kernel.within, Some("boot"));
        assert!(over.start <= kernel.start && kernel.end <= over.end);
    }

    #[test]
    fn an_end_has_one_stop() {
        let mut phases = Phases::new();
        phases.ending();
        phases.ending();
        phases.ended();
        phases.ended();
        phases.released();
        let names: Vec<_> = phases.end.iter().map(|phase| phase.name).collect();
        assert_eq!(names, ["stop", "release"]);
    }
}
