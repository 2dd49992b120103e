//! How a build's progress looks.
//!
//! * [`live`]: on a terminal, what happens now, below what has happened.
//! * [`plain`]: a line for everything.
//! * [`json`]: the same for programs.
//!
//! Texts come from Dockerfiles and from processes, both of which may be hostile: whatever is shown
//! goes through [`printable`].

pub(crate) mod json;
pub(crate) mod layers;
mod live;
mod plain;

use std::io::IsTerminal as _;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use firebuild_builder::progress::{Event, Place, Progress, Wait};
use firebuild_core::ByteSize;

use crate::{logging, terminal};

/// The ways to show progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Style {
    /// `tty` on a terminal, `plain` elsewhere
    #[default]
    Auto,
    /// Plain lines
    Plain,
    /// What happens now, redrawn all the time
    Tty,
    /// One JSON object a line, on standard error
    Json,
}

/// How a command that only moves layers shows what happens.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct ProgressArgument {
    /// How to show what happens
    #[arg(long, value_enum, default_value_t)]
    pub(crate) progress: Style,
}

impl ProgressArgument {
    /// Shows it as soon as there is something to show, and until it is dropped.
    pub(crate) fn on_demand(self, began: Instant) -> Arc<dyn Progress> {
        on_demand(self.progress, began)
    }
}

/// Something that shows progress in this style, as soon as there is some.
pub(crate) fn on_demand(style: Style, began: Instant) -> Arc<dyn Progress> {
    Arc::new(OnDemand::new(style, began))
}

/// Something that shows progress in this style, until it is dropped. The command `began` then.
pub(crate) fn shown(style: Style, began: Instant) -> Box<dyn Progress> {
    let terminal = std::io::stderr().is_terminal() && !logging::is_json();
    match style {
        Style::Json => Box::new(json::Json::new(began)),
        Style::Tty if terminal => Box::new(live::Live::new(terminal::colours())),
        Style::Auto if terminal && capable() => Box::new(live::Live::new(terminal::colours())),
        Style::Auto | Style::Plain | Style::Tty => Box::new(plain::Lines),
    }
}

/// Shows progress in a style as soon as there is some.
pub(crate) struct OnDemand {
    style: Style,
    began: Instant,
    shown: OnceLock<Box<dyn Progress>>,
}

impl OnDemand {
    pub(crate) fn new(style: Style, began: Instant) -> Self {
        Self {
            style,
            began,
            shown: OnceLock::new(),
        }
    }
}

impl Progress for OnDemand {
    fn event(&self, event: Event<'_>) {
        let shown = self.shown.get_or_init(|| shown(self.style, self.began));
        shown.event(event);
    }
}

/// How much there is of something that is fetched, as people read it.
fn amount(bytes: u64, size: Option<u64>) -> String {
    match (bytes, size) {
        (0, None) => String::new(),
        (bytes, None) => ByteSize(bytes).to_string(),
        (bytes, Some(size)) => format!("{} of {}", ByteSize(bytes), ByteSize(size)),
    }
}

/// Whether the terminal can move its cursor.
fn capable() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term != "dumb" && !term.is_empty())
}

/// A line that a process or a Dockerfile has written, without what would move the cursor, set the
/// terminal's title, or show the text in another order than it has.
pub(crate) fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let last = text
        .trim_end_matches('\r')
        .rsplit('\r')
        .next()
        .unwrap_or_default();
    let shown = |c: char| {
        let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if reorders || (c.is_control() && c != '\t') {
            '\u{fffd}'
        } else {
            c
        }
    };
    last.chars().map(shown).collect()
}

/// Where a step stands, as people read it.
fn mark(place: Place<'_>) -> String {
    let Place { stage, step, steps } = place;
    format!("[{} {step}/{steps}]", printable(stage.name.as_bytes()))
}

/// A length of time, as people read it.
pub(crate) fn time(duration: Duration) -> String {
    // A minute is a minute, and not 60.0 s.
    let tenths = (duration.as_millis() + 50) / 100;
    match tenths {
        0..600 => format!("{}.{} s", tenths / 10, tenths % 10),
        _ => format!("{} min {:02} s", tenths / 600, tenths % 600 / 10),
    }
}

/// What a stage waits for, as people read it.
pub(crate) fn waiting(wait: Wait<'_>) -> String {
    match wait {
        Wait::Stage(other) => format!("waiting for stage `{}`", printable(other.name.as_bytes())),
        Wait::Step => "waiting for another stage's same step".to_owned(),
        Wait::Slot => "waiting until another build VM ends".to_owned(),
        Wait::Cache(id) => format!(
            "waiting for cache `{}`, which another build VM uses",
            printable(id.as_bytes())
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_cannot_take_over_the_terminal() {
        assert_eq!(printable(b"10%\r50%\r100%\r"), "100%");
        assert_eq!(printable(b"a\x07b\tc\xff"), "a\u{fffd}b\tc\u{fffd}");
        assert_eq!(printable(b"\x1b[2J\xc2\x9b2J"), "\u{fffd}[2J\u{fffd}2J");
        assert_eq!(printable("a\u{202e}b\n".as_bytes()), "a\u{fffd}b\u{fffd}");
    }

    #[test]
    fn times_are_short() {
        for (milliseconds, expected) in [
            (0, "0.0 s"),
            (149, "0.1 s"),
            (59_949, "59.9 s"),
            (59_951, "1 min 00 s"),
            (125_000, "2 min 05 s"),
        ] {
            assert_eq!(time(Duration::from_millis(milliseconds)), expected);
        }
    }
}
