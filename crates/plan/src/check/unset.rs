//! Variables that are not set: which a text asks for, and where it names them.

use std::cell::RefCell;
use std::collections::BTreeSet;

use firebuild_dockerfile::{Environment, Rule, Span, Warning, Word};

use super::stage::Stage;

/// Variables that mean something to the builder though nothing sets them.
const BUILDERS: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

impl Stage<'_> {
    /// Notes the variables of words that are not set, each once an instruction.
    pub(super) fn words<'w>(
        &mut self,
        words: impl IntoIterator<Item = &'w Word>,
        found: &mut Vec<Warning>,
    ) {
        for word in words {
            if let Ok(expansion) = self.front.expander.word(word, &self.scope) {
                self.unset(word, &expansion.unset, found);
            }
        }
    }

    /// Notes those of `names`, which are not set, that a word uses.
    pub(super) fn unset(
        &mut self,
        word: &Word,
        names: &BTreeSet<String>,
        found: &mut Vec<Warning>,
    ) {
        for name in names {
            let meant = self.scope.declares(name) || BUILDERS.contains(&name.as_str());
            if meant || !self.told.insert(name.clone()) {
                continue;
            }
            let more = match self.front.nearest(name, &self.scope) {
                Some(known) => format!("; did you mean `${known}`?"),
                None if self.known => String::new(),
                None => " here; what the base image sets is not known".to_owned(),
            };
            found.push(Warning::new(
                Rule::UndefinedVar,
                place(word, name),
                format!("the variable `${name}` is not set{more}"),
            ));
        }
    }
}

/// An environment that notes which variables were asked for and are not set.
pub(super) struct Asked<'a> {
    environment: &'a dyn Environment,
    unset: RefCell<BTreeSet<String>>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(environment: &'a dyn Environment) -> Self {
        Self {
            environment,
            unset: RefCell::default(),
        }
    }

    /// What was asked for and is not set.
    pub(super) fn unset(self) -> BTreeSet<String> {
        self.unset.into_inner()
    }
}

impl Environment for Asked<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let value = self.environment.get(name);
        if value.is_none() {
            self.unset.borrow_mut().insert(name.to_owned());
        }
        value
    }
}

/// Where a word first names a variable: `$NAME`, or `${NAME` up to the brace.
pub(super) fn place(word: &Word, name: &str) -> Span {
    let text = word.text.as_str();
    for (at, _) in text.match_indices('$') {
        let behind = &text[at + 1..];
        let (braces, bare) = match behind.strip_prefix('{') {
            Some(bare) => (1, bare),
            None => (0, behind),
        };
        let Some(rest) = bare.strip_prefix(name) else {
            continue;
        };
        let is_more = |c: char| c.is_alphanumeric() || c == '_';
        if rest.starts_with(is_more) && name.starts_with(is_more) {
            continue;
        }
        let closing = usize::from(braces == 1 && rest.starts_with('}'));
        return word.sub_span(at..at + 1 + braces + name.len() + closing);
    }
    word.span
}

#[cfg(test)]
mod tests {
    use firebuild_dockerfile::{InstructionKind, parse};

    use super::*;

    #[test]
    fn variables_are_found_where_they_stand() {
        for (text, name, columns) in [
            ("a$b", "b", 10..12),
            ("$bc${b}", "b", 12..16),
            ("x${b:-c}", "b", 10..13),
            ("'$b' $$", "$", 14..16),
            ("${a:-$b}", "b", 14..16),
            ("plain", "b", 9..14),
        ] {
            let file = parse(format!("FROM scratch\nWORKDIR {text}\n").as_bytes()).unwrap();
            let InstructionKind::Workdir(workdir) = &file.instructions[1].kind else {
                panic!("{text}");
            };
            let place = place(&workdir.path, name);
            assert_eq!(place.start.column..place.end.column, columns, "{text}");
        }
    }
}
