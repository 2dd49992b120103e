//! A VM's start and end as spans: the host's phases, and in them the guest's.
//!
//! The process that owns the VM is told of them: a supervisor adds them as they come, a build keeps
//! them until it knows which stage's they are.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use firebuild_machine::{Part, Phase, Record, State, Watch};

use super::{Context, Span, Value};

/// What build VMs did, by their ids.
static KEPT: Mutex<BTreeMap<String, Vec<Phase>>> = Mutex::new(BTreeMap::new());

/// Who is told of a supervisor's VM.
pub(crate) fn watch_supervised() -> Option<Watch> {
    super::is_on().then_some(supervised)
}

/// Who is told of build VMs.
pub(crate) fn watch_builds() -> Option<Watch> {
    super::is_on().then_some(keep)
}

/// The span of a start belongs to the command that wanted it, and is sent at once: the supervisor's own
/// span comes when the VM has ended.
fn supervised(record: &Record, part: Part, phases: &[Phase]) {
    match part {
        Part::Start => {
            let whole = super::add(start(record, phases));
            add_phases(phases, whole);
            super::send_early();
        }
        Part::End => add_phases(phases, None),
    }
}

fn start(record: &Record, phases: &[Phase]) -> Span {
    let text = |key, text: String| (key, Value::String(text));
    let mut attributes = vec![text("firebuild.vm.id", record.id.to_string())];
    let name = record.spec.name.as_ref().map(ToString::to_string);
    attributes.extend(name.map(|name| text("firebuild.vm.name", name)));
    let image = record.spec.image.as_ref();
    attributes.extend(image.map(|image| text("firebuild.image", image.reference.clone())));
    let vmm = record.vmm.as_ref();
    attributes.extend(vmm.map(|vmm| text("firebuild.vmm", vmm.name.clone())));
    let created = record.created.into();
    Span {
        name: "start VM".to_owned(),
        parent: super::above(),
        start: phases.iter().map(|it| it.start).min().unwrap_or(created),
        end: phases.iter().map(|it| it.end).max().unwrap_or(created),
        attributes,
        error: match &record.state {
            State::Failed { reason } => Some(reason.text.clone()),
            _ => None,
        },
    }
}

fn keep(record: &Record, _: Part, phases: &[Phase]) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let of_vm = kept.entry(record.id.to_string()).or_default();
    of_vm.extend_from_slice(phases);
}

/// What was kept of a build's VM.
pub(crate) fn take(id: &str) -> Vec<Phase> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.remove(id).unwrap_or_default()
}

/// Adds phases below a span, or below the command.
pub(crate) fn add_phases(phases: &[Phase], parent: Option<Context>) {
    let mut outer = BTreeMap::new();
    for phase in phases.iter().filter(|phase| phase.within.is_none()) {
        outer.insert(phase.name, super::add(span(phase, parent)));
    }
    for phase in phases {
        if let Some(within) = phase.within {
            let parent = outer.get(within).copied().flatten().or(parent);
            super::add(span(phase, parent));
        }
    }
}

fn span(phase: &Phase, parent: Option<Context>) -> Span {
    Span {
        name: phase.name.to_owned(),
        parent,
        start: phase.start,
        end: phase.end,
        attributes: Vec::new(),
        error: None,
    }
}
