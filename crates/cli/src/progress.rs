//! How a build's progress looks.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use firebuild_builder::progress::{Event, Output, Place, Progress};
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
        let (dim, plain) = if self.colours {
            ("\x1b[2m", "\x1b[0m")
        } else {
            ("", "")
        };
        terminal::say(format_args!("{dim}[{stage} {step}/{steps}]{plain} {text}"));
    }
}

impl Progress for Lines {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Step { place, text } => self.line(place, text),
            Event::Cached { place } => self.line(place, "cached"),
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
            Event::Done { .. } => {}
            Event::Line { place, line, .. } => self.line(place, &printable(line)),
            Event::Note { text } => terminal::say(text),
            Event::Warning { text } => terminal::say(format_args!("warning: {text}")),
        }
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

#[derive(Serialize)]
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
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

impl Progress for Json {
    fn event(&mut self, event: Event<'_>) {
        let (name, place, text, seconds, size) = match event {
            Event::Step { place, text } => ("step", Some(place), Some(text.to_owned()), None, None),
            Event::Cached { place } => ("cached", Some(place), None, None, None),
            Event::Done {
                place,
                duration,
                size,
            } => (
                "done",
                Some(place),
                None,
                Some(duration.as_secs_f64()),
                size,
            ),
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
                (
                    name,
                    Some(place),
                    Some(String::from_utf8_lossy(line).into_owned()),
                    None,
                    None,
                )
            }
            Event::Note { text } => ("note", None, Some(text.to_owned()), None, None),
            Event::Warning { text } => ("warning", None, Some(text.to_owned()), None, None),
        };
        let record = Record {
            event: name,
            stage: place.map(|place| place.stage),
            step: place.map(|place| place.step),
            steps: place.map(|place| place.steps),
            text,
            seconds,
            size,
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
