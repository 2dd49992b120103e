//! `.dockerignore`: which paths of a context are left out.
//!
//! Follows `github.com/moby/patternmatcher`, with one difference: a class such as `[^x]` does not
//! match a `/`. Not gitignore: a pattern without `/` matches at the top only.

use crate::glob::{BadPattern, SLASH, States, Token, may_match_below, token, units};
use crate::position::{BYTE_ORDER_MARK, LineIndex};
use crate::{Span, glob};

/// The patterns of a `.dockerignore` or of `COPY --exclude`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
}

/// A pattern that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// `!` and nothing behind it.
    #[error("illegal exclusion pattern: `!`")]
    Exclusion {
        /// Where.
        span: Span,
    },
    /// A class that is not closed or empty, or a backslash at the end.
    #[error("syntax error in pattern `{pattern}`")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Where.
        span: Span,
    },
}

impl IgnoreError {
    /// Where the pattern stands.
    #[must_use]
    pub fn span(&self) -> Span {
        match self {
            Self::Exclusion { span } | Self::Pattern { span, .. } => *span,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    /// `!`: what matches is taken in again.
    negated: bool,
    tokens: Vec<Token>,
    kind: Kind,
}

/// How a pattern is matched; most need no engine.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Exact(Vec<u8>),
    Prefix(Vec<u8>),
    /// Ends with these bytes; or is all of them but a `/` at the beginning.
    Suffix(Vec<u8>),
    Tokens,
}

impl Patterns {
    /// Reads a `.dockerignore` file.
    ///
    /// # Errors
    /// The first pattern that cannot be read.
    pub fn parse(text: &[u8]) -> Result<Self, IgnoreError> {
        let index = LineIndex::new(text);
        let mut patterns = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let bare = match start {
                0 => line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line),
                _ => line,
            };
            let from = start + line.len() - bare.len();
            start += line.len();
            if bare.starts_with(b"#") {
                continue;
            }
            let trimmed = bare.trim_ascii();
            let at = from + bare.len() - bare.trim_ascii_start().len();
            let span = || index.span(at..at + trimmed.len());
            patterns.extend(pattern(trimmed, span)?);
        }
        Ok(Self { patterns })
    }

    /// Reads patterns one by one: those of `COPY --exclude`.
    ///
    /// # Errors
    /// The first pattern that cannot be read, without a place.
    pub fn from_list<T: AsRef<[u8]>>(
        list: impl IntoIterator<Item = T>,
    ) -> Result<Self, IgnoreError> {
        let mut patterns = Vec::new();
        for text in list {
            patterns.extend(pattern(text.as_ref().trim_ascii(), Span::default)?);
        }
        Ok(Self { patterns })
    }

    /// True if nothing is left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// True if a pattern takes something in again.
    #[must_use]
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.negated)
    }

    /// Whether a path, relative to the context's root and without `.` and `..`, is left out. The
    /// last pattern that matches counts; one that matches a directory above matches too.
    #[must_use]
    pub fn excluded(&self, path: &[u8]) -> bool {
        let mut excluded = false;
        for pattern in &self.patterns {
            // Only what would change the result is worth matching.
            if pattern.negated == excluded && pattern.matches_or_parent(path) {
                excluded = !pattern.negated;
            }
        }
        excluded
    }

    /// Whether something below a directory that is left out may be taken in again: a walker must
    /// enter it.
    #[must_use]
    pub fn could_reinclude_below(&self, directory: &[u8]) -> bool {
        let mut negated = self.patterns.iter().filter(|pattern| pattern.negated);
        negated.any(|pattern| may_match_below(&pattern.tokens, directory))
    }
}

impl Pattern {
    /// Whether the pattern matches the path or a directory above it.
    fn matches_or_parent(&self, path: &[u8]) -> bool {
        match &self.kind {
            Kind::Exact(text) => match path.strip_prefix(text.as_slice()) {
                Some(rest) => rest.is_empty() || rest.starts_with(b"/"),
                None => false,
            },
            Kind::Prefix(text) => path.starts_with(text),
            Kind::Suffix(text) => {
                let ends = |path: &[u8]| {
                    path.ends_with(text) || text.strip_prefix(b"/").is_some_and(|text| path == text)
                };
                let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
                let mut parents = slashes.map(|(at, _)| &path[..at]);
                ends(path) || parents.any(ends)
            }
            Kind::Tokens => {
                let mut states = States::new(&self.tokens);
                for unit in units(path) {
                    if unit == SLASH && states.accepts() {
                        return true;
                    }
                    if !states.step(unit) {
                        return false;
                    }
                }
                states.accepts()
            }
        }
    }
}

/// Reads one trimmed line; nothing comes of an empty one.
fn pattern(line: &[u8], span: impl Fn() -> Span) -> Result<Option<Pattern>, IgnoreError> {
    if line.is_empty() {
        return Ok(None);
    }
    let (negated, text) = match line.strip_prefix(b"!") {
        Some(text) => (true, text.trim_ascii()),
        None => (false, line),
    };
    if text.is_empty() {
        return Err(IgnoreError::Exclusion { span: span() });
    }
    let mut text = clean(text);
    if text.len() > 1 && text.starts_with(b"/") {
        text.remove(0);
    }
    let compiled = glob::Pattern::parse(&text).and_then(|_| compile(&text));
    match compiled {
        Ok((tokens, kind)) => Ok(Some(Pattern {
            negated,
            tokens,
            kind,
        })),
        Err(BadPattern) => Err(IgnoreError::Pattern {
            pattern: String::from_utf8_lossy(&text).chars().take(200).collect(),
            span: span(),
        }),
    }
}

/// The tokens of a cleaned pattern, and how they are matched.
fn compile(text: &[u8]) -> Result<(Vec<Token>, Kind), BadPattern> {
    let all: Vec<u32> = units(text).collect();
    let is = |rest: &[u32], character: u8| rest.first() == Some(&u32::from(character));
    let mut rest = all.as_slice();
    let mut tokens = Vec::new();
    // Where the only `**` is, if nothing else is special.
    let mut deep_at: Option<usize> = None;
    let mut special = false;
    while !rest.is_empty() {
        let at = all.len() - rest.len();
        if !rest.starts_with(&[u32::from(b'*'); 2]) {
            let escaped = is(rest, b'\\');
            let next = token(&mut rest)?;
            special |= escaped || !matches!(next, Some(Token::Literal(_)));
            tokens.extend(next);
            continue;
        }
        rest = &rest[2..];
        if is(rest, b'/') {
            rest = &rest[1..];
        }
        special |= deep_at.is_some();
        deep_at = Some(at);
        match rest.is_empty() {
            true => tokens.push(Token::Deep),
            false => {
                special |= at > 0;
                tokens.extend([
                    Token::Optional,
                    Token::Deep,
                    Token::Literal(u32::from(b'/')),
                ]);
            }
        }
    }
    let kind = match deep_at {
        _ if special => Kind::Tokens,
        None => Kind::Exact(text.to_vec()),
        Some(0) => {
            // `**x` matches every path that ends with `x`; the `/` of `**/x` is part of the end.
            let end = text[2..].to_vec();
            if !end.starts_with(b"/") {
                tokens.retain(|token| *token != Token::Optional);
                tokens.drain(..tokens.len().min(2));
                tokens.insert(0, Token::Deep);
            }
            Kind::Suffix(end)
        }
        Some(_) => Kind::Prefix(text[..text.len() - 2].to_vec()),
    };
    Ok((tokens, kind))
}

/// Go's `filepath.Clean`: the shortest path that means the same, by its text alone.
fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => drop(parts.pop()),
            b".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/", joined.as_slice()].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}
