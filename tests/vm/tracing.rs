//! What a VM's start and end take, as spans: the host's phases and the guest's in one trace.

use std::sync::mpsc::Receiver;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;

use crate::collector::{attributes, collector, spans};
use crate::session::Outcome;
use crate::{BASE, session};

/// What the host does until the guest is there.
const BEFORE: [&str; 8] = [
    "record",
    "kernel and initramfs",
    "certificates",
    "drives",
    "network",
    "services",
    "start VMM",
    "boot",
];

/// What the guest does until it calls.
const GUEST: [&str; 8] = [
    "power on",
    "kernel",
    "modules",
    "link",
    "metadata",
    "guest network",
    "guest drives",
    "connect",
];

/// The spans of several processes, until one of this name has come.
fn until(received: &Receiver<ExportTraceServiceRequest>, names: &[&str]) -> Vec<Span> {
    let mut all: Vec<Span> = Vec::new();
    while !names
        .iter()
        .all(|name| all.iter().any(|span| span.name == *name))
    {
        all.extend(spans(received).1);
    }
    for span in &all {
        assert_eq!(span.trace_id, all[0].trace_id);
    }
    all
}

/// Spans with their times in milliseconds, for a person.
fn shown(all: &[Span]) -> String {
    let zero = all.iter().map(|span| span.start_time_unix_nano).min();
    let since = |time: u64| (time - zero.unwrap_or_default()) / 1_000_000;
    let lines = all.iter().map(|span| {
        let parent = all.iter().find(|it| it.span_id == span.parent_span_id);
        let (from, to) = (span.start_time_unix_nano, span.end_time_unix_nano);
        let parent = parent.map_or("", |parent| &parent.name);
        format!(
            "{} in {parent}: {}..{}\n",
            span.name,
            since(from),
            since(to)
        )
    });
    lines.collect()
}

#[track_caller]
fn named<'a>(all: &'a [Span], name: &str) -> &'a Span {
    let mut found = all.iter().filter(|span| span.name == name);
    let first = found.next();
    assert!(found.next().is_none(), "{name} twice: {}", shown(all));
    first.unwrap_or_else(|| panic!("no {name}: {}", shown(all)))
}

/// Spans have these children, one after the other, within their own time.
#[track_caller]
fn assert_follow(all: &[Span], parent: &Span, names: &[&str]) {
    let mut since = parent.start_time_unix_nano;
    let children: Vec<&Span> = all
        .iter()
        .filter(|span| span.parent_span_id == parent.span_id)
        .collect();
    for name in names {
        let found = children.iter().find(|span| span.name == *name);
        let span = found.unwrap_or_else(|| panic!("no {name} in {}: {}", parent.name, shown(all)));
        assert!(span.start_time_unix_nano >= since, "{name}: {}", shown(all));
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
        since = span.end_time_unix_nano;
    }
    assert!(since <= parent.end_time_unix_nano, "{}", shown(all));
}

fn took(span: &Span) -> Duration {
    Duration::from_nanos(span.end_time_unix_nano - span.start_time_unix_nano)
}

/// The guest says where its time went, and that is most of it.
#[track_caller]
fn assert_guest(all: &[Span], boot: &Span) {
    assert_follow(all, boot, &GUEST);
    let inside = all
        .iter()
        .filter(|span| span.parent_span_id == boot.span_id);
    let told: Duration = inside.map(took).sum();
    assert!(told * 2 > took(boot), "{}", shown(all));
    let kernel = all
        .iter()
        .find(|span| span.name == "kernel" && span.parent_span_id == boot.span_id);
    let kernel = took(kernel.unwrap());
    assert!(kernel > Duration::from_millis(1), "{}", shown(all));
}

#[test]
fn a_run_is_a_trace_of_its_host_and_its_guest() {
    let session = session();
    let (address, received) = collector();
    let mut command = session.command(&[
        "run",
        "--rm",
        "--name",
        "traced",
        "--tracing-enable",
        BASE,
        "true",
    ]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"));
    Outcome::of(&mut command).success();
    let all = until(&received, &["firebuild run", "firebuild supervise"]);
    let command = named(&all, "firebuild run");
    assert!(command.parent_span_id.is_empty());
    assert_follow(&all, command, &["start VM"]);
    let start = named(&all, "start VM");
    let told = attributes(&start.attributes);
    assert_eq!(told["firebuild.vm.name"], "traced");
    assert_eq!(told["firebuild.image"], BASE);
    assert_eq!(told["firebuild.vmm"], "qemu");
    let mut names = vec!["supervisor"];
    names.extend(BEFORE);
    names.push("start workload");
    assert_follow(&all, start, &names);
    assert_guest(&all, named(&all, "boot"));
    let workload = named(&all, "start workload");
    assert_follow(&all, workload, &["mounts", "launch"]);
    let supervisor = named(&all, "firebuild supervise");
    assert_eq!(supervisor.parent_span_id, command.span_id);
    assert_follow(&all, supervisor, &["stop", "release"]);
    let stop = named(&all, "stop");
    assert!(stop.start_time_unix_nano >= start.end_time_unix_nano);
}

#[test]
fn what_fails_to_start_says_so_in_its_span() {
    let session = session();
    let (address, received) = collector();
    let arguments = ["run", "--rm", "--tracing-enable", BASE, "/no/such/program"];
    let mut command = session.command(&arguments);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"));
    assert_eq!(Outcome::of(&mut command).status, 127);
    let all = until(&received, &["firebuild run", "firebuild supervise"]);
    let start = named(&all, "start VM");
    let status = start.status.as_ref().unwrap();
    assert!(status.message.contains("/no/such/program"), "{status:?}");
    assert_follow(&all, start, &BEFORE);
    assert_eq!(
        named(&all, "firebuild run").status.as_ref().unwrap().code,
        2
    );
}

#[test]
fn a_build_vm_is_in_its_stage() {
    let session = session();
    let (address, received) = collector();
    session.write("context/Dockerfile", format!("FROM {BASE}\nRUN true\n"));
    let mut command = session.command(&["build", "--no-cache", "--tracing-enable", "context"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"));
    Outcome::of(&mut command).success();
    let all = until(&received, &["firebuild build"]);
    let vm = named(&all, "build VM");
    let stage = all.iter().find(|span| span.span_id == vm.parent_span_id);
    assert_eq!(stage.unwrap().name, "stage stage-0");
    let mut names = BEFORE.to_vec();
    names.extend(["stop", "release"]);
    assert_follow(&all, vm, &names);
    assert_guest(&all, named(&all, "boot"));
}
