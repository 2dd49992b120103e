//! The spans of one process.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use firebuild_core::printable;

use super::export::Collector;
use super::otlp::{
    self, AnyValue, ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource,
    ResourceSpans, ScopeSpans, Status, Value,
};

/// The most spans of one process; what comes later is left out.
const MOST: usize = 4096;

/// The most of a name or of an attribute's text.
const LONGEST: usize = 256;

/// A span among others: what the header `traceparent` says (W3C Trace Context 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Context {
    trace: u128,
    span: u64,
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-01", self.trace, self.span)
    }
}

impl FromStr for Context {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let parts: Vec<&str> = text.split('-').collect();
        let [version, trace, span, flags, ..] = parts[..] else {
            return Err(());
        };
        let hex = |part: &str, length: usize| {
            let digits = part
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            part.len() == length && digits
        };
        let whole = hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
        let (trace, span) = (
            u128::from_str_radix(trace, 16),
            u64::from_str_radix(span, 16),
        );
        match (whole && version != "ff", trace, span) {
            (true, Ok(trace), Ok(span)) if trace != 0 && span != 0 => Ok(Self { trace, span }),
            _ => Err(()),
        }
    }
}

/// A stretch of time in what a command does.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    /// What it is.
    pub(crate) name: String,
    /// What it is a part of, if not of the command itself.
    pub(crate) parent: Option<Context>,
    /// When it began.
    pub(crate) start: SystemTime,
    /// When it ended.
    pub(crate) end: SystemTime,
    /// What else is known of it.
    pub(crate) attributes: Vec<(&'static str, Value)>,
    /// Why it failed, if it did.
    pub(crate) error: Option<String>,
}

/// The trace of a process.
#[derive(Debug)]
pub(crate) struct Trace {
    collector: Collector,
    parent: Option<Context>,
    own: Context,
    name: String,
    began: SystemTime,
    spans: Mutex<Vec<otlp::Span>>,
}

fn random() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    let length = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    anyhow::ensure!(
        length == bytes.len(),
        "the kernel gave too few random bytes"
    );
    Ok(u64::from_ne_bytes(bytes).max(1))
}

impl Trace {
    /// A trace of the command of these words, or a part of its parent's.
    pub(crate) fn begin(
        words: &[String],
        collector: Collector,
        parent: Option<Context>,
    ) -> anyhow::Result<Self> {
        let trace = match parent {
            Some(parent) => parent.trace,
            None => (u128::from(random()?) << 64) | u128::from(random()?),
        };
        Ok(Self {
            collector,
            parent,
            own: Context {
                trace,
                span: random()?,
            },
            name: format!("firebuild {}", words.join(" ")),
            began: SystemTime::now(),
            spans: Mutex::default(),
        })
    }

    /// The span of the command.
    pub(crate) fn context(&self) -> Context {
        self.own
    }

    /// What the command is a part of.
    pub(super) fn parent(&self) -> Option<Context> {
        self.parent
    }

    /// Where spans are sent.
    pub(crate) fn collector(&self) -> &Collector {
        &self.collector
    }

    /// Adds a span.
    pub(crate) fn add(&self, span: Span) -> Context {
        let parent = span.parent.unwrap_or(self.own);
        let context = Context {
            trace: self.own.trace,
            span: random().unwrap_or(1),
        };
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        if spans.len() < MOST {
            spans.push(of(&span, context, Some(parent)));
        }
        context
    }

    /// What a collector is sent when the command ends.
    pub(super) fn request(
        &self,
        end: SystemTime,
        error: Option<&anyhow::Error>,
    ) -> ExportTraceServiceRequest {
        let command = Span {
            name: self.name.clone(),
            parent: self.parent,
            start: self.began,
            end,
            attributes: Vec::new(),
            error: error.map(ToString::to_string),
        };
        let mut spans = vec![of(&command, self.own, self.parent)];
        spans.append(&mut self.spans.lock().unwrap_or_else(PoisonError::into_inner));
        message(spans)
    }

    /// What a collector is sent while the command goes on, of which it is not told again.
    pub(super) fn request_so_far(&self) -> Option<ExportTraceServiceRequest> {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        (!spans.is_empty()).then(|| message(std::mem::take(&mut *spans)))
    }
}

fn message(spans: Vec<otlp::Span>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: resource(),
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "firebuild".to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                }),
                spans,
            }],
        }],
    }
}

/// What is known of this process (OpenTelemetry's semantic conventions).
fn resource() -> Vec<KeyValue> {
    let service = std::env::var("OTEL_SERVICE_NAME").ok();
    let service = service.filter(|name| !name.is_empty());
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy().into_owned();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let text = |key, value: String| attribute(key, &Value::String(value));
    vec![
        text(
            "service.name",
            service.unwrap_or_else(|| "firebuild".to_owned()),
        ),
        text("service.version", version),
        text("host.name", host),
        attribute("process.pid", &Value::Int(std::process::id().into())),
    ]
}

fn of(span: &Span, context: Context, parent: Option<Context>) -> otlp::Span {
    let attributes = span.attributes.iter();
    otlp::Span {
        trace_id: context.trace.to_be_bytes().to_vec(),
        span_id: context.span.to_be_bytes().to_vec(),
        parent_span_id: parent.map_or_else(Vec::new, |parent| parent.span.to_be_bytes().to_vec()),
        name: printable(&span.name, LONGEST).to_string(),
        kind: otlp::INTERNAL,
        start_time_unix_nano: nanoseconds(span.start),
        end_time_unix_nano: nanoseconds(span.end.max(span.start)),
        attributes: attributes
            .map(|(key, value)| attribute(key, value))
            .collect(),
        status: span.error.as_ref().map(|error| Status {
            message: printable(error, LONGEST).to_string(),
            code: otlp::ERROR,
        }),
    }
}

fn attribute(key: &str, value: &Value) -> KeyValue {
    let value = match value {
        Value::String(text) => Value::String(printable(text, LONGEST).to_string()),
        other => other.clone(),
    };
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
    }
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
