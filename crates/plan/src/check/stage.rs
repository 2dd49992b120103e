//! One stage, line by line: what is in force, and what is odd in it.

use std::collections::BTreeSet;

use firebuild_core::{ImageConfig, Platform, Reference};
use firebuild_dockerfile::{
    Arguments, Assignments, Command, Expander, Heredoc, Instruction, InstructionKind, Rule, Span,
    TransferOptions, Warning, Word, expose, nearest, parse_trigger,
};
use firebuild_dockerfile::{Source, mount::MountFlag};

use super::variables::{self, Asked};
use super::{Facts, copied, secret};
use crate::lower::{Scope, begin};

/// Variables that mean something to the builder though nothing sets them.
const BUILDERS: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

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
    expander: &'a Expander,
    facts: Facts<'a>,
    scope: Scope,
    /// Whether all variables of the base are known.
    known: bool,
    /// Whether a `WORKDIR` stands in this file.
    workdir: bool,
    /// Whether a `SHELL` is in force.
    shell: bool,
    /// Instructions for the stages built from this one.
    triggers: Vec<Instruction>,
    once: Once,
}

/// The instructions of which the last one of a stage counts.
#[derive(Clone, Default)]
struct Once {
    cmd: Option<Span>,
    entrypoint: Option<Span>,
    healthcheck: Option<Span>,
}

impl<'a> Stage<'a> {
    pub(super) fn of_nothing(expander: &'a Expander, facts: &Facts<'a>, global: &Scope) -> Self {
        let config = ImageConfig::scratch(Platform::host());
        Self::of_image(expander, facts, global, Some(config))
    }

    /// On an image of which nothing is known.
    pub(super) fn unknown(expander: &'a Expander, facts: &Facts<'a>, global: &Scope) -> Self {
        Self::of_image(expander, facts, global, None)
    }

    /// On an image, whose configuration may be known.
    pub(super) fn of_image(
        expander: &'a Expander,
        facts: &Facts<'a>,
        global: &Scope,
        config: Option<ImageConfig>,
    ) -> Self {
        let known = config.is_some();
        let mut config = config.unwrap_or_else(|| ImageConfig::scratch(Platform::host()));
        let triggers = config.config.on_build.iter();
        let triggers = triggers.filter_map(|text| parse_trigger(text).ok());
        let triggers = triggers.collect();
        begin(&mut config);
        let mut stage = Self {
            expander,
            facts: *facts,
            scope: Scope::stage(global, &config.config),
            known,
            workdir: false,
            shell: config.config.shell.is_some_and(|shell| !shell.is_empty()),
            triggers,
            once: Once::default(),
        };
        stage.trigger();
        stage
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

    /// Notes the variables of words that are not set, each once an instruction.
    fn words<'w>(&self, words: impl IntoIterator<Item = &'w Word>, found: &mut Vec<Warning>) {
        for word in words {
            if let Ok(expansion) = self.expander.word(word, &self.scope) {
                self.unset(word, &expansion.unset, found);
            }
        }
    }

    fn unset(&self, word: &Word, names: &BTreeSet<String>, found: &mut Vec<Warning>) {
        for name in names {
            if self.scope.declares(name) || BUILDERS.contains(&name.as_str()) {
                continue;
            }
            let mut message = format!("the variable `${name}` is not set");
            match nearest(name, self.scope.names()) {
                Some(known) => message.push_str(&format!("; did you mean `${known}`?")),
                None if !self.known => {
                    message.push_str(" here; what the base image sets is not known");
                }
                None => {}
            }
            let told = |warning: &Warning| {
                warning.rule == Rule::UndefinedVar && warning.message == message
            };
            if !found.iter().any(told) {
                let place = variables::place(word, name);
                found.push(Warning::new(Rule::UndefinedVar, place, message));
            }
        }
    }

    fn arguments(&mut self, arguments: &Arguments, found: &mut Vec<Warning>) {
        for argument in &arguments.arguments {
            let name = &argument.name;
            self.secret("ARG", name, found);
            let given = self.facts.options.build_args.contains_key(&name.text);
            let value = argument.value.as_ref();
            // A default that is not used is not looked at.
            self.words(value.filter(|_| !given), found);
            let value = value.and_then(|value| self.expander.word(value, &self.scope).ok());
            self.scope
                .declare(&name.text, value.map(|value| value.value));
        }
    }

    fn environment(&mut self, line: &Instruction, pairs: &Assignments, found: &mut Vec<Warning>) {
        self.legacy(line, pairs, found);
        self.pairs(pairs, found);
        let expand = |word: &Word| {
            let expansion = self.expander.word(word, &self.scope);
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

    fn pairs(&self, pairs: &Assignments, found: &mut Vec<Warning>) {
        for pair in &pairs.assignments {
            self.words([&pair.name, &pair.value], found);
        }
    }

    fn legacy(&self, line: &Instruction, pairs: &Assignments, found: &mut Vec<Warning>) {
        if let (true, Some(pair)) = (pairs.legacy, pairs.assignments.first()) {
            let name = line.kind.name();
            let message = format!("write `{name} {}=…`", pair.name);
            let place = pair.name.span.to(pair.value.span);
            found.push(Warning::new(Rule::LegacyKeyValueFormat, place, message));
        }
    }

    fn secret(&self, instruction: &str, name: &Word, found: &mut Vec<Warning>) {
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

    fn transfer(
        &self,
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

    fn heredoc(&self, heredoc: &Heredoc, found: &mut Vec<Warning>) {
        if let Ok(expansion) = self.expander.heredoc(heredoc, &self.scope) {
            let body = Word {
                text: heredoc.body.clone(),
                span: heredoc.body_span,
            };
            self.unset(&body, &expansion.unset, found);
        }
    }

    fn ignored(&self, line: &Instruction, sources: &[Source], found: &mut Vec<Warning>) {
        let is_add = matches!(line.kind, InstructionKind::Add(_));
        for word in sources.iter().filter_map(Source::path) {
            let Ok(expansion) = self.expander.word(word, &self.scope) else {
                continue;
            };
            let path = expansion.value;
            if copied::is_ignored(self.facts.ignore, &path, is_add) {
                let message = format!("`{path}` cannot be copied: the ignore file leaves it out");
                found.push(Warning::new(Rule::CopyIgnoredFile, word.span, message));
            }
        }
    }

    fn mount(&self, mount: &MountFlag, found: &mut Vec<Warning>) {
        let asked = Asked::new(&self.scope);
        // What is wrong with it is told by whoever lowers it.
        drop(mount.resolve(self.expander, &asked));
        self.unset(&mount.word, &asked.unset(), found);
    }

    fn workdir(&mut self, path: &Word, found: &mut Vec<Warning>) {
        self.words([path], found);
        let first = !std::mem::replace(&mut self.workdir, true);
        let Ok(expansion) = self.expander.word(path, &self.scope) else {
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

    fn expose(&self, words: &[Word], found: &mut Vec<Warning>) {
        self.words(words, found);
        for word in words {
            let Ok(expansion) = self.expander.words(word, &self.scope) else {
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

    fn json(&self, line: &Instruction, command: &Command, found: &mut Vec<Warning>) {
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
fn only_last(before: &mut Option<Span>, line: &Instruction, found: &mut Vec<Warning>) {
    if let Some(place) = before.replace(line.keyword.span) {
        let name = line.kind.name();
        let message = format!("this {name} does nothing: a later one of the stage replaces it");
        let rule = Rule::MultipleInstructionsDisallowed;
        found.push(Warning::new(rule, place, message));
    }
}
