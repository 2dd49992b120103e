use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;

use super::*;

#[test]
fn a_context_is_what_w3c_says() {
    let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let context: Context = text.parse().unwrap();
    assert_eq!(context.to_string(), text);
    let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more";
    assert_eq!(later.parse(), Ok(context));
    for wrong in [
        "",
        "00",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ] {
        assert!(wrong.parse::<Context>().is_err(), "{wrong}");
    }
}

#[test]
fn a_collector_is_a_host_and_a_port() {
    for (text, meant) in [
        ("127.0.0.1:4317", "127.0.0.1:4317"),
        ("http://otel.example:4317/", "otel.example:4317"),
        ("[::1]:1", "[::1]:1"),
    ] {
        assert_eq!(text.parse::<Collector>().unwrap().to_string(), meant);
    }
    for wrong in [
        "",
        "host",
        ":4317",
        "host:0",
        "host:70000",
        "a b:1",
        "https://a:1",
        "a/b:1",
    ] {
        assert!(wrong.parse::<Collector>().is_err(), "{wrong}");
    }
}

/// What is sent is what OpenTelemetry's own definitions read.
#[test]
fn a_request_is_otlp() {
    let parent: Context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        .parse()
        .unwrap();
    let words = ["image".to_owned(), "ls".to_owned()];
    let trace = Trace::begin(&words, "a:1".parse().unwrap(), Some(parent)).unwrap();
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(5);
    let span = |name: &str, parent| Span {
        name: name.to_owned(),
        parent,
        start,
        end: start + Duration::from_nanos(7),
        attributes: vec![
            ("text", Value::String("x\u{1b}".repeat(400))),
            ("yes", Value::Bool(true)),
            ("n", Value::Int(-3)),
        ],
        error: None,
    };
    let above = trace.add(span("above", None));
    trace.add(span("below", Some(above)));
    let error = anyhow::anyhow!("it broke");
    let bytes = trace
        .request(SystemTime::now(), Some(&error))
        .encode_to_vec();
    let request = ExportTraceServiceRequest::decode(&bytes[..]).unwrap();
    let scope = &request.resource_spans[0].scope_spans[0];
    let [command, above, below] = &scope.spans[..] else {
        panic!("{scope:?}");
    };
    assert_eq!(command.name, "firebuild image ls");
    assert_eq!(
        command.parent_span_id,
        0x00f0_67aa_0ba9_02b7_u64.to_be_bytes()
    );
    assert_eq!(command.status.as_ref().unwrap().message, "it broke");
    assert_eq!(above.parent_span_id, command.span_id);
    assert_eq!(below.parent_span_id, above.span_id);
    assert_eq!(
        below.trace_id,
        parent.to_string().as_bytes()[3..35]
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect::<Vec<u8>>()
    );
    assert_eq!(
        (below.start_time_unix_nano, below.end_time_unix_nano),
        (5_000_000_000, 5_000_000_007)
    );
    let shown = format!("{:?}", below.attributes);
    assert!(
        shown.contains("BoolValue(true)") && shown.contains("IntValue(-3)"),
        "{shown}"
    );
    assert!(!shown.contains('\u{1b}') && shown.len() < 4000, "{shown}");
}

/// However much happens, what is kept and sent stays small.
#[test]
fn there_are_only_so_many_spans() {
    let trace = Trace::begin(&[], "a:1".parse().unwrap(), None).unwrap();
    let now = SystemTime::now();
    for _ in 0..10_000 {
        trace.add(Span {
            name: "x".to_owned(),
            parent: None,
            start: now,
            end: now,
            attributes: Vec::new(),
            error: None,
        });
    }
    let request = trace.request(now, None);
    assert_eq!(request.resource_spans[0].scope_spans[0].spans.len(), 4097);
}
