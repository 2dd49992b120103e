//! `FROM`, `EXPOSE`, `VOLUME` and the instructions whose rest is one value.

use std::ops::Range;

use super::scope::Scope;
use crate::error::{ErrorKind, ParseError};
use crate::flags::Flags;
use crate::json::{self, Array};
use crate::split::blanks;
use crate::{Expose, FromImage, Maintainer, StopSignal, User, Volume, Word, Workdir};

impl Scope<'_> {
    pub(super) fn from(
        &self,
        mut flags: Flags,
        rest: Range<usize>,
    ) -> Result<FromImage, ParseError> {
        let platform = flags.take_value("platform")?;
        flags.finish()?;
        let words = blanks(&self.line, rest.clone());
        let (image, name) = match words.as_slice() {
            [image] => (image, None),
            [image, word, name] if self.line.get(word.clone()).eq_ignore_ascii_case("as") => {
                (image, Some(self.stage_name(name.clone())?))
            }
            _ => {
                let wrong = words.get(1).cloned().unwrap_or(rest);
                return Err(self
                    .line
                    .error(ErrorKind::FromArguments, wrong)
                    .expecting("FROM IMAGE, or FROM IMAGE AS NAME"));
            }
        };
        let description = name.as_ref().and_then(|name| self.description(&name.text));
        Ok(FromImage {
            image: self.line.word(image.clone()),
            name,
            platform,
            description,
        })
    }

    fn stage_name(&self, range: Range<usize>) -> Result<Word, ParseError> {
        let mut word = self.line.word(range.clone());
        word.text = word.text.to_lowercase();
        let mut bytes = word.text.bytes();
        let valid = bytes.next().is_some_and(|first| first.is_ascii_lowercase())
            && bytes.all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte)
            });
        if valid {
            return Ok(word);
        }
        let name = self.line.get(range.clone()).to_owned();
        Err(self
            .line
            .error(ErrorKind::StageName { name }, range)
            .expecting("a letter, then letters, digits, `-`, `_` or `.`"))
    }

    pub(super) fn expose(&self, flags: Flags, rest: Range<usize>) -> Result<Expose, ParseError> {
        flags.finish()?;
        self.some("EXPOSE", &rest, "a port such as `80` or `53/udp`")?;
        let ports = blanks(&self.line, rest);
        Ok(Expose {
            ports: ports
                .into_iter()
                .map(|range| self.line.word(range))
                .collect(),
        })
    }

    pub(super) fn volume(&self, flags: Flags, rest: Range<usize>) -> Result<Volume, ParseError> {
        flags.finish()?;
        let (paths, json) = self.list(rest.clone())?;
        if paths.is_empty() {
            self.some("VOLUME", &(rest.start..rest.start), "a path")?;
        }
        let mut volume = Volume {
            paths: Vec::new(),
            json,
        };
        for mut path in paths {
            let trimmed = path.text.trim();
            if trimmed.is_empty() {
                return Err(ParseError::new(ErrorKind::EmptyVolume, path.span));
            }
            path.text = trimmed.to_owned();
            volume.paths.push(path);
        }
        Ok(volume)
    }

    pub(super) fn maintainer(
        &self,
        flags: Flags,
        rest: Range<usize>,
    ) -> Result<Maintainer, ParseError> {
        let author = self.one("MAINTAINER", flags, rest, "a name")?;
        Ok(Maintainer { author })
    }

    pub(super) fn user(&self, flags: Flags, rest: Range<usize>) -> Result<User, ParseError> {
        let user = self.one("USER", flags, rest, "USER[:GROUP] or UID[:GID]")?;
        Ok(User { user })
    }

    pub(super) fn workdir(&self, flags: Flags, rest: Range<usize>) -> Result<Workdir, ParseError> {
        let path = self.one("WORKDIR", flags, rest, "a path")?;
        Ok(Workdir { path })
    }

    pub(super) fn stop_signal(
        &self,
        flags: Flags,
        rest: Range<usize>,
    ) -> Result<StopSignal, ParseError> {
        let signal = self.one("STOPSIGNAL", flags, rest, "a signal's name or number")?;
        Ok(StopSignal { signal })
    }

    /// The whole rest as one value.
    fn one(
        &self,
        instruction: &'static str,
        flags: Flags,
        rest: Range<usize>,
        expected: &str,
    ) -> Result<Word, ParseError> {
        flags.finish()?;
        if rest.is_empty() {
            let kind = ErrorKind::OneArgument { instruction };
            return Err(self.line.error(kind, rest).expecting(expected));
        }
        Ok(self.line.word(rest))
    }

    /// Refuses an instruction without anything behind it.
    pub(super) fn some(
        &self,
        instruction: &'static str,
        rest: &Range<usize>,
        expected: &str,
    ) -> Result<(), ParseError> {
        if !rest.is_empty() {
            return Ok(());
        }
        let kind = ErrorKind::NoArguments { instruction };
        Err(self.line.error(kind, rest.clone()).expecting(expected))
    }

    /// A list in JSON form, or else split at blanks; says which.
    pub(super) fn list(&self, rest: Range<usize>) -> Result<(Vec<Word>, bool), ParseError> {
        match json::array(self.line.get(rest.clone())) {
            Array::Strings(strings) => {
                let words = strings.into_iter().map(|(text, range)| Word {
                    text,
                    span: self
                        .line
                        .span(rest.start + range.start..rest.start + range.end),
                });
                Ok((words.collect(), true))
            }
            Array::Other(range) => Err(self.not_a_string(&rest, &range)),
            Array::Malformed => {
                let words = blanks(&self.line, rest).into_iter();
                Ok((words.map(|range| self.line.word(range)).collect(), false))
            }
        }
    }

    /// The error about an element of a JSON array that is no string.
    pub(super) fn not_a_string(&self, rest: &Range<usize>, element: &Range<usize>) -> ParseError {
        let range = rest.start + element.start..rest.start + element.end;
        self.line
            .error(ErrorKind::JsonElement, range)
            .expecting("a string in double quotes")
    }
}
