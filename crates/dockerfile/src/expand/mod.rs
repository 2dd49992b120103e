//! Variables: `$NAME`, `${NAME}` and its operators, quotes and escapes.
//!
//! Follows BuildKit's `frontend/dockerfile/shell/lex.go`, with two differences: a replacement in
//! `${x//a/b}` is taken literally (there, `$1` in it means something), and nesting, the length of
//! a result and the work of matching patterns are bounded.

mod lexer;
mod pattern;
mod substitution;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher;

use crate::word::sub_span;
use crate::{Heredoc, Span, Word};
use lexer::Lexer;

/// The longest result of expanding one word, in bytes: eight times what Linux lets through as one
/// argument or variable.
pub const MAX_WORD: usize = 1 << 20;

/// The longest result of expanding the body of a heredoc, in bytes.
pub const MAX_HEREDOC: usize = 64 << 20;

/// Where variables get their values.
pub trait Environment {
    /// The value of a variable; `None` if it is not set, which is not the same as empty.
    fn get(&self, name: &str) -> Option<&str>;
}

impl<T: Environment + ?Sized> Environment for &T {
    fn get(&self, name: &str) -> Option<&str> {
        (**self).get(name)
    }
}

impl Environment for () {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }
}

impl Environment for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

impl<S: BuildHasher> Environment for HashMap<String, String, S> {
    fn get(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// A list of names and values; of several with one name the last counts.
impl<N: AsRef<str>, V: AsRef<str>> Environment for [(N, V)] {
    fn get(&self, name: &str) -> Option<&str> {
        let found = self.iter().rev().find(|(n, _)| n.as_ref() == name);
        found.map(|(_, value)| value.as_ref())
    }
}

/// A list of names and values; of several with one name the last counts.
impl<N: AsRef<str>, V: AsRef<str>> Environment for Vec<(N, V)> {
    fn get(&self, name: &str) -> Option<&str> {
        Environment::get(self.as_slice(), name)
    }
}

/// What came of an expansion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expansion<T> {
    /// The result.
    pub value: T,
    /// The variables asked for that have a value.
    pub used: BTreeSet<String>,
    /// The variables asked for that are not set, also those for which an operator gave a default.
    pub unset: BTreeSet<String>,
}

impl<T> Expansion<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> Expansion<U> {
        Expansion {
            value: change(self.value),
            used: self.used,
            unset: self.unset,
        }
    }
}

/// A word that cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct ExpandError {
    /// What is wrong.
    pub kind: ExpandErrorKind,
    /// The text that is wrong.
    pub span: Span,
}

/// What is wrong with a word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandErrorKind {
    /// A quote that is not closed.
    #[error("unexpected end of statement while looking for matching {}-quote", quote_name(*.quote))]
    UnclosedQuote {
        /// The quote.
        quote: char,
    },
    /// `${` that is not closed.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${x/a` without the second slash.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${}`, `${:x}`, `${{`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// An operator that does not exist.
    #[error("unsupported modifier ({modifier}) in substitution")]
    Modifier {
        /// The operator.
        modifier: String,
    },
    /// A pattern with a backslash before something that needs none.
    #[error("invalid pattern ({pattern}) in substitution: invalid escape")]
    Pattern {
        /// The pattern.
        pattern: String,
    },
    /// `${x?message}`, `${x:?message}`.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The message from the Dockerfile, or why it is refused.
        message: String,
    },
    /// `${a:-${b:-…` too often.
    #[error("variables are nested more than {} deep", lexer::MAX_DEPTH)]
    TooDeep,
    /// A result over [`MAX_WORD`] or [`MAX_HEREDOC`].
    #[error("the expanded text is longer than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// Patterns that would take unreasonably long to match, or the like.
    #[error("expanding the variables takes too long")]
    TooExpensive,
}

fn quote_name(quote: char) -> &'static str {
    if quote == '\'' { "single" } else { "double" }
}

/// How text is read, beside the escape character.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mode {
    /// Quotes stay in the result.
    pub(crate) raw_quotes: bool,
    /// Escape characters stay in the result.
    pub(crate) raw_escapes: bool,
    /// Quotes are ordinary characters.
    pub(crate) ignore_quotes: bool,
    /// What names an unset variable stays as it is.
    pub(crate) keep_unset: bool,
}

/// Replaces variables in words.
#[derive(Debug, Clone, Copy)]
pub struct Expander {
    escape: char,
}

impl Default for Expander {
    fn default() -> Self {
        Self::new('\\')
    }
}

impl Expander {
    /// An expander for a Dockerfile with this escape character
    /// ([`crate::Directives::escape`]).
    #[must_use]
    pub fn new(escape: char) -> Self {
        Self { escape }
    }

    /// Expands a word to one string: quotes are removed, blanks in values do not split it.
    ///
    /// # Errors
    /// [`ExpandError`], with the place inside the word.
    pub fn word(
        &self,
        word: &Word,
        environment: &dyn Environment,
    ) -> Result<Expansion<String>, ExpandError> {
        let result = self.text(&word.text, environment);
        result.map_err(|error| error.at(&word.text, word.span))
    }

    /// Expands a word to any number of strings, split at blanks outside quotes, also those that
    /// come out of variables: what `EXPOSE` needs.
    ///
    /// # Errors
    /// [`ExpandError`], with the place inside the word.
    pub fn words(
        &self,
        word: &Word,
        environment: &dyn Environment,
    ) -> Result<Expansion<Vec<String>>, ExpandError> {
        let expanded = self.run(&word.text, environment, Mode::default(), MAX_WORD);
        expanded
            .map(|expansion| expansion.map(|(_, words)| words))
            .map_err(|error| error.at(&word.text, word.span))
    }

    /// Expands the content of a heredoc of `COPY` or `ADD`: quotes are ordinary characters, and
    /// the escape character is a backslash whatever the directive says; it goes away and makes
    /// the next character ordinary. A heredoc with a quoted delimiter stays as it is.
    ///
    /// # Errors
    /// [`ExpandError`], with the place inside the body.
    pub fn heredoc(
        &self,
        heredoc: &Heredoc,
        environment: &dyn Environment,
    ) -> Result<Expansion<String>, ExpandError> {
        let content = heredoc.content();
        if !heredoc.expand {
            return Ok(Expansion {
                value: content.into_owned(),
                used: BTreeSet::new(),
                unset: BTreeSet::new(),
            });
        }
        let mode = Mode {
            ignore_quotes: true,
            ..Mode::default()
        };
        let expanded = Self::new('\\').run(&content, environment, mode, MAX_HEREDOC);
        expanded
            .map(|expansion| expansion.map(|(text, _)| text))
            .map_err(|error| error.at(&content, heredoc.body_span))
    }

    /// Expands text that has no place in a file, as [`Expander::word`] does.
    pub(crate) fn text(
        &self,
        text: &str,
        environment: &dyn Environment,
    ) -> Result<Expansion<String>, LexError> {
        let expanded = self.run(text, environment, Mode::default(), MAX_WORD)?;
        Ok(expanded.map(|(text, _)| text))
    }

    /// Splits text into words without any variable; `None` if it is malformed.
    pub(crate) fn split_unset(&self, text: &str, mode: Mode) -> Option<Vec<String>> {
        let mode = Mode {
            keep_unset: true,
            ..mode
        };
        let limit = text.len().saturating_add(1);
        let expanded = self.run(text, &(), mode, limit).ok()?;
        Some(expanded.value.1)
    }

    fn run(
        &self,
        text: &str,
        environment: &dyn Environment,
        mode: Mode,
        limit: usize,
    ) -> Result<Expansion<(String, Vec<String>)>, LexError> {
        Lexer::new(text, self.escape, mode, environment, limit).run()
    }
}

/// What the lexer finds wrong, and where in its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LexError {
    pub(crate) kind: ExpandErrorKind,
    pub(crate) range: std::ops::Range<usize>,
}

impl LexError {
    pub(crate) fn at(self, text: &str, span: Span) -> ExpandError {
        ExpandError {
            kind: self.kind,
            span: sub_span(text, span, self.range),
        }
    }
}
