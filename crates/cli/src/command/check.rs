//! What checks find in a Dockerfile: `build --check`, and the warnings of every build.
//!
//! docs/checks.md has the rules and the form as JSON.

use std::io::IsTerminal as _;

use firebuild_dockerfile::{ParseError, Span, Warning};
use firebuild_plan::check::{Report, VERSION};
use firebuild_plan::lower::LowerError;
use serde::Serialize;

use super::Format;
use crate::error::{Negative, hinted};
use crate::picture::Picture;
use crate::progress::Style;
use crate::terminal;

/// Why a file is not only odd but wrong.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It cannot be read.
    Parse(ParseError),
    /// What it says cannot be done.
    Lower(LowerError),
}

impl Failure {
    fn shown(&self) -> ShownFailure {
        match self {
            Self::Parse(error) => ShownFailure {
                message: error.to_string(),
                span: error.span,
            },
            Self::Lower(error) => ShownFailure {
                message: error.to_string(),
                span: error.span,
            },
        }
    }

    fn pictured(self, picture: &Picture<'_>) -> anyhow::Error {
        match self {
            Self::Parse(error) => picture.of_parse(&error),
            Self::Lower(error) => picture.of_lowering(error),
        }
    }
}

#[derive(Serialize)]
struct ShownFailure {
    message: String,
    #[serde(flatten)]
    span: Span,
}

/// A report as JSON.
#[derive(Serialize)]
struct Shown<'a> {
    version: u32,
    dockerfile: &'a str,
    error: bool,
    warnings: &'a [Warning],
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<ShownFailure>,
}

/// Prints what was found: `build --check`. There is no report of a file that cannot be read.
///
/// # Errors
/// [`Negative`] if anything was found, and what is wrong with the file.
pub(crate) fn print(
    report: Option<&Report>,
    failure: Option<Failure>,
    picture: &Picture<'_>,
    format: Format,
) -> anyhow::Result<()> {
    let warnings = report.map_or(&[][..], |report| &report.warnings);
    match format {
        Format::Json => terminal::print_json(&Shown {
            version: VERSION,
            dockerfile: picture.name,
            error: report.is_some_and(|report| report.error),
            warnings,
            failure: failure.as_ref().map(Failure::shown),
        })?,
        Format::Text => {
            for warning in warnings {
                let shown = picture.of_warning(warning, terminal::colours_on_output());
                terminal::print(format_args!("{shown}\n\n"))?;
            }
            if failure.is_none() {
                terminal::print(format_args!("{}\n", count(warnings.len())))?;
            }
        }
    }
    match failure {
        Some(failure) => Err(failure.pictured(picture)),
        None if warnings.is_empty() => Ok(()),
        None => Err(Negative.into()),
    }
}

/// The languages that BuildKit's own image reads, and firebuild.
const LANGUAGES: [&str; 2] = ["docker/dockerfile", "docker/dockerfile-upstream"];

/// Tells of a file that asks to be read by another program: nobody loads it.
pub(crate) fn tell_of_language(text: &[u8], style: Style) {
    let Some(syntax) = firebuild_dockerfile::detect_syntax(text) else {
        return;
    };
    let name = syntax.text.split_whitespace().next().unwrap_or_default();
    let image = name.strip_prefix("docker.io/").unwrap_or(name);
    let image = image.split([':', '@']).next().unwrap_or_default();
    if LANGUAGES.contains(&image) {
        return;
    }
    let text = format!("`# syntax={name}` is not loaded; the file is read as a Dockerfile");
    match style {
        Style::Json => terminal::event(serde_json::json!({ "event": "warning", "text": text })),
        Style::Auto | Style::Plain | Style::Tty => terminal::say(format_args!("warning: {text}")),
    }
}

/// Tells what was found before a build.
///
/// # Errors
/// If the file says that it must not be built then.
pub(crate) fn tell(report: &Report, picture: &Picture<'_>, style: Style) -> anyhow::Result<()> {
    for warning in &report.warnings {
        match style {
            Style::Json => terminal::event(event(warning)?),
            Style::Auto | Style::Tty if std::io::stderr().is_terminal() => {
                terminal::say(picture.of_warning(warning, terminal::colours()));
            }
            Style::Auto | Style::Plain | Style::Tty => terminal::say(line(warning, picture.name)),
        }
    }
    if !report.fails() {
        return Ok(());
    }
    let rules: Vec<&str> = report.rules().into_iter().map(|rule| rule.name()).collect();
    Err(hinted(
        format!(
            "the checks found something, which `check=error=true` makes an error: {}",
            rules.join(", ")
        ),
        "`build --check` shows where; `check=skip=RULE` turns a rule off",
    ))
}

fn count(warnings: usize) -> String {
    match warnings {
        0 => "no warnings".to_owned(),
        1 => "1 warning".to_owned(),
        count => format!("{count} warnings"),
    }
}

/// A warning in one line, as compilers have it.
fn line(warning: &Warning, name: &str) -> String {
    let place = warning.span.start;
    format!(
        "warning: {name}:{}:{}: {} ({})",
        place.line, place.column, warning.message, warning.rule
    )
}

/// A warning among a build's events.
fn event(warning: &Warning) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Event<'a> {
        event: &'static str,
        text: &'a str,
        #[serde(flatten)]
        warning: &'a Warning,
    }
    serde_json::to_string(&Event {
        event: "warning",
        text: &warning.message,
        warning,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_has_one_line_or_one_event() {
        let file = firebuild_dockerfile::parse(b"FROM scratch AS B\n").unwrap();
        let warning = &file.warnings[0];
        assert_eq!(
            line(warning, "Dockerfile"),
            "warning: Dockerfile:1:17: stage name `B` should be lower case (StageNameCasing)"
        );
        let event: serde_json::Value = serde_json::from_str(&event(warning).unwrap()).unwrap();
        assert_eq!(event["event"], "warning");
        assert_eq!(event["rule"], "StageNameCasing");
        assert_eq!(event["text"], event["message"]);
        assert_eq!(event["start"]["column"], 17);
    }
}
