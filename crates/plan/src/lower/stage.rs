//! One stage's instructions, in order, to operations.

use firebuild_core::ImageConfig;
use firebuild_dockerfile::{
    self as dockerfile, Expander, Instruction, InstructionKind, Position, Span, Word,
};

use super::scope::Scope;
use super::stages::Stages;
use super::{Inherited, LowerError, Settings, history};
use crate::Change;
use crate::operation::{Base, Configure, Operation, Origin, Stage, Step};

const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// A stage while it is lowered, and after.
pub(crate) struct Lowering<'a> {
    pub(super) stages: &'a Stages<'a>,
    pub(super) index: usize,
    pub(super) expander: &'a Expander,
    pub(super) settings: &'a Settings,
    base: Base,
    config: ImageConfig,
    scope: Scope,
    steps: Vec<Step>,
    /// Whether the instruction at hand is a trigger of the base image, and so written nowhere in
    /// the file.
    trigger: bool,
    /// Whether a CMD stands in this stage: ENTRYPOINT takes away only an inherited one.
    command_set: bool,
    /// How many ports were declared in this stage, repeated ones too.
    pub(super) ports: usize,
}

impl<'a> Lowering<'a> {
    /// A stage of which nothing is lowered yet.
    pub(crate) fn new(
        stages: &'a Stages<'a>,
        index: usize,
        expander: &'a Expander,
        settings: &'a Settings,
        inherited: Inherited,
    ) -> Self {
        Self {
            stages,
            index,
            expander,
            settings,
            base: inherited.base,
            config: inherited.config,
            scope: inherited.scope,
            steps: Vec::new(),
            trigger: false,
            command_set: false,
            ports: 0,
        }
    }

    /// The configuration so far.
    pub(crate) fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// The variables in force.
    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    pub(super) fn scope_mut(&mut self) -> &mut Scope {
        &mut self.scope
    }

    pub(crate) fn finish(self) -> Stage {
        let line = self.stages.get(self.index).line;
        Stage {
            name: self.stages.name(self.index),
            base: self.base,
            origin: origin(line.span, line.original.clone()),
            steps: self.steps,
        }
    }

    /// Lowers the base image's triggers and then every instruction.
    pub(crate) fn run(mut self, triggers: &[Instruction]) -> Result<Self, LowerError> {
        let place = self.stages.get(self.index).from.image.span;
        self.trigger = true;
        for instruction in triggers {
            self.instruction(instruction)
                .map_err(|error| error.in_trigger(&instruction.original, place))?;
        }
        self.trigger = false;
        for instruction in self.stages.get(self.index).instructions {
            self.instruction(instruction)?;
        }
        Ok(self)
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<(), LowerError> {
        match &instruction.kind {
            InstructionKind::Add(add) => self.add(instruction, add)?,
            InstructionKind::Arg(arguments) => self.arg(instruction, arguments)?,
            InstructionKind::Cmd(line) => self.cmd(instruction, &line.command),
            InstructionKind::Copy(copy) => self.copy(instruction, copy)?,
            InstructionKind::Entrypoint(line) => self.entrypoint(instruction, &line.command),
            InstructionKind::Env(assignments) => self.env(instruction, assignments)?,
            InstructionKind::Expose(expose) => self.expose(instruction, &expose.ports)?,
            InstructionKind::From(_) => {}
            InstructionKind::Healthcheck(health) => self.health(instruction, health),
            InstructionKind::Label(assignments) => self.label(instruction, assignments)?,
            InstructionKind::Maintainer(maintainer) => {
                self.maintainer(instruction, &maintainer.author);
            }
            InstructionKind::Onbuild(onbuild) => self.on_build(instruction, onbuild),
            InstructionKind::Run(run) => self.process(instruction, run)?,
            InstructionKind::Shell(shell) => {
                let shell = shell.shell.clone();
                let history = history::list("SHELL", &shell);
                self.configure(instruction, history, vec![Change::Shell { shell }]);
            }
            InstructionKind::StopSignal(signal) => self.stop_signal(instruction, &signal.signal)?,
            InstructionKind::User(user) => {
                let user = self.expand(&user.user)?;
                let history = format!("USER {user}");
                self.configure(instruction, history, vec![Change::User { user }]);
            }
            InstructionKind::Volume(volume) => self.volume(instruction, &volume.paths)?,
            InstructionKind::Workdir(workdir) => self.workdir(instruction, &workdir.path)?,
        }
        Ok(())
    }

    pub(super) fn expand(&self, word: &Word) -> Result<String, LowerError> {
        Ok(self.expander.word(word, &self.scope)?.value)
    }

    /// Adds an operation that changes only the configuration, and does so to what later lines see.
    pub(super) fn configure(
        &mut self,
        instruction: &Instruction,
        history: impl Into<Option<String>>,
        changes: Vec<Change>,
    ) {
        let operation = Operation::Configure(Configure { changes });
        self.step(instruction, history, operation);
    }

    pub(super) fn step(
        &mut self,
        instruction: &Instruction,
        history: impl Into<Option<String>>,
        operation: Operation,
    ) {
        for change in operation.changes() {
            change.apply(&mut self.config);
            if let Change::Environment { name, value } = change {
                self.scope.set(name, value);
            }
        }
        let origin = if self.trigger {
            let line = self.stages.get(self.index).line;
            origin(line.span, format!("ONBUILD {}", instruction.original))
        } else {
            origin(instruction.span, instruction.original.clone())
        };
        self.steps.push(Step {
            operation,
            origin,
            history: history.into(),
        });
    }

    /// The shell of shell forms.
    pub(super) fn shell(&self) -> Vec<String> {
        let shell = self.config.config.shell.as_ref();
        shell
            .filter(|shell| !shell.is_empty())
            .cloned()
            .unwrap_or_else(|| DEFAULT_SHELL.map(str::to_owned).to_vec())
    }

    pub(super) fn workdir_in_force(&self) -> &str {
        &self.config.config.working_dir
    }

    fn cmd(&mut self, instruction: &Instruction, command: &dockerfile::Command) {
        let arguments = self.arguments(command);
        self.command_set = true;
        let history = history::quoted("CMD", &arguments);
        self.configure(instruction, history, vec![Change::Command { arguments }]);
    }

    fn entrypoint(&mut self, instruction: &Instruction, command: &dockerfile::Command) {
        let arguments = self.arguments(command);
        let history = history::quoted("ENTRYPOINT", &arguments);
        let change = Change::Entrypoint {
            arguments,
            clears_command: !self.command_set,
        };
        self.configure(instruction, history, vec![change]);
    }

    /// CMD and ENTRYPOINT: the shell form is wrapped with the shell in force.
    fn arguments(&self, command: &dockerfile::Command) -> Vec<String> {
        match command {
            dockerfile::Command::Exec(arguments) => arguments.clone(),
            dockerfile::Command::Shell(text) => {
                self.shell().into_iter().chain([text.clone()]).collect()
            }
        }
    }
}

fn origin(span: Span, text: String) -> Origin {
    let Position { line, .. } = span.start;
    Origin {
        line,
        end_line: span.end.line,
        text,
    }
}
