//! Splitting an instruction's rest into words, in the two ways that BuildKit has: at white space,
//! and at white space outside quotes (`ENV`, `LABEL`, `ARG`).

use std::ops::Range;

use crate::Word;
use crate::lines::Line;

/// What separates words where quotes mean nothing: fewer characters than Unicode's white space.
pub(crate) fn is_blank(character: char) -> bool {
    matches!(character, '\t' | '\u{B}' | '\u{C}' | '\r' | ' ')
}

/// The ranges of the words of `range`, split at blanks.
pub(crate) fn blanks(line: &Line<'_>, range: Range<usize>) -> Vec<Range<usize>> {
    let text = line.get(range.clone());
    let mut words = Vec::new();
    let mut start = None;
    for (at, character) in text.char_indices() {
        match (is_blank(character), start) {
            (true, Some(from)) => {
                words.push(range.start + from..range.start + at);
                start = None;
            }
            (false, None) => start = Some(at),
            _ => {}
        }
    }
    if let Some(from) = start {
        words.push(range.start + from..range.end);
    }
    words
}

/// The range up to the first blank, and the rest behind the blanks.
pub(crate) fn first_word(line: &Line<'_>, range: Range<usize>) -> (Range<usize>, Range<usize>) {
    let text = line.get(range.clone());
    let end = text.find(is_blank).unwrap_or(text.len());
    let rest = text[end..].trim_start_matches(is_blank);
    let word = range.start..range.start + end;
    (word, range.end - rest.len()..range.end)
}

/// The words of `range`, split at white space outside quotes; quotes and escapes stay in them. An
/// escape character at the very end is dropped.
pub(crate) fn quoted(line: &Line<'_>, range: Range<usize>, escape: char) -> Vec<Word> {
    let text = line.get(range.clone());
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut end = text.len();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if quote.is_none() && character.is_whitespace() {
            if let Some(from) = start.take() {
                words.push(range.start + from..range.start + at);
            }
            continue;
        }
        start.get_or_insert(at);
        if character == escape && quote != Some('\'') {
            if characters.next().is_none() {
                end = at;
            }
        } else if quote == Some(character) {
            quote = None;
        } else if quote.is_none() && matches!(character, '\'' | '"') {
            quote = Some(character);
        }
    }
    if let Some(from) = start.filter(|from| *from < end) {
        words.push(range.start + from..range.start + end);
    }
    words.into_iter().map(|word| line.word(word)).collect()
}
