//! One instruction from its line: the first word decides, flags come off, the rest is shared out.

use std::collections::BTreeMap;
use std::ops::Range;

use super::check_trigger;
use crate::error::{ErrorKind, ParseError};
use crate::flags::Flags;
use crate::heredoc::Heredoc;
use crate::lines::Line;
use crate::split::first_word;
use crate::suggest::nearest;
use crate::{Instruction, InstructionKind, Onbuild};

/// The instructions' names.
const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// One instruction on its way to its type: its line, and what stands around it.
pub(super) struct Scope<'a> {
    pub(super) line: Line<'a>,
    pub(super) escape: char,
    /// The rest of each comment above, by its first word.
    pub(super) descriptions: BTreeMap<&'a str, &'a str>,
    /// Taken by the instruction that they belong to.
    pub(super) heredocs: Vec<Heredoc>,
}

impl Scope<'_> {
    pub(super) fn instruction(&mut self, range: Range<usize>) -> Result<Instruction, ParseError> {
        let line = self.line;
        let (word, rest) = first_word(&line, range.clone());
        let typed = line.get(word.clone());
        let keyword = typed.to_ascii_uppercase();
        let Some(name) = INSTRUCTIONS.into_iter().find(|name| *name == keyword) else {
            // `CMD["a"]`, or a blank that is none: the letters alone may be an instruction.
            let letters = typed.find(|c: char| !c.is_ascii_alphabetic());
            let suggestion = nearest(&typed[..letters.unwrap_or(typed.len())], INSTRUCTIONS);
            let kind = ErrorKind::UnknownInstruction {
                word: typed.chars().take(100).collect(),
                suggestion,
            };
            return Err(line
                .error(kind, word)
                .expecting("an instruction and a blank"));
        };
        let (flags, rest) = Flags::scan(&line, rest, name);
        let kind = self.kind(name, flags, rest)?;
        Ok(Instruction {
            kind,
            span: line.span(range.clone()),
            keyword: line.word(word),
            original: line.get(range).to_owned(),
            comments: Vec::new(),
            check: None,
        })
    }

    fn kind(
        &mut self,
        name: &'static str,
        flags: Flags,
        rest: Range<usize>,
    ) -> Result<InstructionKind, ParseError> {
        Ok(match name {
            "ADD" => InstructionKind::Add(self.add(flags, rest)?),
            "ARG" => InstructionKind::Arg(self.arg(flags, rest)?),
            "CMD" => InstructionKind::Cmd(self.command_line("CMD", flags, rest)?),
            "COPY" => InstructionKind::Copy(self.copy(flags, rest)?),
            "ENTRYPOINT" => {
                InstructionKind::Entrypoint(self.command_line("ENTRYPOINT", flags, rest)?)
            }
            "ENV" => InstructionKind::Env(self.assignments("ENV", flags, rest)?),
            "EXPOSE" => InstructionKind::Expose(self.expose(flags, rest)?),
            "FROM" => InstructionKind::From(self.from(flags, rest)?),
            "HEALTHCHECK" => InstructionKind::Healthcheck(self.healthcheck(flags, rest)?),
            "LABEL" => InstructionKind::Label(self.assignments("LABEL", flags, rest)?),
            "MAINTAINER" => InstructionKind::Maintainer(self.maintainer(flags, rest)?),
            "ONBUILD" => InstructionKind::Onbuild(self.onbuild(flags, rest)?),
            "RUN" => InstructionKind::Run(self.run(flags, rest)?),
            "SHELL" => InstructionKind::Shell(self.shell(flags, rest)?),
            "STOPSIGNAL" => InstructionKind::StopSignal(self.stop_signal(flags, rest)?),
            "USER" => InstructionKind::User(self.user(flags, rest)?),
            "VOLUME" => InstructionKind::Volume(self.volume(flags, rest)?),
            _ => InstructionKind::Workdir(self.workdir(flags, rest)?),
        })
    }

    fn onbuild(&mut self, flags: Flags, rest: Range<usize>) -> Result<Onbuild, ParseError> {
        flags.finish()?;
        let (word, _) = first_word(&self.line, rest.clone());
        if word.is_empty() {
            let kind = ErrorKind::NoArguments {
                instruction: "ONBUILD",
            };
            return Err(self.line.error(kind, rest).expecting("an instruction"));
        }
        if self.line.get(word.clone()).eq_ignore_ascii_case("ONBUILD") {
            return Err(self.line.error(ErrorKind::OnbuildChain, word));
        }
        let mut expression = self.line.get(rest.clone()).to_owned();
        for heredoc in &self.heredocs {
            expression.push('\n');
            expression.push_str(&heredoc.body);
            expression.push_str(&heredoc.name);
        }
        let inner = self.instruction(rest)?;
        check_trigger(&inner)?;
        Ok(Onbuild {
            expression,
            inner: Box::new(inner),
        })
    }

    /// The rest of a comment whose first word is `name`.
    pub(super) fn description(&self, name: &str) -> Option<String> {
        self.descriptions.get(name).map(|rest| (*rest).to_owned())
    }
}
