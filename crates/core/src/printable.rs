//! Text from elsewhere, in messages: not too long, and nothing in it that a terminal obeys.

/// Whether a terminal would do something at this character instead of showing it: control characters, and
/// those that make what stands beside them be shown in another order.
#[must_use]
pub fn is_obeyed(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The first `most` characters of a text, with what a terminal would obey written as escapes.
#[must_use]
pub fn printable(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for letter in text.chars().take(most) {
        if is_obeyed(letter) {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// The same of the whole text; of one that is longer than `most` characters, at least 3, the beginning and
/// the end, with `…` between them.
#[must_use]
pub fn shortened(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most {
        return printable(text, most);
    }
    let end = most.saturating_sub(1) / 2;
    let begin = most.saturating_sub(1) - end;
    let rest = text.char_indices().nth(length - end);
    let rest = rest.map_or("", |(at, _)| &text[at..]);
    format!("{}…{}", printable(text, begin), printable(rest, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_only_shows_it() {
        for (text, expected) in [
            ("", ""),
            ("etc/x \u{e9}", "etc/x \u{e9}"),
            ("a\nb\u{1b}[2J\u{7f}\0", "a\\nb\\u{1b}[2J\\u{7f}\\u{0}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{202e}gnp.exe", "\\u{202e}gnp.exe"),
        ] {
            assert_eq!(printable(text, 100), expected);
            assert_eq!(shortened(text, 100), expected);
        }
        assert_eq!(printable(&"x".repeat(1000), 300).len(), 300);
    }

    #[test]
    fn a_long_text_is_shortened_in_the_middle() {
        for (text, most, expected) in [
            ("abcdefgh", 8, "abcdefgh"),
            ("abcdefghi", 8, "abcd…ghi"),
            ("abcdefghi", 7, "abc…ghi"),
            ("äöüßéèêëē", 5, "äö…ëē"),
            ("abcd\u{1b}efg", 3, "a…g"),
            ("abcd", 3, "a…d"),
        ] {
            assert_eq!(shortened(text, most), expected, "{text} {most}");
        }
    }
}
