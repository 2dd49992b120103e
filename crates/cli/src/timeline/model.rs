//! What happened when in a build. Times are since its beginning.

use std::time::Duration;

/// A build.
#[derive(Debug, Clone, Default)]
pub(super) struct Timeline {
    /// Its stages, by their positions in the plan.
    pub(super) stages: Vec<Stage>,
    /// How many VMs could run at once.
    pub(super) jobs: usize,
    /// When it ended.
    pub(super) end: Duration,
}

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Span {
    pub(super) start: Duration,
    pub(super) end: Duration,
}

impl Span {
    pub(super) fn length(&self) -> Duration {
        self.end.saturating_sub(self.start)
    }
}

/// A stage.
#[derive(Debug, Clone, Default)]
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) span: Span,
    pub(super) steps: Vec<Step>,
    pub(super) waits: Vec<Waited>,
    pub(super) vms: Vec<Vm>,
}

impl Stage {
    /// Until when a step did not work: the end of the last wait or boot in it, or its start.
    pub(super) fn idle_until(&self, step: &Step) -> Duration {
        let waits = self.waits.iter().map(|wait| wait.span);
        let boots = self.vms.iter().map(|vm| Span {
            start: vm.span.start,
            end: vm.ready.unwrap_or(vm.span.end),
        });
        let within = |span: &Span| {
            (step.span.start..=step.span.end).contains(&span.start) && span.end <= step.span.end
        };
        let ends = waits.chain(boots).filter(within).map(|span| span.end);
        ends.max().unwrap_or(step.span.start)
    }
}

impl Step {
    /// How long it took, without what it waited, as far as that is known.
    pub(super) fn worked(&self) -> Duration {
        match self.result {
            Outcome::Done(worked) => worked,
            _ => self.span.length(),
        }
    }
}

/// A step.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// From 1, the base being 1.
    pub(super) number: usize,
    /// Where it is written.
    pub(super) line: u32,
    pub(super) text: String,
    pub(super) span: Span,
    pub(super) result: Outcome,
    /// The size of its layer, if it has one.
    pub(super) size: Option<u64>,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Not at all: the build ended before.
    Unfinished,
    /// It worked so long.
    Done(Duration),
    /// It was known, and worked so long when it was executed.
    Cached(Duration),
    /// It failed.
    Failed,
}

/// A wait.
#[derive(Debug, Clone)]
pub(super) struct Waited {
    pub(super) span: Span,
    /// As people read it.
    pub(super) what: String,
    pub(super) reason: Reason,
    /// Whether it is over.
    pub(super) over: bool,
}

/// What ends a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// The end of this stage.
    Stage(usize),
    /// The end of some VM.
    Vm,
    /// Something that is not followed.
    Other,
}

/// A build VM.
#[derive(Debug, Clone)]
pub(super) struct Vm {
    pub(super) id: String,
    pub(super) span: Span,
    /// When it was ready for work.
    pub(super) ready: Option<Duration>,
}

/// A part of the critical path: what this stage did in this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) stage: usize,
    pub(super) span: Span,
}

/// What is shorter is no wait, but the time that it takes to find that there is nothing to wait for.
const NOTHING: Duration = Duration::from_millis(1);

impl Timeline {
    /// What made the build take as long as it did, from its beginning to its end: the last stage,
    /// before that the stage or VM that it waited for last, and so on.
    pub(super) fn critical_path(&self) -> Vec<Piece> {
        let ends = self.stages.iter().enumerate();
        let Some((mut stage, last)) = ends.max_by_key(|(_, stage)| stage.span.end) else {
            return Vec::new();
        };
        let mut until = last.span.end;
        let mut path = Vec::new();
        // Each wait is passed once at most.
        let waits: usize = self.stages.iter().map(|stage| stage.waits.len()).sum();
        for _ in 0..=waits {
            let found = self.last_wait(stage, until);
            let start = found.map_or(self.stages[stage].span.start, |(end, _)| end);
            let span = Span { start, end: until };
            path.push(Piece { stage, span });
            let Some((end, other)) = found else {
                break;
            };
            (stage, until) = (other, end.min(self.stages[other].span.end));
        }
        path.reverse();
        path
    }

    /// The end of a stage's last wait before `until`, and the stage that ended it.
    fn last_wait(&self, stage: usize, until: Duration) -> Option<(Duration, usize)> {
        let waits = self.stages[stage].waits.iter();
        let waits = waits.filter(|wait| wait.span.end <= until && wait.span.length() > NOTHING);
        let followed = waits.filter_map(|wait| {
            let other = match wait.reason {
                Reason::Stage(other) => Some(other),
                Reason::Vm => self.freed_by(stage, wait.span),
                Reason::Other => None,
            };
            Some((wait.span.end, other?))
        });
        followed.max()
    }

    /// The stage whose VM ended when a wait for a slot was over.
    fn freed_by(&self, waiting: usize, wait: Span) -> Option<usize> {
        let stages = self.stages.iter().enumerate();
        let ends = stages.flat_map(|(index, stage)| stage.vms.iter().map(move |vm| (vm, index)));
        let ends = ends.filter(|(vm, index)| {
            *index != waiting && (wait.start..=wait.end).contains(&vm.span.end)
        });
        let last = ends.max_by_key(|(vm, _)| vm.span.end);
        last.map(|(_, index)| index)
    }

    /// Whether a step lies on a path.
    pub(super) fn on_path(path: &[Piece], stage: usize, step: &Step) -> bool {
        let mut pieces = path.iter().filter(|piece| piece.stage == stage);
        pieces.any(|piece| step.span.start < piece.span.end && piece.span.start < step.span.end)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn seconds(start: u64, end: u64) -> Span {
        Span {
            start: Duration::from_secs(start),
            end: Duration::from_secs(end),
        }
    }

    pub(in super::super) fn stage(name: &str, start: u64, end: u64) -> Stage {
        Stage {
            name: name.to_owned(),
            span: seconds(start, end),
            ..Stage::default()
        }
    }

    pub(in super::super) fn wait(start: u64, end: u64, reason: Reason) -> Waited {
        Waited {
            span: seconds(start, end),
            what: "something".to_owned(),
            reason,
            over: true,
        }
    }

    pub(in super::super) fn vm(start: u64, end: u64) -> Vm {
        Vm {
            id: "vm".to_owned(),
            span: seconds(start, end),
            ready: Some(Duration::from_secs(start + 1)),
        }
    }

    /// The path as `stage start..end`.
    fn path(stages: Vec<Stage>) -> Vec<String> {
        let timeline = Timeline {
            stages,
            ..Timeline::default()
        };
        let piece = |piece: &Piece| {
            let name = &timeline.stages[piece.stage].name;
            let Span { start, end } = piece.span;
            format!("{name} {}..{}", start.as_secs(), end.as_secs())
        };
        timeline.critical_path().iter().map(piece).collect()
    }

    #[test]
    fn the_critical_path_is_what_the_end_waited_for() {
        assert!(path(Vec::new()).is_empty());
        assert_eq!(path(vec![stage("a", 0, 3), stage("b", 0, 5)]), ["b 0..5"]);
        // The last stage waits for `a`, and then for `b`, which was longer.
        let mut last = stage("c", 0, 9);
        last.waits = vec![
            wait(1, 3, Reason::Stage(0)),
            wait(4, 7, Reason::Stage(1)),
            wait(8, 9, Reason::Other),
        ];
        let stages = vec![stage("a", 0, 3), stage("b", 0, 7), last.clone()];
        assert_eq!(path(stages), ["b 0..7", "c 7..9"]);
        // What was finished when it was asked for made nothing longer.
        last.waits = vec![wait(1, 3, Reason::Stage(0)), wait(4, 4, Reason::Stage(1))];
        let stages = vec![stage("a", 0, 3), stage("b", 0, 4), last];
        assert_eq!(path(stages), ["a 0..3", "c 3..9"]);
    }

    #[test]
    fn what_a_step_waits_is_not_its_work() {
        let mut stage = stage("a", 0, 9);
        stage.waits = vec![wait(1, 3, Reason::Other), wait(7, 8, Reason::Other)];
        stage.vms = vec![vm(3, 9)];
        let step = |start, end| Step {
            number: 1,
            line: 1,
            text: String::new(),
            span: seconds(start, end),
            result: Outcome::Done(Duration::from_secs(2)),
            size: None,
        };
        for (start, end, idle) in [(0, 6, 4), (5, 6, 5), (0, 2, 0), (6, 9, 8)] {
            let idle_until = stage.idle_until(&step(start, end));
            assert_eq!(idle_until.as_secs(), idle, "{start}..{end}");
        }
        assert_eq!(step(0, 6).worked().as_secs(), 2);
    }

    #[test]
    fn the_critical_path_leads_through_slots() {
        let (mut a, mut b, mut c) = (stage("a", 0, 5), stage("b", 0, 8), stage("c", 0, 9));
        a.vms = vec![vm(1, 4)];
        b.waits = vec![wait(1, 4, Reason::Vm)];
        b.vms = vec![vm(4, 8)];
        c.waits = vec![wait(0, 8, Reason::Stage(1))];
        assert_eq!(path(vec![a, b, c]), ["a 0..4", "b 4..8", "c 8..9"]);
        // Two that wait for each other's VMs at the same moment do not lead in a circle.
        let (mut a, mut b) = (stage("a", 0, 5), stage("b", 0, 5));
        a.waits = vec![wait(0, 5, Reason::Vm)];
        b.waits = a.waits.clone();
        a.vms = vec![vm(0, 5)];
        b.vms = a.vms.clone();
        assert!(path(vec![a, b]).len() <= 3);
    }
}
