//! A build as spans of a trace: stages, and in them steps, waits and VMs with their boots.

use std::time::{Duration, SystemTime};

use super::model::{Outcome, Stage, Step, Timeline, Vm};
use crate::tracing::{self, Context, Span, Value};

/// Adds the spans of a build that began then.
pub(super) fn add(timeline: &Timeline, began: SystemTime) {
    for stage in &timeline.stages {
        // Nobody needed it.
        if stage.span.start.is_zero() {
            continue;
        }
        let name = format!("stage {}", stage.name);
        let whole = span(name, None, began, (stage.span.start, stage.span.end));
        let parent = tracing::add(whole);
        below(stage, parent, began);
    }
}

fn below(stage: &Stage, parent: Option<Context>, began: SystemTime) {
    for step in &stage.steps {
        tracing::add(Span {
            attributes: attributes(step),
            error: (step.result == Outcome::Failed).then(|| "the step failed".to_owned()),
            ..span(
                step.text.clone(),
                parent,
                began,
                (step.span.start, step.span.end),
            )
        });
    }
    for wait in &stage.waits {
        let name = format!("wait for {}", wait.what);
        tracing::add(span(name, parent, began, (wait.span.start, wait.span.end)));
    }
    for vm in &stage.vms {
        machine(vm, parent, began);
    }
}

fn machine(vm: &Vm, parent: Option<Context>, began: SystemTime) {
    let phases = tracing::machine::take(&vm.id);
    let mut whole = Span {
        attributes: vec![("firebuild.vm.id", Value::String(vm.id.clone()))],
        ..span(
            "build VM".to_owned(),
            parent,
            began,
            (vm.span.start, vm.span.end),
        )
    };
    // The builder told of it a moment later.
    for phase in &phases {
        whole.start = whole.start.min(phase.start);
        whole.end = whole.end.max(phase.end);
    }
    let whole = tracing::add(whole);
    tracing::machine::add_phases(&phases, whole);
}

fn attributes(step: &Step) -> Vec<(&'static str, Value)> {
    let cached = matches!(step.result, Outcome::Cached(_));
    let mut all = vec![
        ("firebuild.step.number", number(step.number as u64)),
        ("firebuild.step.line", number(step.line.into())),
        ("firebuild.step.cached", Value::Bool(cached)),
    ];
    all.extend(step.size.map(|size| ("firebuild.layer.size", number(size))));
    all
}

fn number(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn span(
    name: String,
    parent: Option<Context>,
    began: SystemTime,
    (start, end): (Duration, Duration),
) -> Span {
    Span {
        name,
        parent,
        start: began + start,
        end: began + end,
        attributes: Vec::new(),
        error: None,
    }
}
