//! Text from elsewhere, in messages: one line, not too long, and nothing in it that a terminal obeys.

/// At most so many letters of `text`, with control characters as `\u{…}`, `\n` and the like.
#[must_use]
pub fn printable(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for letter in text.chars().take(most) {
        if letter.is_control() {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
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
        ] {
            assert_eq!(printable(text, 100), expected);
        }
        assert_eq!(printable(&"x".repeat(1000), 300).len(), 300);
    }
}
