//! Copies files, resolved on the host without a VM.
//!
//! What is copied is read twice: once to know whether it was copied before, once to be written.

use std::io::Read as _;
use std::sync::Arc;

use firebuild_core::tree::{Content, Kind, Metadata, Node, Tree};
use firebuild_core::user;
use firebuild_oci::Sources;
use firebuild_plan::{Copy, Item, Step, Unpack, key};

use super::user_files;
use crate::cache::{Known, Outcome};
use crate::copy::{self, CopyError, Match};
use crate::current::{Below, Current};
use crate::error::StepError;
use crate::sources::Files;
use crate::stage::Layer;
use crate::{fingerprint, sources};

/// What is copied: the files that the operation's paths are in, and its here-documents.
struct Material {
    files: Arc<Files>,
    inline: Tree,
    /// Those of the files, and the here-documents' if there are any.
    sources: Option<Sources>,
}

impl Current<'_> {
    pub(super) async fn copy(&mut self, copy: &Copy, step: &Step) -> Result<Outcome, StepError> {
        if copy.parents || copy.mode.is_some() || !copy.exclude.is_empty() || copy.link {
            return Err(StepError::Unsupported("this flag of a copy"));
        }
        let remote = |item: &Item| matches!(item, Item::Http { .. } | Item::Git { .. });
        if copy.items.iter().any(remote) {
            return Err(StepError::Unsupported("a source from elsewhere"));
        }
        let files = self.source(&copy.from).await?;
        let (copy, chain) = (Arc::new(copy.clone()), self.state.chain);
        let hashed = Arc::clone(&copy);
        let hash = move |_: &mut Below| {
            let material = Material::new(&hashed, files)?;
            let sources = material.matches(&hashed)?;
            if hashed.unpack != Unpack::Never {
                refuse_archives(&sources, material.sources())?;
            }
            let content = fingerprint::of(&sources, material.sources());
            let content = content.map_err(StepError::Read)?;
            Ok((key::copy(&chain, &hashed, &content), material))
        };
        let (key, material) = self.work(hash).await?;
        let claim = match self.known(key).await? {
            Known::Yes(outcome) => return Ok(outcome),
            Known::No(claim) => claim,
        };
        let write = move |below: &mut Below| material.write(&copy, below);
        let layer = self.work(write).await?;
        Ok(self.keep(claim, layer, step).await?)
    }
}

impl Material {
    fn new(copy: &Copy, files: Arc<Files>) -> Result<Self, StepError> {
        let written = |item: &Item| matches!(item, Item::Inline { .. });
        let mut sources = copy
            .items
            .iter()
            .any(written)
            .then(|| files.sources.clone());
        let inline = match &mut sources {
            Some(sources) => inline(&copy.items, sources)?,
            None => Tree::default(),
        };
        Ok(Self {
            files,
            inline,
            sources,
        })
    }

    fn sources(&self) -> &Sources {
        self.sources.as_ref().unwrap_or(&self.files.sources)
    }

    fn matches(&self, copy: &Copy) -> Result<Vec<Match<'_>>, CopyError> {
        copied(copy, &self.files.tree, &self.inline)
    }

    fn write(&self, copy: &Copy, below: &mut Below) -> Result<Layer, StepError> {
        let lower = below.files()?;
        let owner = copy.owner.as_ref().map(|owner| {
            let (passwd, group) = user_files(lower);
            user::owner(owner, &passwd, &group)
        });
        let sources = self.matches(copy)?;
        let parts: Vec<_> = sources.iter().map(copy::Part::Match).collect();
        let request = copy::Request {
            parts: &parts,
            destination: copy.destination.as_bytes(),
            owner: owner.transpose()?,
            mode: None,
        };
        let upper = copy::copy(&lower.tree, &request)?;
        below.write(upper, self.sources())
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
                sources.extend(copy::matches(inline, name.as_bytes(), &all)?);
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
