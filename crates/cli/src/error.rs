//! How an error looks, which exit status it has, and what is said to do next.
//!
//! An error is printed as `error:`, a `caused by:` line for each cause, and `hint:` where there is
//! something to type.

use std::fmt;
use std::process::ExitCode;

use firebuild_core::shortened;

use crate::logging::{self, Level, Line};
use crate::terminal;

/// The exit status of firebuild's own failures, as Docker has it.
pub(crate) const OWN_FAILURE: u8 = 125;

/// How many characters a line of an error has at most: what it quotes may have any number.
pub(crate) const QUOTED: usize = 600;

/// An error with something to type next.
#[derive(Debug)]
pub(crate) struct Hinted {
    message: String,
    hint: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Hinted {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.source.as_deref()?;
        Some(source)
    }
}

/// An error with a hint.
pub(crate) fn hinted(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Hinted {
        message: message.into(),
        hint: hint.into(),
        source: None,
    }
    .into()
}

/// An error with a cause and a hint.
pub(crate) fn hinted_by(
    message: impl Into<String>,
    hint: impl Into<String>,
    source: impl std::error::Error + Send + Sync + 'static,
) -> anyhow::Error {
    Hinted {
        message: message.into(),
        hint: hint.into(),
        source: Some(Box::new(source)),
    }
    .into()
}

/// An error that is already a finished picture: a Dockerfile's line with a mark.
#[derive(Debug)]
pub(crate) struct Rendered(pub(crate) String);

impl fmt::Display for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Rendered {}

/// What was asked has been answered, and the answer is no: nothing more is said, and the exit
/// status is 1.
#[derive(Debug)]
pub(crate) struct Negative;

impl fmt::Display for Negative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no")
    }
}

impl std::error::Error for Negative {}

/// Prints an error and gives the exit status.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if error.is::<Negative>() {
        return ExitCode::FAILURE;
    }
    if logging::is_json() {
        report_as_json(error);
        return ExitCode::from(status_of(error));
    }
    if let Some(Rendered(picture)) = error.downcast_ref() {
        terminal::event(picture);
        return ExitCode::from(OWN_FAILURE);
    }
    let (bold, plain) = match terminal::colours() {
        true => ("\x1b[1m", "\x1b[0m"),
        false => ("", ""),
    };
    // Whatever an error quotes, a terminal is not to obey it.
    let mut causes = error.chain().map(|cause| quoted(&cause.to_string()));
    terminal::event(format_args!(
        "{} {}",
        mark(),
        causes.next().unwrap_or_default()
    ));
    for cause in causes {
        terminal::event(format_args!("{bold}caused by:{plain} {cause}"));
    }
    if let Some(hint) = hint_of(error) {
        let hint = quoted(&hint);
        terminal::event(format_args!("{bold}hint:{plain} {hint}"));
    }
    ExitCode::from(status_of(error))
}

/// What an error begins with.
pub(crate) fn mark() -> &'static str {
    match terminal::colours() {
        true => "\x1b[1;31merror:\x1b[0m",
        false => "error:",
    }
}

/// The same as one line for programs.
fn report_as_json(error: &anyhow::Error) {
    let mut chain = error.chain().map(|cause| quoted(&cause.to_string()));
    let message = chain.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    let causes: Vec<String> = chain.collect();
    let hint = hint_of(error).map(|hint| quoted(&hint));
    terminal::event(Line::new(Level::Error, message).because(&causes, hint.as_deref()));
}

/// Text that a terminal only shows, in lines of bounded length.
pub(crate) fn quoted(text: &str) -> String {
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| shortened(line, QUOTED))
        .collect();
    lines.join("\n")
}

/// 126 or 127 where a program cannot be executed or found in a VM, else firebuild's own.
fn status_of(error: &anyhow::Error) -> u8 {
    error
        .chain()
        .find_map(|cause| cause.downcast_ref::<firebuild_machine::Error>())
        .map_or(OWN_FAILURE, firebuild_machine::Error::exit_status)
}

/// What an error or one of its causes suggests to do.
pub(crate) fn hint_of(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(hint)
}

/// What an error of a library or one of its causes suggests to do.
pub(crate) fn hint_in(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    std::iter::successors(Some(error), |error| error.source()).find_map(hint)
}

/// What one error of a chain suggests to do.
fn hint(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(hinted) = error.downcast_ref::<Hinted>() {
        return Some(hinted.hint.clone());
    }
    if let Some(error) = error.downcast_ref::<crate::profile::ProfileError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<firebuild_builder::Error>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<firebuild_builder::StepError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<firebuild_builder::contexts::ContextError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<firebuild_builder::fetch::FetchError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<firebuild_builder::base::BootstrapError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<firebuild_builder::provider::ProviderError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<firebuild_store::Error>() {
        return error.hint().map(str::to_owned);
    }
    if let Some(error) = error.downcast_ref::<firebuild_oci::Error>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<firebuild_oci::registry::RegistryError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<firebuild_machine::Error>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<firebuild_machine::boot::BootError>() {
        return error.hint();
    }
    error
        .downcast_ref::<firebuild_network::Error>()
        .and_then(|error| error.hint())
}
