//! Listens to a build, and passes on what it hears.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use firebuild_builder::progress::{Event, Place, Progress, Wait};

use super::model::{Outcome, Reason, Span, Stage, Step, Timeline, Vm, Waited};
use crate::progress::waiting;

/// Takes down what happens when.
pub(crate) struct Recorder {
    shown: Box<dyn Progress>,
    began: Instant,
    timeline: Mutex<Timeline>,
}

impl Recorder {
    /// What happens is shown by `shown`.
    pub(crate) fn new(shown: Box<dyn Progress>) -> Self {
        Self {
            shown,
            began: Instant::now(),
            timeline: Mutex::default(),
        }
    }

    /// When the build began.
    pub(super) fn began(&self) -> SystemTime {
        let now = SystemTime::now();
        now.checked_sub(self.began.elapsed()).unwrap_or(now)
    }

    /// What happened until now. What is not over goes on until now.
    pub(super) fn timeline(&self) -> Timeline {
        let now = self.began.elapsed();
        let mut timeline = self.lock().clone();
        timeline.end = now;
        for stage in &mut timeline.stages {
            let open = |span: &mut Span| {
                if span.end < span.start {
                    span.end = now;
                }
            };
            open(&mut stage.span);
            stage.steps.iter_mut().for_each(|step| open(&mut step.span));
            stage.vms.iter_mut().for_each(|vm| open(&mut vm.span));
            stage.waits.iter_mut().for_each(|wait| open(&mut wait.span));
        }
        timeline
    }

    fn lock(&self) -> MutexGuard<'_, Timeline> {
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Recorder {
    fn event(&self, event: Event<'_>) {
        let now = self.began.elapsed();
        note(&mut self.lock(), event, now);
        self.shown.event(event);
    }
}

/// A span that has begun: it ends before its start until it is over.
fn from(start: Duration) -> Span {
    Span {
        // Not 0, which nothing could end before.
        start: start.max(Duration::from_nanos(1)),
        end: Duration::ZERO,
    }
}

fn note(timeline: &mut Timeline, event: Event<'_>, now: Duration) {
    let stage = match event {
        Event::Build { stages, jobs, .. } => {
            timeline.stages.resize_with(stages, Stage::default);
            timeline.jobs = jobs;
            return;
        }
        Event::StageStarted { stage }
        | Event::StageDone { stage, .. }
        | Event::Waiting { stage, .. }
        | Event::Waited { stage, .. }
        | Event::VmStarting { stage, .. }
        | Event::VmReady { stage, .. }
        | Event::VmEnded { stage, .. } => stage,
        Event::Step { place, .. }
        | Event::Cached { place, .. }
        | Event::Done { place, .. }
        | Event::Failed { place, .. } => place.stage,
        Event::Line { .. }
        | Event::Fetching { .. }
        | Event::Fetched { .. }
        | Event::Sending { .. }
        | Event::Sent { .. }
        | Event::Debugging { .. }
        | Event::Note { .. }
        | Event::Warning { .. } => return,
    };
    let Some(noted) = timeline.stages.get_mut(stage.index) else {
        return;
    };
    match event {
        Event::StageStarted { stage } => {
            noted.name = stage.name.to_owned();
            noted.span = from(now);
        }
        Event::StageDone { .. } => noted.span.end = now,
        Event::Waiting { wait, .. } => noted.waits.push(begun(wait, now)),
        Event::Waited { .. } => {
            if let Some(wait) = noted.waits.iter_mut().rfind(|wait| !wait.over) {
                (wait.span.end, wait.over) = (now, true);
            }
        }
        Event::VmStarting { id, .. } => noted.vms.push(Vm {
            id: id.to_owned(),
            span: from(now),
            ready: None,
        }),
        Event::VmReady { .. } => {
            if let Some(vm) = noted.vms.last_mut() {
                vm.ready = Some(now);
            }
        }
        Event::VmEnded { .. } => {
            if let Some(vm) = noted.vms.last_mut() {
                vm.span.end = now;
            }
        }
        Event::Step { place, line, text } => noted.steps.push(Step {
            number: place.step,
            line,
            text: text.to_owned(),
            span: from(now),
            result: Outcome::Unfinished,
            size: None,
        }),
        Event::Cached { place, saved, size } => {
            end(noted, place, now, (Outcome::Cached(saved), size));
        }
        Event::Done {
            place,
            duration,
            size,
        } => end(noted, place, now, (Outcome::Done(duration), size)),
        Event::Failed { place, .. } => end(noted, place, now, (Outcome::Failed, None)),
        _ => {}
    }
}

fn begun(wait: Wait<'_>, now: Duration) -> Waited {
    let reason = match wait {
        Wait::Stage(other) => Reason::Stage(other.index),
        Wait::Slot | Wait::Cache(_) => Reason::Vm,
        Wait::Step => Reason::Other,
    };
    Waited {
        span: from(now),
        what: waiting(wait),
        reason,
        over: false,
    }
}

fn end(stage: &mut Stage, place: Place<'_>, now: Duration, how: (Outcome, Option<u64>)) {
    let mut steps = stage.steps.iter_mut();
    if let Some(step) = steps.rfind(|step| step.number == place.step) {
        step.span.end = now;
        (step.result, step.size) = how;
    }
}

#[cfg(test)]
mod tests {
    use firebuild_builder::progress::StageRef;

    use super::*;

    #[test]
    fn what_is_heard_is_in_the_timeline() {
        let at = |index, name| StageRef { index, name };
        let (a, b) = (at(0, "a"), at(1, "b"));
        let place = |stage| Place {
            stage,
            step: 1,
            steps: 1,
        };
        let step = |stage| Event::Step {
            place: place(stage),
            line: 7,
            text: "RUN x",
        };
        let duration = Duration::from_secs(2);
        let wait = Wait::Stage(a);
        let events = [
            Event::Build {
                stages: 2,
                steps: 2,
                jobs: 4,
            },
            Event::StageStarted { stage: a },
            step(a),
            Event::VmStarting { stage: a, id: "x" },
            Event::StageStarted { stage: b },
            step(b),
            Event::Waiting { stage: b, wait },
            Event::VmReady {
                stage: a,
                id: "x",
                duration,
            },
            Event::Done {
                place: place(a),
                duration,
                size: Some(5),
            },
            Event::StageDone { stage: a, duration },
            Event::Waited {
                stage: b,
                wait,
                duration,
            },
        ];
        let mut timeline = Timeline::default();
        for (second, event) in (0..).zip(events) {
            note(&mut timeline, event, Duration::from_secs(second));
        }
        assert_eq!(timeline.jobs, 4);
        let [a, b] = &timeline.stages[..] else {
            unreachable!("two stages")
        };
        assert_eq!((a.name.as_str(), a.span.end.as_secs()), ("a", 9));
        let step = &a.steps[0];
        assert_eq!((step.span.start.as_secs(), step.span.end.as_secs()), (2, 8));
        assert_eq!((step.result, step.size), (Outcome::Done(duration), Some(5)));
        assert_eq!(a.vms[0].ready, Some(Duration::from_secs(7)));
        let wait = &b.waits[0];
        assert_eq!((wait.span.length().as_secs(), wait.over), (4, true));
        assert_eq!(wait.reason, Reason::Stage(0));
        assert_eq!(b.steps[0].result, Outcome::Unfinished);
        assert!(b.steps[0].span.end < b.steps[0].span.start);
    }
}
