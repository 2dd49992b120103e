//! `RUN`, `CMD`, `ENTRYPOINT`, `SHELL`: commands in shell form or as a JSON array.

use std::ops::Range;

use super::scope::Scope;
use crate::directive::go_bool;
use crate::error::{ErrorKind, ParseError};
use crate::flags::Flags;
use crate::json::{self, Array};
use crate::mount::{MountFlag, csv_fields};
use crate::{Command, CommandLine, DeviceRequest, Network, Run, Security, Shell, Word};

impl Scope<'_> {
    /// Shell form, or the JSON array of exec form.
    pub(super) fn command(&self, rest: Range<usize>) -> Result<Command, ParseError> {
        match json::array(self.line.get(rest.clone())) {
            Array::Strings(strings) => Ok(Command::Exec(
                strings.into_iter().map(|(text, _)| text).collect(),
            )),
            Array::Other(range) => Err(self.not_a_string(&rest, &range)),
            Array::Malformed => Ok(Command::Shell(self.line.get(rest).to_owned())),
        }
    }

    pub(super) fn command_line(
        &self,
        instruction: &'static str,
        flags: Flags,
        rest: Range<usize>,
    ) -> Result<CommandLine, ParseError> {
        flags.finish()?;
        self.some(instruction, &rest, "a command")?;
        let command = self.command(rest)?;
        Ok(CommandLine { command })
    }

    pub(super) fn shell(&self, flags: Flags, rest: Range<usize>) -> Result<Shell, ParseError> {
        flags.finish()?;
        let expected = r#"SHELL ["PROGRAM", "ARGUMENT"]"#;
        self.some("SHELL", &rest, expected)?;
        match self.command(rest.clone())? {
            Command::Exec(shell) if shell.is_empty() => {
                let kind = ErrorKind::NoArguments {
                    instruction: "SHELL",
                };
                Err(self.line.error(kind, rest).expecting(expected))
            }
            Command::Exec(shell) => Ok(Shell { shell }),
            Command::Shell(_) => Err(self
                .line
                .error(ErrorKind::ShellForm, rest)
                .expecting(expected)),
        }
    }

    pub(super) fn run(&mut self, mut flags: Flags, rest: Range<usize>) -> Result<Run, ParseError> {
        let mounts = flags.take_list("mount")?;
        let network = flags.take_value("network")?;
        let security = flags.take_value("security")?;
        let devices = flags.take_list("device")?;
        let flags = flags.finish()?;
        self.some("RUN", &rest, "a command")?;
        let mounts = mounts.into_iter().map(|word| {
            MountFlag::parse(word, self.escape)
                .map_err(|error| ParseError::new(ErrorKind::Mount(error.kind), error.span))
        });
        Ok(Run {
            mounts: mounts.collect::<Result<_, _>>()?,
            network: network.map(self::network).transpose()?,
            security: security.map(self::security).transpose()?,
            devices: devices.into_iter().map(device).collect::<Result<_, _>>()?,
            flags,
            command: self.command(rest)?,
            heredocs: std::mem::take(&mut self.heredocs),
        })
    }
}

fn network(word: Word) -> Result<Network, ParseError> {
    match word.text.as_str() {
        "default" => Ok(Network::Default),
        "none" => Ok(Network::None),
        "host" => Ok(Network::Host),
        _ => Err(value("network", word, "`default`, `none` or `host`")),
    }
}

fn security(word: Word) -> Result<Security, ParseError> {
    match word.text.as_str() {
        "sandbox" => Ok(Security::Sandbox),
        "insecure" => Ok(Security::Insecure),
        _ => Err(value("security", word, "`sandbox` or `insecure`")),
    }
}

fn device(word: Word) -> Result<DeviceRequest, ParseError> {
    let expected = "NAME[,required]";
    let mut name = None;
    let mut required = false;
    for range in csv_fields(&word.text).unwrap_or_default() {
        let (field, range) = range;
        match field.split_once('=') {
            None if field.eq_ignore_ascii_case("required") => required = true,
            Some((key, text)) if key.eq_ignore_ascii_case("required") => match go_bool(text) {
                Some(value) => required = value,
                None => return Err(value("device", word, expected)),
            },
            split if name.is_none() => {
                let text = match split {
                    Some((key, text)) if key.eq_ignore_ascii_case("name") => text,
                    _ => field.as_str(),
                };
                name = Some(Word {
                    text: text.to_owned(),
                    span: word.sub_span(range),
                });
            }
            _ => return Err(value("device", word, expected)),
        }
    }
    match name.filter(|name| !name.text.is_empty()) {
        Some(name) => Ok(DeviceRequest { name, required }),
        None => Err(value("device", word, expected)),
    }
}

fn value(flag: &'static str, word: Word, expected: &str) -> ParseError {
    let kind = ErrorKind::FlagValue {
        flag,
        value: word.text,
    };
    ParseError::new(kind, word.span).expecting(expected)
}
