//! How a build's progress looks.

use std::borrow::Cow;
use std::io::IsTerminal as _;
use std::time::Duration;

use clap::ValueEnum;
use firebuild_builder::progress::{Event, Output, Place, Progress, StageRef, Wait};
use firebuild_core::ByteSize;
use serde::Serialize;

use crate::terminal;

/// The ways to show progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Style {
    /// Plain, with colours on a terminal
    #[default]
    Auto,
    /// Plain lines
    Plain,
    /// One JSON object a line, on standard error
    Json,
}

/// Something that shows progress in this style.
pub(crate) fn shown(style: Style) -> Box<dyn Progress> {
    match style {
        Style::Json => Box::new(Json),
        Style::Plain => Box::new(Lines { colours: false }),
        Style::Auto => Box::new(Lines {
            colours: terminal::colours() && std::io::stderr().is_terminal(),
        }),
    }
}

/// One line for everything that happens, each with its stage and step in front.
struct Lines {
    colours: bool,
}

impl Lines {
    fn line(&self, place: Place<'_>, text: &str) {
        let Place { stage, step, steps } = place;
        self.marked(&format!("{} {step}/{steps}", stage.name), text);
    }

    fn stage(&self, stage: StageRef<'_>, text: &str) {
        self.marked(stage.name, text);
    }

    fn about(&self, stage: Option<StageRef<'_>>, text: &str) {
        match stage {
            Some(stage) => self.stage(stage, text),
            None => terminal::say(text),
        }
    }

    fn marked(&self, mark: &str, text: &str) {
        let (dim, plain) = if self.colours {
            ("\x1b[2m", "\x1b[0m")
        } else {
            ("", "")
        };
        terminal::say(format_args!("{dim}[{mark}]{plain} {text}"));
    }
}

impl Progress for Lines {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Step { place, text, .. } => self.line(place, text),
            Event::Cached { place, .. } => self.line(place, "cached"),
            Event::Done {
                place,
                duration,
                size: Some(size),
            } => {
                self.line(
                    place,
                    &format!(
                        "done in {:.1} s, {}",
                        duration.as_secs_f64(),
                        ByteSize(size)
                    ),
                );
            }
            Event::Failed { place, .. } => self.line(place, "failed"),
            Event::Line { place, line, .. } => self.line(place, &printable(line)),
            Event::Waiting { stage, wait } => self.stage(stage, &waiting(wait)),
            Event::VmStarting { stage, id } => {
                self.stage(stage, &format!("starting build VM {id}"));
            }
            Event::Note { stage, text } => self.about(stage, text),
            Event::Warning { stage, text } => self.about(stage, &format!("warning: {text}")),
            Event::Build { .. }
            | Event::StageStarted { .. }
            | Event::StageDone { .. }
            | Event::Waited { .. }
            | Event::VmReady { .. }
            | Event::VmEnded { .. }
            | Event::Done { size: None, .. } => {}
        }
    }
}

fn waiting(wait: Wait<'_>) -> String {
    match wait {
        Wait::Stage(other) => format!("waiting for stage `{}`", other.name),
        Wait::Step => "waiting for another stage's same step".to_owned(),
        Wait::Slot => "waiting until another build VM ends".to_owned(),
        Wait::Cache(id) => format!("waiting for cache `{id}`, which another build VM uses"),
    }
}

/// A line of a process's output without what would move the cursor or set the terminal's title.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let last = text
        .trim_end_matches('\r')
        .rsplit('\r')
        .next()
        .unwrap_or_default();
    last.chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// One JSON object for everything that happens.
struct Json;

#[derive(Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Record<'a> {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

impl<'a> Record<'a> {
    fn new(event: &'static str) -> Self {
        Self {
            event,
            ..Self::default()
        }
    }

    fn at(self, place: Place<'a>) -> Self {
        Self {
            stage: Some(place.stage.name),
            step: Some(place.step),
            steps: Some(place.steps),
            ..self
        }
    }

    fn text(self, text: impl Into<Cow<'a, str>>) -> Self {
        Self {
            text: Some(text.into()),
            ..self
        }
    }

    fn took(self, duration: Duration, size: Option<u64>) -> Self {
        Self {
            seconds: Some(duration.as_secs_f64()),
            size,
            ..self
        }
    }
}

impl Progress for Json {
    fn event(&self, event: Event<'_>) {
        let record = match event {
            Event::Step { place, text, .. } => Record::new("step").at(place).text(text),
            Event::Cached { place, saved, size } => {
                Record::new("cached").at(place).took(saved, size)
            }
            Event::Done {
                place,
                duration,
                size,
            } => Record::new("done").at(place).took(duration, size),
            Event::Line {
                place,
                output,
                line,
            } => {
                let name = if output == Output::Stdout {
                    "stdout"
                } else {
                    "stderr"
                };
                Record::new(name)
                    .at(place)
                    .text(String::from_utf8_lossy(line))
            }
            Event::Note { text, .. } => Record::new("note").text(text),
            Event::Warning { text, .. } => Record::new("warning").text(text),
            _ => return,
        };
        // Strings and numbers always serialise.
        terminal::say(serde_json::to_string(&record).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_cannot_take_over_the_terminal() {
        assert_eq!(printable(b"10%\r50%\r100%\r"), "100%");
        assert_eq!(printable(b"a\x07b\tc\xff"), "a\u{fffd}b\tc\u{fffd}");
    }
}
