//! One stage, line by line: what is in force.

use std::collections::BTreeSet;

use firebuild_core::{ImageConfig, Platform, Reference};
use firebuild_dockerfile::mount::MountFlag;
use firebuild_dockerfile::{
    Arguments, Assignments, Heredoc, Instruction, InstructionKind, Rule, Source, Span,
    TransferOptions, Warning, Word, parse_trigger,
};

use super::from::Front;
use super::odd::only_last;
use super::unset::Asked;
use crate::lower::{Scope, begin};

/// What a stage starts from.
pub(super) enum Parent {
    /// The stage so many stages back, the one right before being 0.
    Stage(usize),
    Image(Reference),
    /// `scratch`, or files without a configuration.
    Nothing,
    /// It cannot be told.
    Unknown,
}

/// What is in force at a line.
#[derive(Clone)]
pub(super) struct Stage<'a> {
    pub(super) front: &'a Front<'a>,
    pub(super) scope: Scope,
    /// Whether all variables of the base are known.
    pub(super) known: bool,
    /// Whether a `WORKDIR` stands in this file.
    workdir: bool,
    /// Whether a `SHELL` is in force.
    pub(super) shell: bool,
    /// Instructions for the stages built from this one.
    triggers: Vec<Instruction>,
    once: Once,
    /// The variables of which it was said that this instruction uses them unset.
    pub(super) told: BTreeSet<String>,
}

/// The instructions of which the last one of a stage counts.
#[derive(Clone, Default)]
struct Once {
    cmd: Option<Span>,
    entrypoint: Option<Span>,
    healthcheck: Option<Span>,
}

impl<'a> Stage<'a> {
    pub(super) fn of_nothing(front: &'a Front<'a>) -> Self {
        Self::of_image(front, Some(ImageConfig::scratch(Platform::host())))
    }

    /// On an image, whose configuration may be known.
    pub(super) fn of_image(front: &'a Front<'a>, config: Option<ImageConfig>) -> Self {
        let known = config.is_some();
        let mut config = config.unwrap_or_else(|| ImageConfig::scratch(Platform::host()));
        let triggers = config.config.on_build.iter();
        let triggers = triggers.filter_map(|text| parse_trigger(text).ok());
        let triggers = triggers.collect();
        begin(&mut config);
        let mut stage = Self {
            front,
            scope: Scope::stage(front.scope(), &config.config),
            known,
            workdir: false,
            shell: config.config.shell.is_some_and(|shell| !shell.is_empty()),
            triggers,
            once: Once::default(),
            told: BTreeSet::new(),
        };
        stage.trigger();
        stage
    }

    /// How many variables it has: what a copy of it costs.
    pub(super) fn size(&self) -> usize {
        self.scope.names().count()
    }

    /// A stage on this one.
    pub(super) fn child(&self) -> Self {
        let mut stage = self.clone();
        stage.trigger();
        stage
    }

    /// Triggers only have an effect: what is odd about them was said where they stand.
    fn trigger(&mut self) {
        for trigger in std::mem::take(&mut self.triggers) {
            self.instruction(&trigger, &mut Vec::new());
        }
        self.once = Once::default();
    }

    pub(super) fn walk(mut self, lines: &[Instruction], warnings: &mut Vec<Warning>) -> Self {
        for line in lines {
            let mut found = Vec::new();
            self.instruction(line, &mut found);
            warnings.append(&mut found);
        }
        self
    }

    fn instruction(&mut self, line: &Instruction, found: &mut Vec<Warning>) {
        let keyword = line.keyword.span;
        self.told.clear();
        match &line.kind {
            InstructionKind::Arg(arguments) => self.arguments(arguments, found),
            InstructionKind::Env(pairs) => self.environment(line, pairs, found),
            InstructionKind::Label(pairs) => {
                self.legacy(line, pairs, found);
                self.pairs(pairs, found);
            }
            InstructionKind::Add(add) => {
                self.transfer(&add.options, &add.sources, &add.destination, found);
                self.words(add.checksum.as_ref(), found);
                self.ignored(line, &add.sources, found);
            }
            InstructionKind::Copy(copy) => {
                self.transfer(&copy.options, &copy.sources, &copy.destination, found);
                if copy.from.is_none() {
                    self.ignored(line, &copy.sources, found);
                }
            }
            InstructionKind::Run(run) => {
                for mount in &run.mounts {
                    self.mount(mount, found);
                }
            }
            InstructionKind::Workdir(workdir) => self.workdir(&workdir.path, found),
            InstructionKind::User(user) => self.words([&user.user], found),
            InstructionKind::Volume(volume) => self.words(&volume.paths, found),
            InstructionKind::StopSignal(stop) => self.words([&stop.signal], found),
            InstructionKind::Expose(ports) => self.expose(&ports.ports, found),
            InstructionKind::Cmd(command) => {
                self.json(line, &command.command, found);
                only_last(&mut self.once.cmd, line, found);
            }
            InstructionKind::Entrypoint(command) => {
                self.json(line, &command.command, found);
                only_last(&mut self.once.entrypoint, line, found);
            }
            InstructionKind::Healthcheck(_) => {
                only_last(&mut self.once.healthcheck, line, found);
            }
            InstructionKind::Shell(_) => self.shell = true,
            InstructionKind::Onbuild(onbuild) => {
                let mut inner = (*onbuild.inner).clone();
                // It runs in another file, at another place.
                inner.keyword.span = keyword;
                self.triggers.push(inner);
            }
            InstructionKind::From(_) | InstructionKind::Maintainer(_) => {}
        }
    }

    fn arguments(&mut self, arguments: &Arguments, found: &mut Vec<Warning>) {
        for argument in &arguments.arguments {
            let name = &argument.name;
            self.secret("ARG", name, found);
            let given = self.front.options.build_args.contains_key(&name.text);
            let value = argument.value.as_ref();
            // A default that is not used is not looked at.
            self.words(value.filter(|_| !given), found);
            let value = value.and_then(|value| self.front.expander.word(value, &self.scope).ok());
            self.scope
                .declare(&name.text, value.map(|value| value.value));
        }
    }

    fn environment(&mut self, line: &Instruction, pairs: &Assignments, found: &mut Vec<Warning>) {
        self.legacy(line, pairs, found);
        self.pairs(pairs, found);
        let expand = |word: &Word| {
            let expansion = self.front.expander.word(word, &self.scope);
            expansion.map_or_else(|_| word.text.clone(), |expansion| expansion.value)
        };
        let pairs = pairs.assignments.iter();
        let values: Vec<(String, String)> = pairs
            .map(|pair| {
                self.secret("ENV", &pair.name, found);
                (expand(&pair.name), expand(&pair.value))
            })
            .collect();
        for (name, value) in values {
            self.scope.set(&name, &value);
        }
    }

    fn pairs(&mut self, pairs: &Assignments, found: &mut Vec<Warning>) {
        for pair in &pairs.assignments {
            self.words([&pair.name, &pair.value], found);
        }
    }

    fn transfer(
        &mut self,
        options: &TransferOptions,
        sources: &[Source],
        destination: &Word,
        found: &mut Vec<Warning>,
    ) {
        self.words(options.chown.iter().chain(&options.chmod), found);
        for source in sources {
            match source {
                Source::Path(path) => self.words([path], found),
                Source::Heredoc(heredoc) => self.heredoc(heredoc, found),
            }
        }
        self.words([destination], found);
    }

    fn heredoc(&mut self, heredoc: &Heredoc, found: &mut Vec<Warning>) {
        if let Ok(expansion) = self.front.expander.heredoc(heredoc, &self.scope) {
            let body = Word {
                text: heredoc.body.clone(),
                span: heredoc.body_span,
            };
            self.unset(&body, &expansion.unset, found);
        }
    }

    fn mount(&mut self, mount: &MountFlag, found: &mut Vec<Warning>) {
        let asked = Asked::new(&self.scope);
        // What is wrong with it is told by whoever lowers it.
        drop(mount.resolve(self.front.expander, &asked));
        self.unset(&mount.word, &asked.unset(), found);
    }

    fn workdir(&mut self, path: &Word, found: &mut Vec<Warning>) {
        self.words([path], found);
        let first = !std::mem::replace(&mut self.workdir, true);
        let Ok(expansion) = self.front.expander.word(path, &self.scope) else {
            return;
        };
        if first && !expansion.value.starts_with('/') {
            let message = format!(
                "where `{}` is depends on the base image; write an absolute path first",
                expansion.value
            );
            found.push(Warning::new(Rule::WorkdirRelativePath, path.span, message));
        }
    }
}
