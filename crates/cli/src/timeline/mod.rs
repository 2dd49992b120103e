//! A build as a chart over time: one page for a browser, without anything from elsewhere.
//!
//! * [`record`]: listens to a build.
//! * [`model`]: what happened when, and what made it take as long as it did.
//! * [`spans`]: the same as spans of a trace.
//! * [`chart`], [`page`]: how that looks.

mod chart;
mod model;
mod page;
mod record;
mod spans;

use firebuild_builder::Built;

pub(crate) use record::Recorder;

/// What the page says beside the chart.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    /// What was built, as people call it.
    pub(crate) title: &'a str,
    /// The result, if there is one.
    pub(crate) built: Option<&'a Built>,
}

/// Adds what was recorded until now to the trace of this process.
pub(crate) fn trace(recorder: &Recorder) {
    if crate::tracing::is_on() {
        spans::add(&recorder.timeline(), recorder.began());
    }
}

/// The page, from what was recorded until now.
pub(crate) fn page(recorder: &Recorder, facts: &Facts<'_>) -> String {
    page::page(&recorder.timeline(), facts)
}
