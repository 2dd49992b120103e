//! A Dockerfile of any bytes is refused at a place in it, or parses to instructions that print to
//! a Dockerfile of the same meaning.

use firebuild_dockerfile::{Dockerfile, Span, detect_syntax, parse, parse_trigger};
use serde_json::Value;

/// Printing is allowed to add so many bytes for each byte, for quotes and escapes.
const GROWTH: usize = 8;

/// Printed with its growth, so many bytes still are a line's.
const LONG: usize = 65_535 / GROWTH;

pub fn parser(data: &[u8]) {
    if let Some(syntax) = detect_syntax(data) {
        place(data, syntax.span);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        trigger(text);
    }
    match parse(data) {
        Err(error) => {
            place(data, error.span);
            let text = error.to_string();
            assert!(
                !text.is_empty() && text.len() < 1000 + data.len() * 4,
                "{text}"
            );
        }
        Ok(dockerfile) => {
            places(data, &dockerfile);
            round_trip(data, &dockerfile);
        }
    }
}

/// What parses as a trigger does so again when it is printed.
fn trigger(text: &str) {
    let Ok(first) = parse_trigger(text) else {
        return;
    };
    // What stands above it, directives and descriptions, is not part of a trigger and not printed.
    if text.contains("escape") || !first.comments.is_empty() {
        return;
    }
    let printed = first.to_string();
    // A line of a file has something behind it; alone, this would be a continuation.
    if printed.ends_with('\\') {
        return;
    }
    let second = parse_trigger(&format!("\n{printed}"))
        .unwrap_or_else(|error| panic!("{error} in the printed trigger {printed:?}"));
    assert_eq!(bare(&first), bare(&second), "{printed}");
}

fn places(data: &[u8], dockerfile: &Dockerfile) {
    let mut end = 0;
    for instruction in &dockerfile.instructions {
        place(data, instruction.span);
        place(data, instruction.keyword.span);
        assert!(instruction.span.start.offset >= end, "instructions overlap");
        end = instruction.span.end.offset;
        for heredoc in instruction.kind.heredocs() {
            place(data, heredoc.body_span);
            place(data, heredoc.token.span);
        }
    }
    let warnings = &dockerfile.warnings;
    for warning in warnings {
        place(data, warning.span);
    }
    assert!(warnings.is_sorted_by_key(|warning| warning.span.start));
}

/// A mark lies in the text and in the line that it names.
fn place(data: &[u8], span: Span) {
    assert!(data.get(span.range()).is_some(), "{span:?}");
    for position in [span.start, span.end] {
        let before = &data[..position.offset];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(position.line as usize, line, "{span:?}");
    }
}

fn round_trip(data: &[u8], first: &Dockerfile) {
    let printed = first.to_string();
    let second = match parse(printed.as_bytes()) {
        Ok(second) => second,
        // What is printed of a long line may be longer than a line is allowed to be.
        Err(_) if data.len() > LONG => return,
        Err(error) => panic!("{error} at {:?} in\n{printed}", error.span.start),
    };
    let bound = 1000 + data.len() * GROWTH;
    assert!(
        printed.len() <= bound,
        "{} to {}",
        data.len(),
        printed.len()
    );
    assert_eq!(meaning(first), meaning(&second), "{printed}");
    assert_eq!(printed, second.to_string());
}

fn meaning(dockerfile: &Dockerfile) -> Vec<Value> {
    dockerfile.instructions.iter().map(bare).collect()
}

/// An instruction without the places where it stands.
fn bare(instruction: &firebuild_dockerfile::Instruction) -> Value {
    let mut value = serde_json::to_value(instruction).unwrap();
    strip_places(&mut value);
    value
}

fn strip_places(value: &mut Value) {
    if let Value::Object(fields) = value {
        for name in ["line", "end_line", "original", "expression"] {
            fields.remove(name);
        }
        fields.values_mut().for_each(strip_places);
    }
}
