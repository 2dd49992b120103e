//! `HEALTHCHECK`.

use std::ops::Range;
use std::time::Duration;

use super::scope::Scope;
use crate::duration::{ParseDurationError, parse_interval};
use crate::error::{ErrorKind, ParseError};
use crate::flags::Flags;
use crate::{Command, Healthcheck, HealthcheckCommand, Word};

impl Scope<'_> {
    pub(super) fn healthcheck(
        &self,
        mut flags: Flags,
        rest: Range<usize>,
    ) -> Result<Healthcheck, ParseError> {
        let interval = flags.take_value("interval")?;
        let timeout = flags.take_value("timeout")?;
        let start_period = flags.take_value("start-period")?;
        let start_interval = flags.take_value("start-interval")?;
        let retries = flags.take_value("retries")?;
        flags.finish()?;
        self.some("HEALTHCHECK", &rest, "CMD or NONE")?;
        let Some(command) = self.health_command(rest)? else {
            return Ok(Healthcheck::None);
        };
        Ok(Healthcheck::Cmd(HealthcheckCommand {
            command,
            interval: time("interval", interval)?,
            timeout: time("timeout", timeout)?,
            start_period: time("start-period", start_period)?,
            start_interval: time("start-interval", start_interval)?,
            retries: count(retries)?,
        }))
    }

    /// What stands behind `CMD`; nothing for `NONE`.
    fn health_command(&self, rest: Range<usize>) -> Result<Option<Command>, ParseError> {
        let text = self.line.get(rest.clone());
        let length = text.find(char::is_whitespace).unwrap_or(text.len());
        let word = rest.start..rest.start + length;
        let rest = self.line.trim(word.end..rest.end);
        let error =
            |kind, range, expected: &str| Err(self.line.error(kind, range).expecting(expected));
        match text[..length].to_ascii_uppercase().as_str() {
            "NONE" if rest.is_empty() => Ok(None),
            "NONE" => error(ErrorKind::HealthcheckNone, rest, "nothing more"),
            "CMD" => match self.command(rest.clone())? {
                Command::Shell(text) if text.is_empty() => {
                    error(ErrorKind::HealthcheckCommand, rest, "a command")
                }
                Command::Exec(list) if list.is_empty() => {
                    error(ErrorKind::HealthcheckCommand, rest, "a command")
                }
                command => Ok(Some(command)),
            },
            _ => {
                let kind = ErrorKind::HealthcheckType {
                    word: self.line.get(word.clone()).chars().take(100).collect(),
                };
                error(kind, word, "CMD or NONE")
            }
        }
    }
}

fn time(flag: &'static str, value: Option<Word>) -> Result<Duration, ParseError> {
    let Some(value) = value else {
        return Ok(Duration::ZERO);
    };
    parse_interval(&value.text).map_err(|reason: ParseDurationError| {
        ParseError::new(ErrorKind::Duration { flag, reason }, value.span)
            .expecting("a time such as `30s` or `1m30s`")
    })
}

fn count(value: Option<Word>) -> Result<u32, ParseError> {
    let Some(value) = value else {
        return Ok(0);
    };
    match value.text.parse::<i32>() {
        Ok(count) if count >= 0 => Ok(count.unsigned_abs()),
        _ => {
            let kind = ErrorKind::FlagValue {
                flag: "retries",
                value: value.text,
            };
            Err(ParseError::new(kind, value.span).expecting("a number from 0 on"))
        }
    }
}
