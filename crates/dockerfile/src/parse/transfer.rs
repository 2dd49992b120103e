//! `COPY` and `ADD`.

use std::ops::Range;

use super::scope::Scope;
use crate::chmod::ModeChange;
use crate::error::{ErrorKind, ParseError};
use crate::flags::Flags;
use crate::{AddFiles, CopyFiles, Source, TransferOptions, Word};

/// The paths of `COPY` or `ADD`.
struct Paths {
    sources: Vec<Source>,
    destination: Word,
    json: bool,
}

impl Scope<'_> {
    pub(super) fn copy(
        &mut self,
        mut flags: Flags,
        rest: Range<usize>,
    ) -> Result<CopyFiles, ParseError> {
        let from = flags.take_value("from")?;
        let parents = flags.take_bool("parents")?.unwrap_or(false);
        let options = options(flags)?;
        if let Some(from) = from.as_ref().filter(|from| names_variable(&from.text)) {
            let kind = ErrorKind::VariableInFlag { flag: "from" };
            return Err(
                ParseError::new(kind, from.span).expecting("a stage, a context or an image")
            );
        }
        let paths = self.paths("COPY", rest)?;
        Ok(CopyFiles {
            sources: paths.sources,
            destination: paths.destination,
            from,
            options,
            parents,
            json: paths.json,
        })
    }

    pub(super) fn add(
        &mut self,
        mut flags: Flags,
        rest: Range<usize>,
    ) -> Result<AddFiles, ParseError> {
        let checksum = flags.take_value("checksum")?;
        let keep_git_dir = flags.take_bool("keep-git-dir")?;
        let unpack = flags.take_bool("unpack")?;
        let options = options(flags)?;
        let paths = self.paths("ADD", rest)?;
        Ok(AddFiles {
            sources: paths.sources,
            destination: paths.destination,
            options,
            checksum,
            keep_git_dir,
            unpack,
            json: paths.json,
        })
    }

    fn paths(
        &mut self,
        instruction: &'static str,
        rest: Range<usize>,
    ) -> Result<Paths, ParseError> {
        let (mut words, json) = self.list(rest.clone())?;
        let destination = words.pop().filter(|_| !words.is_empty());
        let Some(destination) = destination else {
            let kind = ErrorKind::NoDestination { instruction };
            return Err(self.line.error(kind, rest).expecting("SOURCE… DESTINATION"));
        };
        // In the order of the words that open them.
        let mut heredocs = std::mem::take(&mut self.heredocs).into_iter().peekable();
        let mut sources = Vec::new();
        for word in words {
            sources.push(match heredocs.next_if(|heredoc| heredoc.token == word) {
                Some(heredoc) => Source::Heredoc(heredoc),
                None => Source::Path(word),
            });
        }
        let Some(heredoc) = heredocs.next() else {
            return Ok(Paths {
                sources,
                destination,
                json,
            });
        };
        if heredoc.token == destination {
            let kind = ErrorKind::HeredocDestination { instruction };
            return Err(ParseError::new(kind, destination.span).expecting("a path"));
        }
        let name = heredoc.name;
        let kind = ErrorKind::HeredocNotSource { instruction, name };
        Err(ParseError::new(kind, heredoc.token.span).expecting("`<<NAME` among the sources"))
    }
}

/// The flags that both have; none may be left after these.
fn options(mut flags: Flags) -> Result<TransferOptions, ParseError> {
    let options = TransferOptions {
        chown: flags.take_value("chown")?,
        chmod: flags.take_value("chmod")?,
        link: flags.take_bool("link")?.unwrap_or(false),
        exclude: flags.take_list("exclude")?,
        flags: Vec::new(),
    };
    // What has variables in it is checked once they are known.
    if let Some(chmod) = options.chmod.as_ref().filter(|word| is_plain(&word.text)) {
        ModeChange::parse(&chmod.text).map_err(|error| {
            ParseError::new(ErrorKind::Chmod(error), chmod.span)
                .expecting("octal from 0 to 7777, or symbolic such as `u=rwX,go=rX`")
        })?;
    }
    Ok(TransferOptions {
        flags: flags.finish()?,
        ..options
    })
}

/// A dollar sign with something behind it.
pub(crate) fn names_variable(text: &str) -> bool {
    text.find('$').is_some_and(|at| at + 1 < text.len())
}

/// Nothing that expansion would change.
fn is_plain(text: &str) -> bool {
    !text.contains(['$', '\'', '"', '\\', '`'])
}
