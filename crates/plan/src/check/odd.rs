//! What is odd in single lines of a stage.

use firebuild_dockerfile::{
    Assignments, Command, Instruction, InstructionKind, Rule, Source, Span, Warning, Word, expose,
};

use super::stage::Stage;
use super::{copied, secret};

impl Stage<'_> {
    pub(super) fn legacy(&self, line: &Instruction, pairs: &Assignments, found: &mut Vec<Warning>) {
        if let (true, Some(pair)) = (pairs.legacy, pairs.assignments.first()) {
            let name = line.kind.name();
            let message = format!(
                "a blank between name and value is the legacy form; write `{name} {}=…`",
                pair.name
            );
            let place = pair.name.span.to(pair.value.span);
            found.push(Warning::new(Rule::LegacyKeyValueFormat, place, message));
        }
    }

    pub(super) fn secret(&self, instruction: &str, name: &Word, found: &mut Vec<Warning>) {
        if secret::is_secret(&name.text) {
            let message = format!(
                "{instruction} `{name}` looks like a secret, and whoever has the image can read it; use `RUN --mount=type=secret`"
            );
            found.push(Warning::new(
                Rule::SecretsUsedInArgOrEnv,
                name.span,
                message,
            ));
        }
    }

    pub(super) fn ignored(&self, line: &Instruction, sources: &[Source], found: &mut Vec<Warning>) {
        let is_add = matches!(line.kind, InstructionKind::Add(_));
        for word in sources.iter().filter_map(Source::path) {
            let Ok(expansion) = self.front.expander.word(word, &self.scope) else {
                continue;
            };
            let path = expansion.value;
            if copied::is_ignored(self.front.ignore, &path, is_add) {
                let message = format!("`{path}` cannot be copied: the ignore file leaves it out");
                found.push(Warning::new(Rule::CopyIgnoredFile, word.span, message));
            }
        }
    }

    pub(super) fn expose(&mut self, words: &[Word], found: &mut Vec<Warning>) {
        self.words(words, found);
        for word in words {
            let Ok(expansion) = self.front.expander.words(word, &self.scope) else {
                continue;
            };
            for port in expansion.value {
                if expose::parse(&port).is_err() {
                    continue;
                }
                let protocol = port.rsplit_once('/').map_or("", |(_, protocol)| protocol);
                let lower = protocol.to_lowercase();
                if protocol != lower {
                    let message = format!("`{protocol}` of `{port}` should be `{lower}`");
                    found.push(Warning::new(Rule::ExposeProtoCasing, word.span, message));
                }
                if expose::names_host(&port) {
                    let message = format!(
                        "`{port}` names an address or a port of the host, which EXPOSE ignores"
                    );
                    found.push(Warning::new(Rule::ExposeInvalidFormat, word.span, message));
                }
            }
        }
    }

    pub(super) fn json(&self, line: &Instruction, command: &Command, found: &mut Vec<Warning>) {
        if matches!(command, Command::Shell(_)) && !self.shell {
            let message = format!(
                "{} should be a JSON array, so that signals reach the program",
                line.kind.name()
            );
            let rule = Rule::JsonArgsRecommended;
            found.push(Warning::new(rule, line.keyword.span, message));
        }
    }
}

/// Says of the instruction before this one that it is of no use.
pub(super) fn only_last(before: &mut Option<Span>, line: &Instruction, found: &mut Vec<Warning>) {
    if let Some(place) = before.replace(line.keyword.span) {
        let name = line.kind.name();
        let message = format!("this {name} does nothing: a later one of the stage replaces it");
        let rule = Rule::MultipleInstructionsDisallowed;
        found.push(Warning::new(rule, place, message));
    }
}
