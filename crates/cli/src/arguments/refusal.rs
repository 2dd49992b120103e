//! What is said of a command line that is none.
//!
//! What must hold: whatever was typed, a terminal only shows it, and a value of thousands of characters does
//! not take the message away that is about it.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use firebuild_core::shortened;

use crate::error::QUOTED;

/// How many characters of a value are shown.
const VALUE: usize = 80;

/// What clap says of an error, as text without colours.
pub(crate) fn said(mut error: clap::Error) -> String {
    let cleaned: Vec<(ContextKind, ContextValue)> = error
        .context()
        .filter_map(|(kind, value)| Some((kind, clean(value)?)))
        .collect();
    for (kind, value) in cleaned {
        error.insert(kind, value);
    }
    let text = match refused_value(&error) {
        Some(text) => text,
        None => error.render().to_string(),
    };
    let lines: Vec<String> = text.lines().map(|line| shortened(line, QUOTED)).collect();
    lines.join("\n")
}

/// The same context with what was typed made short, if it may have to be.
fn clean(value: &ContextValue) -> Option<ContextValue> {
    match value {
        ContextValue::String(text) => Some(ContextValue::String(shortened(text, VALUE))),
        ContextValue::Strings(texts) => {
            let texts = texts.iter().map(|text| shortened(text, VALUE));
            Some(ContextValue::Strings(texts.collect()))
        }
        _ => None,
    }
}

/// The message about a value that a flag's own parser has refused. Clap would put the parser's words in it
/// as they are.
fn refused_value(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::ValueValidation {
        return None;
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    };
    let flag = text(ContextKind::InvalidArg)?;
    let value = text(ContextKind::InvalidValue)?;
    let why = std::error::Error::source(error)?.to_string();
    let why = shortened(&why, QUOTED / 2);
    let mut said = format!("error: invalid value '{value}' for '{flag}': {why}\n");
    if let Some(ContextValue::StyledStrs(tips)) = error.get(ContextKind::Suggested) {
        let tips = tips.iter().map(|tip| format!("\n  tip: {tip}\n"));
        said.extend(tips);
    }
    said.push_str("\nFor more information, try '--help'.\n");
    Some(said)
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    use super::*;

    fn refused(arguments: &[&str]) -> String {
        let flag = Arg::new("size")
            .long("size")
            .value_parser(|text: &str| Err::<u8, _>(format!("`{text}` is no size")));
        let kind = Arg::new("kind").long("kind").value_parser(["a", "b"]);
        let command = Command::new("test").args([flag, kind]);
        let arguments = ["test"].iter().chain(arguments);
        said(command.try_get_matches_from(arguments).unwrap_err())
    }

    #[test]
    fn a_value_is_quoted_as_text_of_bounded_length() {
        let long = "x".repeat(5_000);
        for value in ["\u{1b}[31m", "a\nb", "\u{9b}2J", &long] {
            for flag in ["--size", "--kind", "--nosuch", "word"] {
                let given = format!("{flag}={value}");
                let said = refused(&[&given]);
                let name = flag.split(' ').next().unwrap();
                assert!(said.starts_with("error: ") && said.contains(name), "{said}");
                let obeyed = |c| firebuild_core::is_obeyed(c) && c != '\n';
                assert!(!said.chars().any(obeyed), "{said:?}");
                assert!(said.len() < 2 * QUOTED, "{said}");
            }
        }
        assert_eq!(
            refused(&["--size=\u{1b}\n"]),
            "error: invalid value '\\u{1b}\\n' for '--size <size>': `\\u{1b}\\n` is no size\n\nFor more information, try '--help'."
        );
    }
}
