//! What is legal and probably not meant: BuildKit's checks as far as the text alone tells.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::directive::Directives;
use crate::{Command, Instruction, InstructionKind, Span};

/// Something legal that is probably not meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// BuildKit's name of the rule.
    pub rule: &'static str,
    /// What is odd: lower case, no full stop.
    pub message: String,
    /// Where.
    #[serde(flatten)]
    pub span: Span,
}

pub(crate) fn empty_continuation(span: Span) -> Warning {
    Warning {
        rule: "NoEmptyContinuation",
        message: "empty continuation line".to_owned(),
        span,
    }
}

pub(crate) fn check_comment(option: &str, span: Span) -> Warning {
    Warning {
        rule: "InvalidCheckComment",
        message: format!("`{option}` is not a check option; the comment is ignored"),
        span,
    }
}

/// All warnings, in the order of the file, without those that the Dockerfile turns off.
pub(crate) fn check(
    instructions: &[Instruction],
    directives: &Directives,
    found: Vec<Warning>,
) -> Vec<Warning> {
    let mut lint = Lint {
        warnings: found,
        ..Lint::default()
    };
    lint.casing(instructions);
    for instruction in instructions {
        lint.instruction(instruction);
    }
    let file = directives.check.as_ref();
    lint.warnings.retain(|warning| {
        let line = warning.span.start.line;
        let next = instructions.partition_point(|i| i.span.start.line <= line);
        let of_line = instructions[..next]
            .last()
            .filter(|instruction| line <= instruction.span.end.line)
            .and_then(|instruction| instruction.check.as_ref());
        let mut options = file.into_iter().chain(of_line);
        !options.any(|options| options.skips(warning.rule))
    });
    lint.warnings.sort_by_key(|warning| warning.span.start);
    lint.warnings
}

#[derive(Default)]
struct Lint<'a> {
    warnings: Vec<Warning>,
    stages: BTreeSet<&'a str>,
    /// Since the last `FROM`.
    shell: bool,
    cmd: Option<Span>,
    entrypoint: Option<Span>,
    healthcheck: Option<Span>,
}

impl<'a> Lint<'a> {
    fn warn(&mut self, rule: &'static str, span: Span, message: impl Into<String>) {
        self.warnings.push(Warning {
            rule,
            message: message.into(),
            span,
        });
    }

    fn instruction(&mut self, instruction: &'a Instruction) {
        let span = instruction.keyword.span;
        match &instruction.kind {
            InstructionKind::From(from) => {
                (self.shell, self.cmd, self.entrypoint, self.healthcheck) =
                    (false, None, None, None);
                if let Some(name) = &from.name {
                    self.stage(instruction, &name.text, name.span);
                }
            }
            InstructionKind::Maintainer(_) => {
                let message = "MAINTAINER is deprecated, use a label instead";
                self.warn("MaintainerDeprecated", span, message);
            }
            InstructionKind::Env(pairs) | InstructionKind::Label(pairs) if pairs.legacy => {
                let message = format!("write `{} NAME=VALUE`", instruction.kind.name());
                self.warn("LegacyKeyValueFormat", span, message);
            }
            InstructionKind::Shell(_) => self.shell = true,
            InstructionKind::Cmd(line) => {
                self.json_recommended(instruction, &line.command);
                let before = self.cmd.replace(span);
                self.only_last(instruction, before);
            }
            InstructionKind::Entrypoint(line) => {
                self.json_recommended(instruction, &line.command);
                let before = self.entrypoint.replace(span);
                self.only_last(instruction, before);
            }
            InstructionKind::Healthcheck(_) => {
                let before = self.healthcheck.replace(span);
                self.only_last(instruction, before);
            }
            _ => {}
        }
    }

    fn stage(&mut self, instruction: &Instruction, name: &'a str, span: Span) {
        let mut words = instruction.original.split_whitespace().rev();
        let (typed, word) = (words.next().unwrap_or(name), words.next().unwrap_or("AS"));
        if typed != name {
            let message = format!("stage name `{typed}` should be lower case");
            self.warn("StageNameCasing", span, message);
        }
        let is_upper = |text: &str| text.chars().all(char::is_uppercase);
        if is_upper(word) != is_upper(&instruction.keyword.text) {
            let from = &instruction.keyword.text;
            let message = format!("`{word}` and `{from}` have different casing");
            self.warn("FromAsCasing", span, message);
        }
        if matches!(name, "scratch" | "context") {
            let message = format!("stage name `{name}` is reserved");
            self.warn("ReservedStageName", span, message);
        }
        if !self.stages.insert(name) {
            let message = format!("an earlier stage is named `{name}` too; the last one counts");
            self.warn("DuplicateStageName", span, message);
        }
    }

    fn json_recommended(&mut self, instruction: &Instruction, command: &Command) {
        if matches!(command, Command::Shell(_)) && !self.shell {
            let name = instruction.kind.name();
            let message = format!(
                "a JSON array is recommended for {name}, so that signals reach the program"
            );
            self.warn("JSONArgsRecommended", instruction.keyword.span, message);
        }
    }

    fn only_last(&mut self, instruction: &Instruction, before: Option<Span>) {
        if let Some(before) = before {
            let name = instruction.kind.name();
            let message = format!("a later {name} of this stage takes the place of this one");
            self.warn("MultipleInstructionsDisallowed", before, message);
        }
    }

    /// Instructions in another case than most of them.
    fn casing(&mut self, instructions: &[Instruction]) {
        let is_lower = |i: &&Instruction| i.keyword.text == i.keyword.text.to_lowercase();
        let is_upper = |i: &&Instruction| i.keyword.text == i.keyword.text.to_uppercase();
        let lower = instructions.iter().filter(is_lower).count();
        let upper = instructions.iter().filter(is_upper).count();
        for instruction in instructions {
            let odd = match lower > upper {
                true => !is_lower(&instruction),
                false => !is_upper(&instruction),
            };
            if odd {
                let case = if lower > upper { "lower" } else { "upper" };
                let typed = &instruction.keyword.text;
                let message = format!("`{typed}` should be in {case} case like the others");
                self.warn(
                    "ConsistentInstructionCasing",
                    instruction.keyword.span,
                    message,
                );
            }
        }
    }
}
