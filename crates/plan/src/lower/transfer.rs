//! COPY and ADD, to what is copied from where.

use firebuild_core::Digest;
use firebuild_dockerfile::{
    self as dockerfile, AddFiles, CopyFiles, Instruction, TransferOptions, Word,
    chmod::ModeChange,
    source::{GitSource, SourceKind},
};

use super::stage::Lowering;
use super::{LowerError, LowerErrorKind, history, path};
use crate::operation::{Copy, Item, Operation, Source, Unpack};

/// A COPY or ADD with what its flags say.
struct Transfer<'a> {
    from: Source,
    items: Vec<Item>,
    destination: &'a Word,
    options: &'a TransferOptions,
    parents: bool,
    unpack: Unpack,
}

impl Lowering<'_> {
    pub(super) fn copy(
        &mut self,
        instruction: &Instruction,
        copy: &CopyFiles,
    ) -> Result<(), LowerError> {
        let from = match &copy.from {
            None => Source::Context,
            Some(from) => self.stages.copy_source(from, self.index)?,
        };
        let mut items = Vec::new();
        for source in &copy.sources {
            items.push(match source {
                dockerfile::Source::Heredoc(heredoc) => self.inline(heredoc)?,
                dockerfile::Source::Path(word) => {
                    let text = self.expand(word)?;
                    refuse_remote(&text, word)?;
                    Item::Path(text)
                }
            });
        }
        self.transfer(
            instruction,
            Transfer {
                from,
                items,
                destination: &copy.destination,
                options: &copy.options,
                parents: copy.parents,
                unpack: Unpack::Never,
            },
        )
    }

    pub(super) fn add(
        &mut self,
        instruction: &Instruction,
        add: &AddFiles,
    ) -> Result<(), LowerError> {
        let checksum = match &add.checksum {
            Some(word) => Some((word, self.expand(word)?)),
            None => None,
        };
        if let Some((word, _)) = &checksum
            && add.sources.len() != 1
        {
            return Err(wrong(word, "a checksum goes with one source only"));
        }
        let checksum = checksum.as_ref().map(|(word, text)| (*word, text.as_str()));
        let mut items = Vec::new();
        for source in &add.sources {
            items.push(match source {
                dockerfile::Source::Heredoc(heredoc) => self.inline(heredoc)?,
                dockerfile::Source::Path(word) => self.added(word, add, checksum)?,
            });
        }
        let unpack = match add.unpack {
            None => Unpack::Local,
            Some(true) => Unpack::Always,
            Some(false) => Unpack::Never,
        };
        self.transfer(
            instruction,
            Transfer {
                from: Source::Context,
                items,
                destination: &add.destination,
                options: &add.options,
                parents: false,
                unpack,
            },
        )
    }

    fn added(
        &self,
        word: &Word,
        add: &AddFiles,
        checksum: Option<(&Word, &str)>,
    ) -> Result<Item, LowerError> {
        let written = self.expand(word)?;
        let kind = dockerfile::source::classify(&written)
            .map_err(|error| LowerError::value(word.span, &error))?;
        match kind {
            SourceKind::Local { path } => match checksum {
                Some((flag, _)) => Err(wrong(
                    flag,
                    "only a download or a repository has a checksum",
                )),
                None => Ok(Item::Path(path)),
            },
            SourceKind::Http { url, file_name } => {
                let parse = |(flag, text): (&Word, &str)| {
                    text.parse::<Digest>()
                        .map_err(|error| LowerError::value(flag.span, &error))
                };
                Ok(Item::Http {
                    url,
                    file_name,
                    checksum: checksum.map(parse).transpose()?,
                })
            }
            SourceKind::Git(source) => {
                let source = repository(source, word, add, checksum)?;
                Ok(Item::Git { source, written })
            }
        }
    }

    fn transfer(
        &mut self,
        instruction: &Instruction,
        transfer: Transfer<'_>,
    ) -> Result<(), LowerError> {
        let options = transfer.options;
        let mut items = transfer.items;
        // As BuildKit does, whatever the order in which they are written.
        items.sort_by_key(|item| matches!(item, Item::Inline { .. }));
        let owner = self.flag_value(options.chown.as_ref())?;
        let mode = self.flag_value(options.chmod.as_ref())?;
        let change = match (&mode, &options.chmod) {
            (Some(mode), Some(word)) => Some(
                ModeChange::parse(mode).map_err(|error| LowerError::value(word.span, &error))?,
            ),
            _ => None,
        };
        let written = self.expand(transfer.destination)?;
        let copy = Copy {
            from: transfer.from,
            items,
            destination: path::destination(self.workdir_in_force(), &written),
            owner: owner.filter(|owner| !owner.is_empty()),
            // BuildKit makes no independent layer of a copy that changes modes.
            link: options.link && change.is_none(),
            mode: change,
            exclude: options
                .exclude
                .iter()
                .map(|word| word.text.clone())
                .collect(),
            parents: transfer.parents,
            unpack: transfer.unpack,
        };
        let name = instruction.kind.name();
        let history = history::copy(name, &copy, mode.as_deref(), &written);
        self.step(instruction, history, Operation::Copy(copy));
        Ok(())
    }

    fn flag_value(&self, word: Option<&Word>) -> Result<Option<String>, LowerError> {
        let value = word.map(|word| self.expand(word)).transpose()?;
        Ok(value.filter(|value| !value.is_empty()))
    }

    fn inline(&self, heredoc: &dockerfile::Heredoc) -> Result<Item, LowerError> {
        let content = self.expander.heredoc(heredoc, self.scope())?.value;
        Ok(Item::Inline {
            name: heredoc.name.clone(),
            content,
        })
    }
}

/// A repository with what ADD's flags say of it.
fn repository(
    mut source: GitSource,
    word: &Word,
    add: &AddFiles,
    checksum: Option<(&Word, &str)>,
) -> Result<GitSource, LowerError> {
    if let Some(flag) = add.keep_git_dir {
        if source.keep_git_dir.is_some_and(|query| query != flag) {
            return Err(wrong(
                word,
                "the address and `--keep-git-dir` contradict each other",
            ));
        }
        source.keep_git_dir = Some(flag);
    }
    if let Some((flag, checksum)) = checksum {
        if source
            .checksum
            .as_deref()
            .is_some_and(|query| query != checksum)
        {
            return Err(wrong(
                flag,
                "the address and `--checksum` contradict each other",
            ));
        }
        source.checksum = Some(checksum.to_owned());
    }
    Ok(source)
}

/// COPY takes neither downloads nor repositories.
fn refuse_remote(text: &str, word: &Word) -> Result<(), LowerError> {
    match dockerfile::source::classify(text) {
        Ok(SourceKind::Local { .. }) => Ok(()),
        Ok(SourceKind::Http { .. }) => {
            Err(wrong(word, "the source of COPY can't be a URL; use ADD"))
        }
        Ok(SourceKind::Git(_)) | Err(_) => Err(wrong(
            word,
            "the source of COPY can't be a repository; use ADD",
        )),
    }
}

fn wrong(word: &Word, what: &str) -> LowerError {
    LowerError::new(word.span, LowerErrorKind::Value(what.to_owned()))
}
