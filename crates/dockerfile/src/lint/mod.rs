//! What is legal and probably not meant: BuildKit's checks as far as the text alone tells. Those
//! that need to know stages and variables are where Dockerfiles are lowered.

mod rule;

use std::collections::BTreeSet;

use serde::{Serialize, Serializer};

use crate::{CheckOptions, Dockerfile, FromImage, Instruction, InstructionKind, Span, Word};

pub use rule::Rule;

/// Something legal that is probably not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What was looked for.
    pub rule: Rule,
    /// What was found: lower case, no full stop.
    pub message: String,
    /// Where.
    pub span: Span,
}

impl Serialize for Warning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            rule: Rule,
            message: &'a str,
            description: &'static str,
            url: String,
            #[serde(flatten)]
            span: Span,
        }
        Shown {
            rule: self.rule,
            message: &self.message,
            description: self.rule.description(),
            url: self.rule.url(),
            span: self.span,
        }
        .serialize(serializer)
    }
}

impl Warning {
    /// A warning.
    pub fn new(rule: Rule, span: Span, message: impl Into<String>) -> Self {
        Self {
            rule,
            message: message.into(),
            span,
        }
    }
}

impl Dockerfile {
    /// The warnings that are asked for, in the order of the file: without those of rules that the
    /// file as a whole or a comment above the instruction turns off, and with those of experimental
    /// rules only where they are turned on. `options` are those of the whole file.
    #[must_use]
    pub fn asked_for(
        &self,
        mut warnings: Vec<Warning>,
        options: Option<&CheckOptions>,
    ) -> Vec<Warning> {
        warnings.retain(|warning| {
            let of_line = self.check_at(warning.span.start.line);
            let mut options = options.into_iter().chain(of_line);
            match warning.rule.is_experimental() {
                true => options.any(|options| options.enables(warning.rule.name())),
                false => !options.any(|options| options.skips(warning.rule.name())),
            }
        });
        warnings.sort_by_key(|warning| (warning.span.start, warning.rule));
        warnings
    }

    /// What the comment above the instruction in this line says of checks.
    fn check_at(&self, line: u32) -> Option<&CheckOptions> {
        let before = |instruction: &Instruction| instruction.span.start.line <= line;
        let next = self.instructions.partition_point(before);
        let instruction = self.instructions[..next].last()?;
        let inside = line <= instruction.span.end.line;
        instruction.check.as_ref().filter(|_| inside)
    }
}

pub(crate) fn empty_continuation(span: Span) -> Warning {
    let message = "an empty line inside a continued line";
    Warning::new(Rule::NoEmptyContinuation, span, message)
}

pub(crate) fn check_comment(option: &str, span: Span) -> Warning {
    let message = format!("`{option}` is not a check option; the comment is ignored");
    Warning::new(Rule::InvalidCheckComment, span, message)
}

/// All warnings, in the order of the file.
pub(crate) fn check(instructions: &[Instruction], found: Vec<Warning>) -> Vec<Warning> {
    let mut lint = Lint {
        warnings: found,
        stages: BTreeSet::new(),
    };
    lint.casing(instructions);
    for instruction in instructions {
        lint.instruction(instruction);
    }
    lint.warnings.sort_by_key(|warning| warning.span.start);
    lint.warnings
}

struct Lint<'a> {
    warnings: Vec<Warning>,
    stages: BTreeSet<&'a str>,
}

impl<'a> Lint<'a> {
    fn warn(&mut self, rule: Rule, span: Span, message: impl Into<String>) {
        self.warnings.push(Warning::new(rule, span, message));
    }

    fn instruction(&mut self, instruction: &'a Instruction) {
        match &instruction.kind {
            InstructionKind::From(from) => {
                if let Some(name) = &from.name {
                    self.typed(instruction, from, name);
                    self.stage(name);
                    self.described(instruction, &[name]);
                }
            }
            InstructionKind::Arg(arguments) => {
                let names: Vec<&Word> = arguments.arguments.iter().map(|arg| &arg.name).collect();
                self.described(instruction, &names);
            }
            InstructionKind::Maintainer(_) => {
                let message =
                    "MAINTAINER is deprecated; write `LABEL org.opencontainers.image.authors=…`";
                self.warn(
                    Rule::MaintainerDeprecated,
                    instruction.keyword.span,
                    message,
                );
            }
            _ => {}
        }
    }

    /// How `AS` and the stage's name were typed.
    fn typed(&mut self, instruction: &Instruction, from: &FromImage, name: &Word) {
        let mut words = instruction.original.split_whitespace().rev();
        let (typed, word) = (
            words.next().unwrap_or(&name.text),
            words.next().unwrap_or("AS"),
        );
        if typed != name.text {
            let message = format!("stage name `{typed}` should be lower case");
            self.warn(Rule::StageNameCasing, name.span, message);
        }
        let keyword = &instruction.keyword.text;
        let matches = match Case::of(keyword) {
            Some(case) => Case::of(word) == Some(case),
            // What is mixed itself is told so by another rule.
            None => true,
        };
        if !matches {
            let message = format!("`{word}` should be in the same case as `{keyword}`");
            let place = between(from.image.span, name.span, word.len());
            self.warn(Rule::FromAsCasing, place, message);
        }
    }

    fn stage(&mut self, name: &'a Word) {
        let text = name.text.as_str();
        if matches!(text, "scratch" | "context") {
            let message = format!("stage name `{text}` is reserved");
            self.warn(Rule::ReservedStageName, name.span, message);
        }
        if !self.stages.insert(text) {
            let message = format!("an earlier stage is named `{text}` too; the last one counts");
            self.warn(Rule::DuplicateStageName, name.span, message);
        }
    }

    /// A comment right above that describes something else.
    fn described(&mut self, instruction: &Instruction, names: &[&Word]) {
        let is_check = |comment: &&String| {
            let name = comment.split_once('=').map_or("", |(name, _)| name.trim());
            name.eq_ignore_ascii_case("check")
        };
        let comment = instruction.comments.iter().rfind(|text| !is_check(text));
        let Some(first) = comment.and_then(|comment| comment.split(' ').next()) else {
            return;
        };
        if names.iter().any(|name| name.text == first) {
            return;
        }
        let name = match names {
            [name] => name.text.as_str(),
            _ => "NAME",
        };
        let message = format!(
            "the comment above this {} should have the form `# {name} <description>`, or be parted from it by an empty line",
            instruction.kind.name()
        );
        self.warn(
            Rule::InvalidDefinitionDescription,
            instruction.keyword.span,
            message,
        );
    }

    /// Instructions in another case than most of them; those before the first stage do not count.
    fn casing(&mut self, instructions: &[Instruction]) {
        let is_from = |i: &Instruction| matches!(i.kind, InstructionKind::From(_));
        let first = instructions.iter().position(is_from).unwrap_or(0);
        let instructions = &instructions[first..];
        let count = |wanted: Case| {
            let cases = instructions.iter().map(|i| Case::of(&i.keyword.text));
            cases.filter(|case| *case == Some(wanted)).count()
        };
        let usual = match count(Case::Lower) > count(Case::Upper) {
            true => Case::Lower,
            false => Case::Upper,
        };
        for instruction in instructions {
            let typed = &instruction.keyword;
            if Case::of(&typed.text) != Some(usual) {
                let name = match usual {
                    Case::Lower => "lower",
                    Case::Upper => "upper",
                };
                let message = format!(
                    "`{typed}` should be in {name} case like most instructions of this file"
                );
                self.warn(Rule::ConsistentInstructionCasing, typed.span, message);
            }
        }
    }
}

/// Where a word of this length stands between two others: exactly, if with single blanks.
fn between(before: Span, behind: Span, length: usize) -> Span {
    let (mut start, mut end) = (before.end, behind.start);
    if end.offset.checked_sub(start.offset) == Some(length + 2) && start.line == end.line {
        start.offset += 1;
        start.column += 1;
        end.offset -= 1;
        end.column -= 1;
    }
    Span { start, end }
}

/// The case of a word that is all in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Lower,
    Upper,
}

impl Case {
    fn of(word: &str) -> Option<Self> {
        let all = |is: fn(&char) -> bool| word.chars().all(|c| is(&c));
        match () {
            () if all(char::is_ascii_lowercase) => Some(Self::Lower),
            () if all(char::is_ascii_uppercase) => Some(Self::Upper),
            () => None,
        }
    }
}
