//! OpenTelemetry spans of what a command does, sent over OTLP when it ends.
//!
//! Nothing is done unless `--tracing-enable` is given. What is sent is small and known at the end, so
//! there is no library that samples, batches and sends in the background: spans are taken down
//! ([`trace`]), and one gRPC call brings them to the collector ([`export`]). A collector that is not
//! there costs a command no more than [`export::PATIENCE`], and never its success.

mod export;
pub(crate) mod machine;
mod otlp;
mod trace;

use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use clap::Args;

pub(crate) use export::Collector;
pub(crate) use otlp::Value;
pub(crate) use trace::{Context, Span, Trace};

use crate::terminal;

/// The variable that carries a trace from one process to the next (W3C Trace Context).
pub(crate) const PARENT: &str = "TRACEPARENT";

/// The flags about tracing.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct TracingArguments {
    /// Send OpenTelemetry spans of what is done to a collector
    #[arg(long, global = true)]
    tracing_enable: bool,
    /// Where the collector is, which has to speak OTLP over gRPC [default: OTEL_EXPORTER_OTLP_ENDPOINT,
    /// or 127.0.0.1:4317]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    tracing_collector_host_port: Option<Collector>,
    /// Accepted for the original tool's sake; it does nothing
    #[arg(long, global = true, hide = true)]
    tracing_log_enable: bool,
}

/// The trace of this process, if it is traced.
static TRACE: OnceLock<Trace> = OnceLock::new();

/// What is being sent while the command goes on.
static SENDING: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);

impl TracingArguments {
    /// Begins to trace the command of these words, if that is wanted.
    pub(crate) fn begin(&self, words: &[String]) {
        if self.tracing_log_enable {
            terminal::say("warning: `--tracing-log-enable` does nothing any more");
        }
        if self.tracing_enable
            && let Err(why) = self.try_begin(words)
        {
            terminal::say(format_args!("warning: nothing is traced: {why:#}"));
        }
    }

    fn try_begin(&self, words: &[String]) -> anyhow::Result<()> {
        let collector = match &self.tracing_collector_host_port {
            Some(collector) => collector.clone(),
            None => Collector::from_environment()?,
        };
        let parent = std::env::var(PARENT).ok();
        let parent = parent.and_then(|parent| parent.parse().ok());
        // Only one command is run.
        let _ = TRACE.set(Trace::begin(words, collector, parent)?);
        Ok(())
    }
}

/// Adds a span, which is below another or below the command; gives what is below it a parent.
pub(crate) fn add(span: Span) -> Option<Context> {
    TRACE.get().map(|trace| trace.add(span))
}

/// True if this process is traced.
pub(crate) fn is_on() -> bool {
    TRACE.get().is_some()
}

/// The variables by which a process that this one starts goes on with the trace.
pub(crate) fn handed_over() -> Vec<(&'static str, String)> {
    let Some(trace) = TRACE.get() else {
        return Vec::new();
    };
    vec![
        (PARENT, trace.context().to_string()),
        ("FIREBUILD_TRACING_ENABLE", "true".to_owned()),
        (
            "FIREBUILD_TRACING_COLLECTOR_HOST_PORT",
            trace.collector().to_string(),
        ),
    ]
}

/// What the command itself is a part of, if it is of anything.
fn above() -> Option<Context> {
    TRACE.get().and_then(Trace::parent)
}

/// Sends what was taken down until now, and does not wait for it: for a process that lives for long.
fn send_early() {
    let sending = std::thread::spawn(|| {
        if let Some(trace) = TRACE.get()
            && let Some(request) = trace.request_so_far()
        {
            send(trace, &request);
        }
    });
    *SENDING.lock().unwrap_or_else(PoisonError::into_inner) = Some(sending);
}

/// Sends what was taken down. The command has ended, well or with an error.
pub(crate) fn finish(error: Option<&anyhow::Error>) {
    let Some(trace) = TRACE.get() else { return };
    let sending = SENDING
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    send(trace, &trace.request(SystemTime::now(), error));
    if let Some(sending) = sending {
        // It complains itself.
        let _ = sending.join();
    }
}

fn send(trace: &Trace, request: &otlp::ExportTraceServiceRequest) {
    if let Err(why) = export::send(trace.collector(), request) {
        terminal::say(format_args!(
            "warning: the spans could not be sent to `{}`: {why:#}",
            trace.collector()
        ));
    }
}

#[cfg(test)]
mod tests;
