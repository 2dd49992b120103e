//! Instructions that change only the configuration.

use std::collections::HashSet;

use firebuild_dockerfile::{
    self as dockerfile, Arguments, Assignments, Healthcheck, HealthcheckCommand, Instruction,
    Onbuild, Word,
};
use serde_json::json;

use super::stage::Lowering;
use super::{LowerError, LowerErrorKind, history, path};
use crate::Change;
use crate::operation::{Directory, Operation};

/// How many ports a stage may declare, counted as they are written: every one of each protocol
/// once. A short line can declare 65536.
const MOST_PORTS: usize = 3 << 16;

impl Lowering<'_> {
    pub(super) fn arg(
        &mut self,
        instruction: &Instruction,
        arguments: &Arguments,
    ) -> Result<(), LowerError> {
        let mut texts = Vec::new();
        for argument in &arguments.arguments {
            // A default that nobody needs may be wrong.
            let default = argument.value.as_ref();
            let default = default
                .filter(|_| !self.scope().is_given(&argument.name.text))
                .map(|value| self.expand(value))
                .transpose()?;
            let value = self.scope_mut().declare(&argument.name.text, default);
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

    pub(super) fn env(
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

    pub(super) fn label(
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

    pub(super) fn workdir(
        &mut self,
        instruction: &Instruction,
        path: &Word,
    ) -> Result<(), LowerError> {
        let expanded = self.expand(path)?;
        let path = path::absolute(self.workdir_in_force(), &expanded);
        let changes = vec![Change::WorkingDirectory { path: path.clone() }];
        let user = self.config().config.user.clone();
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

    pub(super) fn expose(
        &mut self,
        instruction: &Instruction,
        words: &[Word],
    ) -> Result<(), LowerError> {
        let (mut ports, mut seen) = (Vec::new(), HashSet::new());
        // BuildKit sorts the words as they are written, which the history shows.
        let mut words: Vec<&Word> = words.iter().collect();
        words.sort_by(|one, other| one.text.cmp(&other.text));
        for word in words {
            for text in self.expander.words(word, self.scope())?.value {
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

    pub(super) fn volume(
        &mut self,
        instruction: &Instruction,
        words: &[Word],
    ) -> Result<(), LowerError> {
        let mut paths = Vec::new();
        for word in words {
            let path = self.expand(word)?;
            if path.is_empty() {
                let kind = LowerErrorKind::Value("a volume's path is empty".to_owned());
                return Err(LowerError::new(word.span, kind));
            }
            paths.push(path);
        }
        let history = format!("VOLUME [{}]", paths.join(" "));
        let changes = paths
            .into_iter()
            .map(|path| Change::Volume { path })
            .collect();
        self.configure(instruction, history, changes);
        Ok(())
    }

    pub(super) fn stop_signal(
        &mut self,
        instruction: &Instruction,
        word: &Word,
    ) -> Result<(), LowerError> {
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

    pub(super) fn health(&mut self, instruction: &Instruction, health: &Healthcheck) {
        let check = match health {
            Healthcheck::None => json!({ "Test": ["NONE"] }),
            Healthcheck::Cmd(command) => self.check(command),
        };
        let history = history::health(&check);
        self.configure(instruction, history, vec![Change::Healthcheck { check }]);
    }

    /// `Healthcheck` of Docker's image configuration; what is not set is inherited, and left out.
    fn check(&self, command: &HealthcheckCommand) -> serde_json::Value {
        let test = match &command.command {
            dockerfile::Command::Exec(arguments) => std::iter::once("CMD")
                .chain(arguments.iter().map(String::as_str))
                .collect(),
            dockerfile::Command::Shell(text) => vec!["CMD-SHELL", text],
        };
        let mut check = json!({ "Test": test });
        let times = [
            ("Interval", command.interval),
            ("Timeout", command.timeout),
            ("StartPeriod", command.start_period),
            ("StartInterval", command.start_interval),
        ];
        for (name, time) in times.iter().filter(|(_, time)| !time.is_zero()) {
            check[name] = json!(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        }
        if command.retries > 0 {
            check["Retries"] = json!(command.retries);
        }
        check
    }

    pub(super) fn on_build(&mut self, instruction: &Instruction, onbuild: &Onbuild) {
        let change = Change::OnBuild {
            trigger: onbuild.expression.clone(),
        };
        self.configure(instruction, None, vec![change]);
    }

    pub(super) fn maintainer(&mut self, instruction: &Instruction, author: &Word) {
        let author = author.text.clone();
        let history = format!("MAINTAINER {author}");
        self.configure(instruction, history, vec![Change::Author { author }]);
    }
}

fn joined(pairs: &[(String, String)]) -> String {
    pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join(" ")
}
