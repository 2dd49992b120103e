//! Copies files, resolved on the host without a VM.
//!
//! What is copied is read twice: once to know whether it was copied before, once to be written.
//! That holds up the thread that the build runs on, and with it the answers to a build VM that runs
//! at the time. Its agent waits for them for half a minute and more, which is gigabytes; a build
//! with longer copies after a RUN should be given a runtime with a second thread.

use std::collections::btree_map::Entry;
use std::io::Read as _;

use firebuild_core::tree::{Content, Kind, Metadata, Node, Tree};
use firebuild_core::user;
use firebuild_oci::Sources;
use firebuild_plan::{Copy, Item, Source, Step, Unpack, key};

use super::{user_files, write};
use crate::cache::Outcome;
use crate::copy::{self, CopyError, Match};
use crate::error::{Error, StepError};
use crate::execute::{Current, Execution};
use crate::sources::Files;
use crate::{context, fingerprint, image, sources};

impl<'a> Execution<'a> {
    pub(super) fn copy(
        &mut self,
        current: &mut Current<'a>,
        copy: &Copy,
        step: &Step,
    ) -> Result<Outcome, StepError> {
        let (cache, lease) = (self.cache, self.lease.clone());
        if copy.parents || copy.mode.is_some() || !copy.exclude.is_empty() || copy.link {
            return Err(StepError::Unsupported("this flag of a copy"));
        }
        let remote = |item: &Item| matches!(item, Item::Http { .. } | Item::Git { .. });
        if copy.items.iter().any(remote) {
            return Err(StepError::Unsupported("a source from elsewhere"));
        }
        let from = self.load(&copy.from)?;
        let inline = inline(&copy.items, &mut from.sources)?;
        let sources = copied(copy, &from.tree, &inline)?;
        if copy.unpack != Unpack::Never {
            refuse_archives(&sources, &from.sources)?;
        }
        let content = fingerprint::of(&sources, &from.sources).map_err(StepError::Read)?;
        let key = key::copy(&current.state.chain, copy, &content);
        if let Some(outcome) = cache.get(&key)? {
            return Ok(outcome);
        }
        let lower = current.state.files(cache.store)?;
        let owner = copy.owner.as_ref().map(|owner| {
            let (passwd, group) = user_files(lower);
            user::owner(owner, &passwd, &group)
        });
        let parts: Vec<_> = sources.iter().map(copy::Part::Match).collect();
        let request = copy::Request {
            parts: &parts,
            destination: copy.destination.as_bytes(),
            owner: owner.transpose()?,
            mode: None,
        };
        let upper = copy::copy(&lower.tree, &request)?;
        let layer = write(&lease, upper, &from.sources)?;
        Ok(cache.put(&key, layer, step)?)
    }

    /// What is copied from, loaded if it was not.
    fn load(&mut self, from: &Source) -> Result<&mut Files, Error> {
        match from {
            Source::Context => {
                if self.context.is_none() {
                    self.context = Some(context::scan(self.request.context, self.request.ignore)?);
                }
                Ok(self.context.get_or_insert_default())
            }
            Source::Stage(index) => {
                let stage = &mut self.stages[*index];
                stage.files(self.cache.store)?;
                Ok(stage.loaded_files())
            }
            Source::Image(reference) => {
                let state = match self.images.entry(reference.clone()) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => {
                        entry.insert(image::state(self.cache.store, reference)?)
                    }
                };
                state.files(self.cache.store)?;
                Ok(state.loaded_files())
            }
            Source::Named(_) | Source::Empty => Err(Error::Unsupported("a named context")),
        }
    }
}

/// The texts of a copy's here-documents, as files of a tree of their own; their bytes are added to
/// the sources of what else is copied.
fn inline(items: &[Item], sources: &mut Sources) -> Result<Tree, StepError> {
    let mut tree = Tree::default();
    for item in items {
        let Item::Inline { name, content } = item else {
            continue;
        };
        let number = sources.add_file(sources::text(content).map_err(StepError::Read)?);
        let kind = Kind::File(Content::whole(number, 0, content.len() as u64));
        let root = tree.root();
        tree.insert(
            root,
            name.as_bytes(),
            Node {
                metadata: Metadata::root_owned(0o644),
                kind,
            },
        )?;
    }
    Ok(tree)
}

/// What a copy's words name.
fn copied<'t>(copy: &Copy, from: &'t Tree, inline: &'t Tree) -> Result<Vec<Match<'t>>, CopyError> {
    let mut sources = Vec::new();
    let all = copy::Exclude::default();
    for item in &copy.items {
        match item {
            Item::Path(path) => sources.extend(copy::matches(from, path.as_bytes(), &all)?),
            Item::Inline { name, .. } => {
                sources.extend(copy::matches(inline, name.as_bytes(), &all)?)
            }
            Item::Http { .. } | Item::Git { .. } => {}
        }
    }
    Ok(sources)
}

/// ADD unpacks archives, by their content; until it can, it says so.
fn refuse_archives(sources: &[Match<'_>], contents: &Sources) -> Result<(), StepError> {
    for source in sources {
        let Kind::File(content) = &source.tree.node(source.node).kind else {
            continue;
        };
        let mut head = Vec::new();
        contents
            .open(content)
            .and_then(|reader| reader.take(512).read_to_end(&mut head))
            .map_err(StepError::Read)?;
        let magic: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
        if magic.iter().any(|magic| head.starts_with(magic)) || head.get(257..262) == Some(b"ustar")
        {
            return Err(StepError::Archive(
                String::from_utf8_lossy(&source.name).into_owned(),
            ));
        }
    }
    Ok(())
}
