//! One stage's instructions, in order, to operations.

use std::collections::{BTreeMap, HashSet};

use firebuild_core::ImageConfig;
use firebuild_dockerfile::{
    self as dockerfile, AddFiles, Arguments, Assignments, CopyFiles, Expander, Instruction,
    InstructionKind, Invocation, Network, Security, Span, TransferOptions, Word,
    source::SourceKind,
};

use super::scope::Scope;
use super::stages::{Source, Stages};
use super::{Inherited, LowerError, history};
use crate::Change;
use crate::operation::{
    Base, Command, Configure, Copy, Directory, Item, Operation, Origin, Run, RunFile,
    Source as From, Stage, Step, Unpack,
};

/// How many ports a stage may declare, counted as they are written: every one of each protocol
/// once. A short line can declare 65536.
const MOST_PORTS: usize = 3 << 16;

const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// A stage while it is lowered, and after.
pub(crate) struct Lowering<'a> {
    stages: &'a Stages<'a>,
    index: usize,
    expander: &'a Expander,
    base: Base,
    config: ImageConfig,
    scope: Scope,
    steps: Vec<Step>,
    /// Whether a CMD stands in this stage: ENTRYPOINT takes away only an inherited one.
    command_set: bool,
    /// How many ports were declared in this stage, repeated ones too.
    ports: usize,
}

impl<'a> Lowering<'a> {
    pub(crate) fn new(
        stages: &'a Stages<'a>,
        index: usize,
        expander: &'a Expander,
        global: &Scope,
        inherited: Inherited,
    ) -> Self {
        let scope = inherited
            .scope
            .unwrap_or_else(|| Scope::stage(global, &inherited.config.config));
        Self {
            stages,
            index,
            expander,
            base: inherited.base,
            config: inherited.config,
            scope,
            steps: Vec::new(),
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

    pub(crate) fn finish(self) -> Stage {
        let line = self.stages.get(self.index).line;
        Stage {
            name: self.stages.name(self.index),
            base: self.base,
            origin: origin(line),
            steps: self.steps,
        }
    }

    /// Lowers every instruction. `positions` gives each lowered stage's place in the plan.
    pub(crate) fn run(mut self, positions: &BTreeMap<usize, usize>) -> Result<Self, LowerError> {
        for instruction in self.stages.get(self.index).instructions {
            self.instruction(instruction, positions)?;
        }
        Ok(self)
    }

    fn instruction(
        &mut self,
        instruction: &Instruction,
        positions: &BTreeMap<usize, usize>,
    ) -> Result<(), LowerError> {
        let span = instruction.keyword.span;
        match &instruction.kind {
            InstructionKind::Arg(arguments) => self.arg(instruction, arguments),
            InstructionKind::Env(assignments) => self.env(instruction, assignments),
            InstructionKind::Label(assignments) => self.label(instruction, assignments),
            InstructionKind::Run(run) => self.process(instruction, run),
            InstructionKind::Copy(copy) => self.copy(instruction, copy, positions),
            InstructionKind::Add(add) => self.add(instruction, add),
            InstructionKind::Workdir(workdir) => self.workdir(instruction, &workdir.path),
            InstructionKind::User(user) => {
                let user = self.expand(&user.user)?;
                self.configure(
                    instruction,
                    format!("USER {user}"),
                    vec![Change::User { user: user.clone() }],
                );
                Ok(())
            }
            InstructionKind::Cmd(line) => {
                let arguments = self.arguments(&line.command);
                self.command_set = true;
                self.configure(
                    instruction,
                    history::list("CMD", &arguments),
                    vec![Change::Command {
                        arguments: arguments.clone(),
                    }],
                );
                Ok(())
            }
            InstructionKind::Entrypoint(line) => {
                let arguments = self.arguments(&line.command);
                let change = Change::Entrypoint {
                    arguments: arguments.clone(),
                    clears_command: !self.command_set,
                };
                self.configure(
                    instruction,
                    history::list("ENTRYPOINT", &arguments),
                    vec![change],
                );
                Ok(())
            }
            InstructionKind::Shell(shell) => {
                let change = Change::Shell {
                    shell: shell.shell.clone(),
                };
                self.configure(
                    instruction,
                    history::list("SHELL", &shell.shell),
                    vec![change],
                );
                Ok(())
            }
            InstructionKind::Expose(expose) => self.expose(instruction, &expose.ports),
            InstructionKind::Volume(volume) => self.volume(instruction, &volume.paths),
            InstructionKind::StopSignal(signal) => self.stop_signal(instruction, &signal.signal),
            InstructionKind::From(_) => Ok(()),
            other @ (InstructionKind::Healthcheck(_)
            | InstructionKind::Maintainer(_)
            | InstructionKind::Onbuild(_)) => {
                Err(LowerError::unsupported(span, format!("`{}`", other.name())))
            }
        }
    }

    fn expand(&self, word: &Word) -> Result<String, LowerError> {
        Ok(self.expander.word(word, &self.scope)?.value)
    }

    /// Adds an operation that changes only the configuration, and does so to what later lines see.
    fn configure(&mut self, instruction: &Instruction, history: String, changes: Vec<Change>) {
        self.step(
            instruction,
            history,
            Operation::Configure(Configure { changes }),
        );
    }

    fn step(&mut self, instruction: &Instruction, history: String, operation: Operation) {
        for change in operation.changes() {
            change.apply(&mut self.config);
            if let Change::Environment { name, value } = change {
                self.scope.set(name, value);
            }
        }
        self.steps.push(Step {
            operation,
            origin: origin(instruction),
            history,
        });
    }

    fn shell(&self) -> Vec<String> {
        self.config
            .config
            .shell
            .clone()
            .unwrap_or_else(|| DEFAULT_SHELL.map(str::to_owned).to_vec())
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

    fn arg(&mut self, instruction: &Instruction, arguments: &Arguments) -> Result<(), LowerError> {
        let mut texts = Vec::new();
        for argument in &arguments.arguments {
            let default = argument
                .value
                .as_ref()
                .map(|value| self.expand(value))
                .transpose()?;
            let value = self.scope.declare(&argument.name.text, default);
            texts.push(value.map_or_else(
                || argument.name.text.clone(),
                |value| format!("{}={value}", argument.name.text),
            ));
        }
        self.configure(instruction, format!("ARG {}", texts.join(" ")), Vec::new());
        Ok(())
    }

    /// Names and values, all expanded before any of them is set.
    fn pairs(&self, assignments: &Assignments) -> Result<Vec<(String, String)>, LowerError> {
        let pair = |assignment: &dockerfile::Assignment| {
            Ok((
                self.expand(&assignment.name)?,
                self.expand(&assignment.value)?,
            ))
        };
        assignments.assignments.iter().map(pair).collect()
    }

    fn env(
        &mut self,
        instruction: &Instruction,
        assignments: &Assignments,
    ) -> Result<(), LowerError> {
        let pairs = self.pairs(assignments)?;
        let history = format!("ENV {}", joined(&pairs));
        let changes = pairs
            .into_iter()
            .map(|(name, value)| Change::Environment { name, value })
            .collect();
        self.configure(instruction, history, changes);
        Ok(())
    }

    fn label(
        &mut self,
        instruction: &Instruction,
        assignments: &Assignments,
    ) -> Result<(), LowerError> {
        let pairs = self.pairs(assignments)?;
        let history = format!("LABEL {}", joined(&pairs));
        let changes = pairs
            .into_iter()
            .map(|(name, value)| Change::Label { name, value })
            .collect();
        self.configure(instruction, history, changes);
        Ok(())
    }

    fn workdir(&mut self, instruction: &Instruction, path: &Word) -> Result<(), LowerError> {
        let expanded = self.expand(path)?;
        let path = absolute(&self.config.config.working_dir, &expanded);
        let changes = vec![Change::WorkingDirectory { path: path.clone() }];
        let user = self.config.config.user.clone();
        let history = format!("WORKDIR {path}");
        self.step(
            instruction,
            history,
            Operation::Directory(Directory {
                path,
                user,
                changes,
            }),
        );
        Ok(())
    }

    fn expose(&mut self, instruction: &Instruction, words: &[Word]) -> Result<(), LowerError> {
        let (mut ports, mut seen) = (Vec::new(), HashSet::new());
        for word in words {
            for text in self.expander.words(word, &self.scope)?.value {
                let parsed = dockerfile::expose::parse(&text)
                    .map_err(|error| LowerError::value(word.span, &error))?;
                self.ports += parsed.len();
                if self.ports > MOST_PORTS {
                    let what = format!("declaring more than {MOST_PORTS} ports in one stage");
                    return Err(LowerError::unsupported(word.span, what));
                }
                for port in parsed.iter().map(ToString::to_string) {
                    if seen.insert(port.clone()) {
                        ports.push(port);
                    }
                }
            }
        }
        let history = format!("EXPOSE [{}]", ports.join(" "));
        let changes = ports
            .into_iter()
            .map(|port| Change::Expose { port })
            .collect();
        self.configure(instruction, history, changes);
        Ok(())
    }

    fn volume(&mut self, instruction: &Instruction, words: &[Word]) -> Result<(), LowerError> {
        let paths: Vec<String> = words
            .iter()
            .map(|word| self.expand(word))
            .collect::<Result<_, _>>()?;
        let history = format!("VOLUME [{}]", paths.join(" "));
        let changes = paths
            .into_iter()
            .map(|path| Change::Volume { path })
            .collect();
        self.configure(instruction, history, changes);
        Ok(())
    }

    fn stop_signal(&mut self, instruction: &Instruction, word: &Word) -> Result<(), LowerError> {
        let signal = self.expand(word)?;
        signal
            .parse::<dockerfile::signal::Signal>()
            .map_err(|error| LowerError::value(word.span, &error))?;
        self.configure(
            instruction,
            format!("STOPSIGNAL {signal}"),
            vec![Change::StopSignal {
                signal: signal.clone(),
            }],
        );
        Ok(())
    }

    fn process(
        &mut self,
        instruction: &Instruction,
        run: &dockerfile::Run,
    ) -> Result<(), LowerError> {
        refuse_flags(run, instruction.keyword.span)?;
        let mut files = Vec::new();
        let command = match run.invocation() {
            Invocation::Shell(text) => Command::Shell(text.into_owned()),
            Invocation::Exec(arguments) => Command::Exec(arguments.to_vec()),
            Invocation::Script { name, content } => {
                let path = format!("/dev/pipes/{name}");
                files.push(RunFile {
                    path: path.clone(),
                    mode: 0o755,
                    content: content.into_owned(),
                });
                Command::Shell(path)
            }
        };
        let config = &self.config.config;
        let environment = config.env.iter().filter_map(|entry| entry.split_once('='));
        let operation = Run {
            command,
            shell: self.shell(),
            environment: environment
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            build_args: self.scope.arguments(),
            workdir: absolute(&config.working_dir, ""),
            user: config.user.clone(),
            hostname: "buildkitsandbox".to_owned(),
            network: Network::Default,
            security: Security::Sandbox,
            files,
            mounts: Vec::new(),
        };
        self.step(
            instruction,
            history::run(&operation),
            Operation::Run(operation),
        );
        Ok(())
    }

    fn copy(
        &mut self,
        instruction: &Instruction,
        copy: &CopyFiles,
        positions: &BTreeMap<usize, usize>,
    ) -> Result<(), LowerError> {
        if copy.parents {
            return Err(LowerError::unsupported(
                flag(&copy.options, "parents", instruction),
                "`COPY --parents`",
            ));
        }
        let from = match &copy.from {
            None => From::Context,
            Some(from) => match self.stages.copy_source(from, self.index)? {
                Source::Stage(index) => {
                    From::Stage(positions.get(&index).copied().unwrap_or_default())
                }
                Source::Image(reference) => From::Image(reference),
                Source::Scratch => {
                    return Err(LowerError::unsupported(
                        from.span,
                        "copying from `scratch`, which has no files,",
                    ));
                }
            },
        };
        let words = Words {
            sources: &copy.sources,
            destination: &copy.destination,
            options: &copy.options,
        };
        self.transfer(instruction, from, words, Unpack::Never)
    }

    fn add(&mut self, instruction: &Instruction, add: &AddFiles) -> Result<(), LowerError> {
        for (given, name) in [
            (add.checksum.is_some(), "checksum"),
            (add.keep_git_dir.is_some(), "keep-git-dir"),
            (add.unpack == Some(true), "unpack"),
        ] {
            if given {
                return Err(LowerError::unsupported(
                    flag(&add.options, name, instruction),
                    format!("`ADD --{name}`"),
                ));
            }
        }
        for word in add.sources.iter().filter_map(dockerfile::Source::path) {
            let text = self.expand(word)?;
            match dockerfile::source::classify(&text)
                .map_err(|error| LowerError::value(word.span, &error))?
            {
                SourceKind::Local { .. } => {}
                SourceKind::Http { .. } => {
                    return Err(LowerError::unsupported(word.span, "`ADD` of a URL"));
                }
                SourceKind::Git(_) => {
                    return Err(LowerError::unsupported(word.span, "`ADD` of a repository"));
                }
            }
        }
        let words = Words {
            sources: &add.sources,
            destination: &add.destination,
            options: &add.options,
        };
        self.transfer(
            instruction,
            From::Context,
            words,
            if add.unpack.is_none() {
                Unpack::Local
            } else {
                Unpack::Never
            },
        )
    }

    fn transfer(
        &mut self,
        instruction: &Instruction,
        from: From,
        words: Words<'_>,
        unpack: Unpack,
    ) -> Result<(), LowerError> {
        let Words {
            sources,
            destination,
            options,
        } = words;
        let unsupported = [
            (options.chmod.is_some(), "chmod"),
            (options.link, "link"),
            (!options.exclude.is_empty(), "exclude"),
        ];
        if let Some((_, name)) = unsupported.into_iter().find(|(given, _)| *given) {
            let what = format!("`{} --{name}`", instruction.kind.name());
            return Err(LowerError::unsupported(
                flag(options, name, instruction),
                what,
            ));
        }
        let owner = options
            .chown
            .as_ref()
            .map(|owner| self.expand(owner))
            .transpose()?;
        let items: Vec<Item> = sources
            .iter()
            .map(|source| self.item(source))
            .collect::<Result<_, _>>()?;
        let target = self.expand(destination)?;
        let names: Vec<&str> = items
            .iter()
            .map(|item| match item {
                Item::Path(path) => path.as_str(),
                Item::Inline { name, .. } => name.as_str(),
                Item::Http { url, .. } => url.as_str(),
                Item::Git(git) => git.remote.as_str(),
            })
            .collect();
        let history = format!(
            "{} {} {target} # buildkit",
            instruction.kind.name(),
            names.join(" ")
        );
        let destination = destination_path(&self.config.config.working_dir, &target);
        self.step(
            instruction,
            history,
            Operation::Copy(Copy {
                from,
                items,
                destination,
                owner,
                mode: None,
                exclude: Vec::new(),
                parents: false,
                link: false,
                unpack,
            }),
        );
        Ok(())
    }

    fn item(&self, source: &dockerfile::Source) -> Result<Item, LowerError> {
        match source {
            dockerfile::Source::Path(word) => Ok(Item::Path(self.expand(word)?)),
            dockerfile::Source::Heredoc(heredoc) => {
                let content = self.expander.heredoc(heredoc, &self.scope)?.value;
                Ok(Item::Inline {
                    name: heredoc.name.clone(),
                    content,
                })
            }
        }
    }
}

struct Words<'a> {
    sources: &'a [dockerfile::Source],
    destination: &'a Word,
    options: &'a TransferOptions,
}

/// The flags of RUN that are not executed yet.
fn refuse_flags(run: &dockerfile::Run, keyword: Span) -> Result<(), LowerError> {
    let place = |name: &str| {
        run.flags
            .iter()
            .find(|flag| flag.text.trim_start_matches('-') == name)
            .map_or(keyword, |flag| flag.span)
    };
    let unsupported = [
        (!run.mounts.is_empty(), "mount"),
        (
            !matches!(run.network, None | Some(Network::Default)),
            "network",
        ),
        (
            !matches!(run.security, None | Some(Security::Sandbox)),
            "security",
        ),
        (!run.devices.is_empty(), "device"),
    ];
    match unsupported.into_iter().find(|(given, _)| *given) {
        Some((_, name)) => Err(LowerError::unsupported(
            place(name),
            format!("`RUN --{name}`"),
        )),
        None => Ok(()),
    }
}

fn flag(options: &TransferOptions, name: &str, instruction: &Instruction) -> Span {
    let found = options
        .flags
        .iter()
        .find(|flag| flag.text.trim_start_matches('-') == name);
    found.map_or(instruction.keyword.span, |flag| flag.span)
}

fn joined(pairs: &[(String, String)]) -> String {
    pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn origin(instruction: &Instruction) -> Origin {
    let (start, end) = (instruction.span.start, instruction.span.end);
    Origin {
        line: start.line,
        end_line: end.line,
        text: instruction.original.clone(),
    }
}

/// `path` below `directory` unless it is absolute, with `.` and `..` taken out.
fn absolute(directory: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let start = if path.starts_with('/') { "" } else { directory };
    for part in start.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A copy's destination: absolute, and ending in a slash where it was written as a directory.
fn destination_path(directory: &str, written: &str) -> String {
    let mut path = absolute(directory, written);
    let is_directory = written.is_empty()
        || written == "."
        || written == ".."
        || written.ends_with('/')
        || written.ends_with("/.")
        || written.ends_with("/..");
    if is_directory && path != "/" {
        path.push('/');
    }
    path
}
