//! One line of comma-separated values (RFC 4180), as Go's `encoding/csv` reads it.

use std::ops::Range;

/// The fields of one line of comma-separated values (RFC 4180), with the ranges that they were
/// read from; `None` where the quotes do not match.
pub(crate) fn fields(text: &str) -> Option<Vec<(String, Range<usize>)>> {
    let mut fields = Vec::new();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let (field, length) = match rest.strip_prefix('"') {
            Some(inner) => quoted_field(inner).map(|(field, length)| (field, length + 1))?,
            None => {
                let length = rest.find(',').unwrap_or(rest.len());
                if rest[..length].contains('"') {
                    return None;
                }
                (rest[..length].to_owned(), length)
            }
        };
        fields.push((field, at..at + length));
        at += length;
        match text[at..].chars().next() {
            None => return Some(fields),
            Some(',') => at += 1,
            Some(_) => return None,
        }
    }
}

/// A field behind its first quote, and its length with the last one.
fn quoted_field(text: &str) -> Option<(String, usize)> {
    let mut field = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if character != '"' {
            field.push(character);
        } else if characters.next_if(|(_, next)| *next == '"').is_some() {
            field.push('"');
        } else {
            return Some((field, at + 1));
        }
    }
    None
}
