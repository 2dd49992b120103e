//! The JSON form: an array of strings, told from shell form as Go's decoder does it.
//!
//! Three outcomes matter, and an ordinary JSON library gives only two of them: an array of
//! strings, an array with something else in it (an error), and anything that is no JSON (shell
//! form). Go's decoder also takes lone surrogates, which become U+FFFD.

use std::ops::Range;

/// What the text is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Array {
    /// An array of strings, each with the range between its quotes.
    Strings(Vec<(String, Range<usize>)>),
    /// JSON, with an element at this range that is no string.
    Other(Range<usize>),
    /// Not a JSON array.
    Malformed,
}

/// The deepest nesting that Go's decoder accepts.
const MAX_DEPTH: usize = 10_000;

/// Reads an array of strings that takes up all of `text` but white space.
pub(crate) fn array(text: &str) -> Array {
    let mut scanner = Scanner { text, at: 0 };
    scanner.at = text.len() - text.trim_start().len();
    if scanner.peek() != Some(b'[') {
        return Array::Malformed;
    }
    scanner.elements().unwrap_or(Array::Malformed)
}

/// The string member `name` of a text that is one JSON object.
pub(crate) fn member(text: &str, name: &str) -> Option<String> {
    let mut scanner = Scanner { text, at: 0 };
    let mut found = None;
    scanner.blanks();
    scanner.expect(b'{')?;
    loop {
        scanner.blanks();
        let key = scanner.string()?;
        scanner.blanks();
        scanner.expect(b':')?;
        scanner.blanks();
        let value = match scanner.peek()? {
            b'"' => Some(scanner.string()?),
            _ => scanner.value().map(|()| None)?,
        };
        if key == name {
            found = value;
        }
        scanner.blanks();
        match scanner.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    scanner.blanks();
    scanner.peek().is_none().then_some(found)?
}

/// Reads JSON (RFC 8259) byte by byte; `None` where it is malformed.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The outermost array, to the end of the text.
    fn elements(&mut self) -> Option<Array> {
        let mut strings = Vec::new();
        let mut other = None;
        self.expect(b'[')?;
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
        } else {
            loop {
                self.blanks();
                let start = self.at;
                if self.peek() == Some(b'"') {
                    let string = self.string()?;
                    strings.push((string, start + 1..self.at - 1));
                } else {
                    self.value()?;
                    other.get_or_insert(start..self.at);
                }
                self.blanks();
                match self.next()? {
                    b',' => {}
                    b']' => break,
                    _ => return None,
                }
            }
        }
        self.blanks();
        match (self.peek(), other) {
            (Some(_), _) => None,
            (None, Some(range)) => Some(Array::Other(range)),
            (None, None) => Some(Array::Strings(strings)),
        }
    }

    /// Any value, checked and dropped; nesting is counted, not recursed into.
    fn value(&mut self) -> Option<()> {
        let mut open: Vec<u8> = Vec::new();
        loop {
            self.blanks();
            match self.peek()? {
                byte @ (b'[' | b'{') => {
                    self.at += 1;
                    self.blanks();
                    let close = if byte == b'[' { b']' } else { b'}' };
                    if self.peek() == Some(close) {
                        self.at += 1;
                    } else {
                        if open.len() >= MAX_DEPTH {
                            return None;
                        }
                        open.push(close);
                        self.name(close)?;
                        continue;
                    }
                }
                b'"' => drop(self.string()?),
                _ => self.literal()?,
            }
            // Behind a value: close what it ends, until there is more to come.
            loop {
                let Some(close) = open.last().copied() else {
                    return Some(());
                };
                self.blanks();
                match self.next()? {
                    b',' => {
                        self.name(close)?;
                        break;
                    }
                    byte if byte == close => drop(open.pop()),
                    _ => return None,
                }
            }
        }
    }

    /// A member's name and colon, inside an object.
    fn name(&mut self, close: u8) -> Option<()> {
        if close == b'}' {
            self.blanks();
            self.string()?;
            self.blanks();
            self.expect(b':')?;
        }
        Some(())
    }

    /// A number, `true`, `false` or `null`.
    fn literal(&mut self) -> Option<()> {
        let rest = &self.text[self.at..];
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')))
            .unwrap_or(rest.len());
        self.at += end;
        let literal = &rest[..end];
        (matches!(literal, "true" | "false" | "null") || is_number(literal)).then_some(())
    }

    fn string(&mut self) -> Option<String> {
        self.expect(b'"')?;
        let mut string = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest
                .find(|c: char| matches!(c, '"' | '\\') || c < ' ')
                .unwrap_or(rest.len());
            string.push_str(&rest[..plain]);
            self.at += plain;
            match self.next()? {
                b'"' => return Some(string),
                b'\\' => string.push(self.escape()?),
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        Some(match self.next()? {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{C}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return None,
        })
    }

    fn unicode(&mut self) -> Option<char> {
        let high = self.hexadecimal()?;
        if let Some(character) = char::from_u32(high) {
            return Some(character);
        }
        // A surrogate: with its other half behind it, one character; alone, none.
        let before = self.at;
        if self.text[self.at..].starts_with("\\u") {
            self.at += 2;
            let low = self.hexadecimal()?;
            if (0xD800..0xDC00).contains(&high) && (0xDC00..0xE000).contains(&low) {
                return char::from_u32(0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00));
            }
            self.at = before;
        }
        Some(char::REPLACEMENT_CHARACTER)
    }

    fn hexadecimal(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        digits
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit())
            .then(|| u32::from_str_radix(digits, 16).ok())?
    }
}

/// RFC 8259's `number` that a 64-bit float can hold: Go refuses larger ones.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let bytes = digits.as_bytes();
    let well_formed = matches!(
        bytes,
        [b'0'] | [b'0', b'.' | b'e' | b'E', ..] | [b'1'..=b'9', ..]
    );
    let dots_have_digits = bytes
        .windows(2)
        .all(|pair| pair[0] != b'.' || pair[1].is_ascii_digit());
    let finite = digits.parse::<f64>().is_ok_and(f64::is_finite);
    well_formed && dots_have_digits && bytes.last().is_some_and(u8::is_ascii_digit) && finite
}

/// Writes an array of strings as JSON.
pub(crate) fn write(
    f: &mut std::fmt::Formatter<'_>,
    strings: &[impl AsRef<str>],
) -> std::fmt::Result {
    f.write_str("[")?;
    for (at, string) in strings.iter().enumerate() {
        f.write_str(if at == 0 { "\"" } else { ", \"" })?;
        for character in string.as_ref().chars() {
            match character {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                '\r' => f.write_str("\\r")?,
                character if character < ' ' => write!(f, "\\u{:04x}", u32::from(character))?,
                character => write!(f, "{character}")?,
            }
        }
        f.write_str("\"")?;
    }
    f.write_str("]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_three_kinds_apart() {
        let strings =
            |list: &[&str]| Array::Strings(list.iter().map(|s| ((*s).to_owned(), 0..0)).collect());
        for (text, result) in [
            (r#"["a","b"]"#, strings(&["a", "b"])),
            (" [ \"a\" ,\t\"b\" ] ", strings(&["a", "b"])),
            ("[]", strings(&[])),
            (
                r#"["\"\\\/\b\f\n\r\tA"]"#,
                strings(&["\"\\/\u{8}\u{c}\n\r\tA"]),
            ),
            (r#"["\ud83d\ude00"]"#, strings(&["😀"])),
            (
                r#"["\ud83dx","\ude00","\ud83dA"]"#,
                strings(&["\u{FFFD}x", "\u{FFFD}", "\u{FFFD}A"]),
            ),
            (r#"["a", 1]"#, Array::Other(6..7)),
            (r#"[null]"#, Array::Other(1..5)),
            (
                r#"[["a", {"b": [1, 2.5e3, {}]}], true]"#,
                Array::Other(1..29),
            ),
            (r#"['a']"#, Array::Malformed),
            (r#"["a""#, Array::Malformed),
            (r#"["a",]"#, Array::Malformed),
            (r#"["a"] b"#, Array::Malformed),
            (r#"["a", {"b"}]"#, Array::Malformed),
            (r#"["a", [1,]]"#, Array::Malformed),
            (r#"["\x"]"#, Array::Malformed),
            (r#"["\u12"]"#, Array::Malformed),
            ("[\"a\tb\"]", Array::Malformed),
            ("[1e999]", Array::Malformed),
            ("[01]", Array::Malformed),
            ("[1.]", Array::Malformed),
            ("[.5]", Array::Malformed),
            ("[nul]", Array::Malformed),
            ("[infinity]", Array::Malformed),
            (r#"{"a":1}"#, Array::Malformed),
            ("", Array::Malformed),
        ] {
            let mut found = array(text);
            if let Array::Strings(strings) = &mut found {
                for (string, range) in strings {
                    let written = &text[std::mem::take(range)];
                    assert!(written.contains('\\') || written == string, "{text}");
                }
            }
            assert_eq!(found, result, "{text}");
        }
    }

    #[test]
    fn survives_deep_nesting() {
        let deep = |depth: usize| format!("[{}{}]", "[".repeat(depth), "]".repeat(depth));
        assert!(matches!(array(&deep(100)), Array::Other(_)));
        assert_eq!(array(&deep(1_000_000)), Array::Malformed);
    }
}
