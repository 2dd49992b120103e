//! Wildcards in paths: those of Go's `filepath.Match`, which `COPY` and `ADD` use, and the engine
//! that [`crate::dockerignore`] shares.
//!
//! Paths are bytes. Where they are UTF-8, `?` and classes match characters; a byte that is not
//! part of one counts as a character of its own.

/// One unit of a pattern. None but [`Token::Deep`] and a literal `/` matches a `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    Literal(u32),
    /// `?`
    Any,
    /// `*`
    Star,
    /// `[a-c]`, `[^a-c]`
    Class {
        negated: bool,
        ranges: Vec<(u32, u32)>,
    },
    /// Any number of any characters.
    Deep,
    /// The two tokens behind this may be left out.
    Optional,
}

pub(crate) const SLASH: u32 = b'/' as u32;

/// A pattern that cannot be read: a class that is not closed or empty, or a backslash at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// A pattern of Go's `filepath.Match`: `*`, `?`, `[a-c]`, `[^a-c]`, and `\` before any character;
/// nothing but `/` matches a `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`BadPattern`].
    pub fn parse(pattern: &[u8]) -> Result<Self, BadPattern> {
        let units: Vec<u32> = units(pattern).collect();
        let mut tokens = Vec::new();
        let mut rest = units.as_slice();
        while let Some(token) = token(&mut rest)? {
            tokens.push(token);
        }
        Ok(Self { tokens })
    }

    /// Whether the pattern matches the whole of a path.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        let mut states = States::new(&self.tokens);
        units(path).all(|unit| states.step(unit)) && states.accepts()
    }

    /// Whether the pattern may match a path below a directory.
    #[must_use]
    pub fn may_match_below(&self, directory: &[u8]) -> bool {
        may_match_below(&self.tokens, directory)
    }
}

/// Whether a path has anything in it that [`Pattern`] does not take literally, except for escapes.
#[must_use]
pub fn has_wildcards(path: &[u8]) -> bool {
    let mut bytes = path.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'*' | b'?' | b'[' => return true,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    false
}

/// A path without backslashes before other characters: what a path without wildcards names.
#[must_use]
pub fn unescape(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut bytes = path.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => plain.extend(bytes.next()),
            byte => plain.push(*byte),
        }
    }
    plain
}

pub(crate) fn may_match_below(tokens: &[Token], directory: &[u8]) -> bool {
    let mut states = States::new(tokens);
    let slash = (!directory.is_empty()).then_some(SLASH);
    units(directory).chain(slash).all(|unit| states.step(unit))
}

/// The characters of a path; bytes that are no UTF-8 come out above all characters.
pub(crate) fn units(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.utf8_chunks().flat_map(|chunk| {
        let characters = chunk.valid().chars().map(u32::from);
        let others = chunk.invalid().iter();
        characters.chain(others.map(|byte| 0x11_0000 + u32::from(*byte)))
    })
}

/// Takes one token off the beginning of a pattern.
pub(crate) fn token(rest: &mut &[u32]) -> Result<Option<Token>, BadPattern> {
    let Some((first, behind)) = rest.split_first() else {
        return Ok(None);
    };
    *rest = behind;
    Ok(Some(match char::from_u32(*first) {
        Some('*') => Token::Star,
        Some('?') => Token::Any,
        Some('\\') => Token::Literal(take(rest)?),
        Some('[') => class(rest)?,
        _ => Token::Literal(*first),
    }))
}

fn take(rest: &mut &[u32]) -> Result<u32, BadPattern> {
    let (first, behind) = rest.split_first().ok_or(BadPattern)?;
    *rest = behind;
    Ok(*first)
}

/// A class behind its opening bracket.
fn class(rest: &mut &[u32]) -> Result<Token, BadPattern> {
    let is = |rest: &[u32], character: u8| rest.first() == Some(&u32::from(character));
    let negated = is(rest, b'^');
    if negated {
        take(rest)?;
    }
    let mut ranges = Vec::new();
    while ranges.is_empty() || !is(rest, b']') {
        let low = bound(rest)?;
        let mut high = low;
        if is(rest, b'-') {
            take(rest)?;
            high = bound(rest)?;
        }
        ranges.push((low, high));
    }
    take(rest)?;
    Ok(Token::Class { negated, ranges })
}

/// One end of a range.
fn bound(rest: &mut &[u32]) -> Result<u32, BadPattern> {
    let first = take(rest)?;
    match char::from_u32(first) {
        Some('-' | ']') => Err(BadPattern),
        Some('\\') => take(rest),
        _ => Ok(first),
    }
}

impl Token {
    fn matches(&self, unit: u32) -> bool {
        match self {
            Self::Literal(literal) => *literal == unit,
            Self::Any => unit != SLASH,
            Self::Class { negated, ranges } => {
                let mut ranges = ranges.iter();
                unit != SLASH
                    && ranges.any(|(low, high)| (*low..=*high).contains(&unit)) != *negated
            }
            Self::Star | Self::Deep | Self::Optional => false,
        }
    }

    /// Whether a unit may be read over and over.
    fn repeats(&self, unit: u32) -> bool {
        match self {
            Self::Star => unit != SLASH,
            Self::Deep => true,
            _ => false,
        }
    }
}

/// All the ways in which a pattern may match what was read so far: time and memory are the
/// pattern's length for each unit read, whatever the pattern.
pub(crate) struct States<'a> {
    tokens: &'a [Token],
    /// `active[i]`: the tokens before the i-th have matched.
    active: Vec<bool>,
}

impl<'a> States<'a> {
    pub(crate) fn new(tokens: &'a [Token]) -> Self {
        let mut active = vec![false; tokens.len() + 1];
        active[0] = true;
        let mut states = Self { tokens, active };
        states.pass_empty();
        states
    }

    /// Reads a unit; says whether the pattern may still match.
    pub(crate) fn step(&mut self, unit: u32) -> bool {
        let mut alive = false;
        let mut carried = false;
        for at in 0..self.active.len() {
            let was = std::mem::replace(&mut self.active[at], carried);
            carried = false;
            if let (true, Some(token)) = (was, self.tokens.get(at)) {
                self.active[at] |= token.repeats(unit);
                carried = token.matches(unit);
            }
            alive |= self.active[at];
        }
        self.pass_empty();
        alive
    }

    pub(crate) fn accepts(&self) -> bool {
        self.active.last().copied().unwrap_or(false)
    }

    /// Passes the tokens that may match nothing.
    fn pass_empty(&mut self) {
        for (at, token) in self.tokens.iter().enumerate() {
            if !self.active[at] {
                continue;
            }
            match token {
                Token::Star | Token::Deep => self.active[at + 1] = true,
                Token::Optional => {
                    self.active[at + 1] = true;
                    self.active[at + 3] = true;
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_go_does() {
        for (pattern, path, result) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("a[^x]b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("[x\\-]", "-", true),
            ("*x", "xxx", true),
            ("", "", true),
            ("", "a", false),
            ("**", "a", true),
            ("**", "a/b", false),
        ] {
            let matched = Pattern::parse(pattern.as_bytes())
                .unwrap()
                .matches(path.as_bytes());
            assert_eq!(matched, result, "{pattern} {path}");
        }
        for bad in [
            "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "a[b", "\\",
        ] {
            assert_eq!(Pattern::parse(bad.as_bytes()), Err(BadPattern), "{bad}");
        }
        assert!(Pattern::parse(b"a?\xff").unwrap().matches(b"a\xfe\xff"));
        assert!(!Pattern::parse(b"a\xfe").unwrap().matches(b"a\xff"));
    }

    #[test]
    fn knows_where_to_look() {
        let pattern = Pattern::parse(b"a*/b/c").unwrap();
        for (directory, result) in [
            ("", true),
            ("ax", true),
            ("ax/b", true),
            ("ax/c", false),
            ("ax/b/c", false),
            ("b", false),
        ] {
            assert_eq!(
                pattern.may_match_below(directory.as_bytes()),
                result,
                "{directory}"
            );
        }
    }

    #[test]
    fn tells_wildcards() {
        for (path, wild, plain) in [
            ("a/b", false, "a/b"),
            ("a\\*", false, "a*"),
            ("a\\\\*", true, "a\\*"),
            ("[a]", true, "[a]"),
            ("a\\", false, "a"),
        ] {
            assert_eq!(has_wildcards(path.as_bytes()), wild, "{path}");
            assert_eq!(unescape(path.as_bytes()), plain.as_bytes(), "{path}");
        }
    }

    #[test]
    fn takes_linear_time() {
        let pattern = Pattern::parse("*a".repeat(500).as_bytes()).unwrap();
        assert!(!pattern.matches("a".repeat(4000).replace("aaaa", "aaab").as_bytes()));
    }
}
