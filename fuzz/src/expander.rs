//! A word of any text in any environment expands to a text within its bound, or is refused at a
//! place in the word; what it says of the variables it asked for is true.
//!
//! Input: the word, then variables `NAME=VALUE` (or the one value of `a`), with a zero byte between
//! them.

use firebuild_dockerfile::{
    Environment, ExpandErrorKind, Expander, Expansion, Heredoc, MAX_WORD, Position, Span, Word,
};

use super::parts;

pub fn expander(data: &[u8]) {
    let mut parts = parts(data).map(String::from_utf8_lossy);
    let text = parts.next().unwrap_or_default().into_owned();
    let environment: Vec<(String, String)> = parts
        .map(|part| match part.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => ("a".to_owned(), part.into_owned()),
        })
        .collect();
    let word = Word {
        span: whole(&text),
        text,
    };
    for escape in ['\\', '`'] {
        one(&Expander::new(escape), &word, &environment);
    }
    heredoc(&word, &environment);
}

fn one(expander: &Expander, word: &Word, environment: &Vec<(String, String)>) {
    let expanded = expander.word(word, environment);
    let split = expander.words(word, environment);
    assert_eq!(
        expanded,
        expander.word(word, environment),
        "not the same twice"
    );
    match (expanded, split) {
        (Ok(expanded), Ok(split)) => {
            assert!(expanded.value.len() <= MAX_WORD);
            variables(&expanded, environment);
            assert_eq!(expanded.unset, split.unset);
            let length: usize = split.value.iter().map(String::len).sum();
            assert!(length <= expanded.value.len(), "splitting adds nothing");
            let plain = |c: char| !"$'\"\\`".contains(c);
            if word.text.chars().all(plain) {
                assert_eq!(expanded.value, word.text);
            }
        }
        (Err(error), Err(_)) => {
            let end = error.span.range().end;
            assert!(end <= word.text.len(), "{error} at {:?}", error.span);
            assert!(error.to_string().len() <= 1000 + MAX_WORD);
            // A word without `$` and quotes is always right.
            assert!(word.text.contains(['$', '\'', '"']), "{error}");
        }
        // Splitting is bounded by itself.
        (one, many) => {
            let bounded = |kind: &ExpandErrorKind| {
                matches!(
                    kind,
                    ExpandErrorKind::TooLong { .. } | ExpandErrorKind::TooExpensive
                )
            };
            let kind = one.err().or(many.err()).unwrap().kind;
            assert!(bounded(&kind), "only one of two forms is refused: {kind}");
        }
    }
}

/// Used variables are set, unset ones are not.
fn variables(expanded: &Expansion<String>, environment: &Vec<(String, String)>) {
    let set = |name: &String| environment.get_value(name).is_some();
    assert!(expanded.used.iter().all(set), "{:?}", expanded.used);
    assert!(!expanded.unset.iter().any(set), "{:?}", expanded.unset);
}

/// [`Environment::get`], which a vector's own method of that name hides.
trait GetValue {
    fn get_value(&self, name: &str) -> Option<&str>;
}

impl<E: Environment> GetValue for E {
    fn get_value(&self, name: &str) -> Option<&str> {
        self.get(name)
    }
}

/// In a heredoc quotes mean nothing, so fewer texts are refused.
fn heredoc(word: &Word, environment: &Vec<(String, String)>) {
    for (expand, strip_tabs) in [(true, false), (true, true), (false, true)] {
        let heredoc = Heredoc {
            name: "E".to_owned(),
            body: word.text.clone(),
            expand,
            strip_tabs,
            descriptor: 0,
            token: Word::default(),
            body_span: word.span,
        };
        match Expander::default().heredoc(&heredoc, environment) {
            Ok(expanded) if !expand => assert_eq!(expanded.value, heredoc.content()),
            Ok(expanded) => variables(&expanded, environment),
            Err(error) => {
                assert!(expand && word.text.contains('$'), "{error}");
                assert!(error.span.range().end <= word.text.len());
            }
        }
    }
}

/// The place of a text that is a whole file.
fn whole(text: &str) -> Span {
    let start = Position {
        line: 1,
        column: 1,
        offset: 0,
    };
    let end = Position {
        offset: text.len(),
        ..start
    };
    Span { start, end }
}
