//! The patterns of `${x#…}`, `${x%…}` and `${x/…}`: `*` and `?`, neither of which matches a line
//! break, and `\` before `*`, `?`, `\`, `/` and `}`.

/// One unit of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`
    Any,
    /// `*`
    Star,
}

/// A backslash before a character that needs none, or at the end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadEscape;

/// Matching would take more steps than are allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooExpensive;

/// The most steps that the substitutions of one word may take: about a second of work.
pub(super) const MAX_STEPS: usize = 50_000_000;

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Token>);

/// Whether the shortest or the longest match counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Shortest,
    Longest,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, BadEscape> {
        let mut tokens = Vec::new();
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            tokens.push(match character {
                '*' => Token::Star,
                '?' => Token::Any,
                '\\' => match characters.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '/' | '}')) => Token::Literal(escaped),
                    _ => return Err(BadEscape),
                },
                literal => Token::Literal(literal),
            });
        }
        Ok(Self(tokens))
    }

    /// `value` without the match at its beginning.
    pub(super) fn strip_prefix(
        &self,
        value: &str,
        length: Length,
        steps: &mut usize,
    ) -> Result<String, TooExpensive> {
        let value: Vec<char> = value.chars().collect();
        let end = self.match_at(&value, length, steps)?.unwrap_or(0);
        Ok(value[end..].iter().collect())
    }

    /// `value` without the match at its end.
    pub(super) fn strip_suffix(
        &self,
        value: &str,
        length: Length,
        steps: &mut usize,
    ) -> Result<String, TooExpensive> {
        let reversed = Self(self.0.iter().rev().copied().collect());
        let value: Vec<char> = value.chars().rev().collect();
        let end = reversed.match_at(&value, length, steps)?.unwrap_or(0);
        Ok(value[end..].iter().rev().collect())
    }

    /// `value` with the first match, or all of them, replaced; matches are as long as possible
    /// and an empty one right behind another does not count.
    pub(super) fn replace(
        &self,
        value: &str,
        replacement: &str,
        all: bool,
        steps: &mut usize,
    ) -> Result<String, TooExpensive> {
        let value: Vec<char> = value.chars().collect();
        let mut result = String::new();
        let mut at = 0;
        let mut last_end = None;
        let mut done = false;
        while at <= value.len() {
            let found = match done {
                true => None,
                false => self.match_at(&value[at..], Length::Longest, steps)?,
            };
            let found = found.filter(|length| *length > 0 || last_end != Some(at));
            if let Some(length) = found {
                result.push_str(replacement);
                if result.len() > super::MAX_WORD * 2 {
                    // The caller refuses it; there is no use in going on.
                    return Ok(result);
                }
                last_end = Some(at + length);
                done = !all;
            }
            match found {
                Some(length) if length > 0 => at += length,
                _ => {
                    result.extend(value.get(at));
                    at += 1;
                }
            }
        }
        Ok(result)
    }

    /// The length of the match at the beginning of `value`, in characters.
    fn match_at(
        &self,
        value: &[char],
        length: Length,
        steps: &mut usize,
    ) -> Result<Option<usize>, TooExpensive> {
        // `active[i]`: the tokens before the i-th have matched what was read so far.
        let mut active = vec![false; self.0.len() + 1];
        active[0] = true;
        self.pass_stars(&mut active);
        let mut found = None;
        for at in 0..=value.len() {
            if active[self.0.len()] {
                found = Some(at);
                if length == Length::Shortest {
                    break;
                }
            }
            *steps += active.len();
            if *steps > MAX_STEPS {
                return Err(TooExpensive);
            }
            let Some(character) = value.get(at).copied() else {
                break;
            };
            if !self.step(&mut active, character) {
                break;
            }
            self.pass_stars(&mut active);
        }
        Ok(found)
    }

    /// Moves on by one character; says whether anything still matches.
    fn step(&self, active: &mut [bool], character: char) -> bool {
        let mut alive = false;
        let mut carried = false;
        for (at, state) in active.iter_mut().enumerate() {
            let was = *state;
            *state = carried;
            carried = false;
            match self.0.get(at) {
                Some(Token::Star) => *state |= was && character != '\n',
                Some(Token::Any) => carried = was && character != '\n',
                Some(Token::Literal(literal)) => carried = was && *literal == character,
                None => {}
            }
            alive |= *state || carried;
        }
        alive
    }

    /// A star may match nothing.
    fn pass_stars(&self, active: &mut [bool]) {
        for (at, token) in self.0.iter().enumerate() {
            if *token == Token::Star && active[at] {
                active[at + 1] = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_prefixes_and_suffixes() {
        let strip = |pattern, value, suffix: bool, length| {
            let pattern = Pattern::parse(pattern).unwrap();
            match suffix {
                true => pattern.strip_suffix(value, length, &mut 0).unwrap(),
                false => pattern.strip_prefix(value, length, &mut 0).unwrap(),
            }
        };
        use Length::{Longest, Shortest};
        for (pattern, value, suffix, length, result) in [
            ("*x", "xxyy", false, Shortest, "xyy"),
            ("*x", "xxyy", false, Longest, "yy"),
            ("*x*y", "xxyy", false, Shortest, "y"),
            ("*", "xxyy", false, Shortest, "xxyy"),
            ("*", "xxyy", false, Longest, ""),
            ("?\\?", "???y", false, Shortest, "?y"),
            ("", "xxyy", false, Shortest, "xxyy"),
            ("/*", "a/b/c", true, Shortest, "a/b"),
            ("/*", "a/b/c", true, Longest, "a"),
            ("\\**", "xx**", true, Longest, "xx"),
            ("\\**\\*", "a***yy*", true, Longest, "a"),
            ("z", "xxyy", true, Longest, "xxyy"),
            ("*b", "a\nb", false, Longest, "a\nb"),
            ("é", "éa", false, Shortest, "a"),
            (".", "xa", false, Shortest, "xa"),
        ] {
            assert_eq!(
                strip(pattern, value, suffix, length),
                result,
                "{pattern} {value}"
            );
        }
        for bad in ["\\", "\\x", "a\\"] {
            assert_eq!(Pattern::parse(bad), Err(BadEscape), "{bad}");
        }
    }

    #[test]
    fn replaces() {
        for (pattern, value, replacement, all, result) in [
            ("a", "banana", "o", false, "bonana"),
            ("a", "banana", "o", true, "bonono"),
            ("", "abc", "-", false, "-abc"),
            ("", "abc", "-", true, "-a-b-c-"),
            ("*", "abc", "-", true, "-"),
            ("/tmp", "/tmp/tmp/x", "", true, "/x"),
            ("?", "ab\nc", "x", true, "xx\nx"),
            ("a*", "xaxa", "$1", true, "x$1"),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            let replaced = pattern.replace(value, replacement, all, &mut 0).unwrap();
            assert_eq!(replaced, result, "{pattern:?} {value}");
        }
    }

    #[test]
    fn gives_up_on_hostile_patterns() {
        let pattern = Pattern::parse(&"*a".repeat(2000)).unwrap();
        let value = "a".repeat(100_000);
        assert_eq!(pattern.replace(&value, "", true, &mut 0), Err(TooExpensive));
    }
}
