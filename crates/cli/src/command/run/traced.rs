//! The start of a VM as a span of a trace.

use std::time::SystemTime;

use firebuild_machine::Record;

use crate::tracing::{self, Span, Value};

/// Adds the start of a VM: from its record until its workload runs, guest included.
pub(super) fn started(record: &Record) {
    let Some(started) = record.started.filter(|_| tracing::is_on()) else {
        return;
    };
    let text = |key, text: String| (key, Value::String(text));
    let mut attributes = vec![text("firebuild.vm.id", record.id.to_string())];
    let name = record.spec.name.as_ref().map(ToString::to_string);
    attributes.extend(name.map(|name| text("firebuild.vm.name", name)));
    let image = record.spec.image.as_ref();
    attributes.extend(image.map(|image| text("firebuild.image", image.reference.clone())));
    let vmm = record.vmm.as_ref();
    attributes.extend(vmm.map(|vmm| text("firebuild.vmm", vmm.name.clone())));
    tracing::add(Span {
        name: "start VM".to_owned(),
        parent: None,
        start: SystemTime::from(record.created),
        end: SystemTime::from(started),
        attributes,
        error: None,
    });
}
