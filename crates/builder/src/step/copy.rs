//! Copies files, resolved on the host without a VM.
//!
//! What is copied is read twice at most: to know whether it was copied before, unless its digest is
//! known from an earlier build, and to be written. What changes between is refused.

use std::io;
use std::sync::Arc;

use firebuild_core::tree::{Content, Kind, Timestamp};
use firebuild_core::{Digest, user};
use firebuild_oci::Sources;
use firebuild_plan::{Copy, Item, Step, Unpack, key};
use firebuild_store::Store;

use super::apart::{self, Apart, Fetched};
use super::user_files;
use crate::archive::{self, Archive};
use crate::cache::{Known, Outcome};
use crate::copied::Copied;
use crate::copy::{self, CopyError, Exclude, Match, Part};
use crate::current::{Below, Current};
use crate::error::StepError;
use crate::fingerprint;
use crate::sources::Files;
use crate::stage::Layer;

/// What is copied: the files that the operation's paths are in, and what is in no tree of files:
/// here-documents, downloads, repositories.
struct Material {
    files: Arc<Files>,
    /// In the order of the operation's items that are not paths.
    apart: Vec<Apart>,
    /// Those of the files, and of what is apart if there is any.
    sources: Option<Sources>,
    /// The digests of the archives and downloads that all of this comes from; none if some of it
    /// does not.
    archives: Option<Vec<Digest>>,
    exclude: Exclude,
}

/// One thing that is found, and whether it is unpacked if it is an archive.
struct Source<'a> {
    found: Match<'a>,
    unpack: bool,
}

/// The archives among what is copied, by the position of their source.
type Archives = Vec<Option<(Archive, u32)>>;

impl Current<'_> {
    pub(crate) async fn copy(&mut self, copy: &Copy, step: &Step) -> Result<Outcome, StepError> {
        let chain = self.state.chain;
        let copy = Arc::new(Copy {
            // A mode makes it an ordinary copy, as in BuildKit.
            link: copy.link && copy.mode.is_none(),
            ..copy.clone()
        });
        let layers = self.layers(&copy.from).await?;
        let copied = layers.and_then(|layers| Copied::from_layers(&layers, &copy));
        let known = copied.and_then(|copied| copied.content(self.store()));
        let (content, material) = match known {
            Some(content) => (content, None),
            None => {
                let material = self.material(&copy).await?;
                let copy = Arc::clone(&copy);
                let hash = move |below: &mut Below| {
                    let archives = material.archives.as_deref();
                    let of_archives = |archives| Copied::from_archives(archives, &copy);
                    let copied = copied.or_else(|| archives.and_then(of_archives));
                    let known = copied.and_then(|copied| copied.content(below.lease.store()));
                    if let Some(content) = known {
                        return Ok((content, Some(material)));
                    }
                    let content = material.fingerprint(&copy)?;
                    if let Some(copied) = copied {
                        copied.remember(below.lease.store(), content);
                    }
                    Ok((content, Some(material)))
                };
                self.work(hash).await?
            }
        };
        let key = key::copy(&chain, &copy, &content);
        let claim = match self.known(key).await? {
            Known::Yes(outcome) => return Ok(outcome),
            Known::No(claim) => claim,
        };
        let material = match material {
            Some(material) => material,
            None => self.material(&copy).await?,
        };
        let write = move |below: &mut Below| material.write(&copy, below);
        let layer = self.work(write).await?;
        Ok(self.keep(claim, layer, step).await?)
    }

    async fn material(&mut self, copy: &Arc<Copy>) -> Result<Material, StepError> {
        let paths: Vec<&str> = copy.items.iter().filter_map(Item::path).collect();
        let files = match paths[..] {
            [] => Arc::default(),
            _ => self.source(&copy.from, &paths).await?,
        };
        let fetched = (self.fetch(&copy.items).await?, self.undated());
        let copy = Arc::clone(copy);
        let load =
            move |below: &mut Below| Material::new(below.lease.store(), &copy, files, fetched);
        self.work(load).await
    }
}

impl Material {
    fn new(
        store: &Store,
        copy: &Copy,
        files: Arc<Files>,
        fetched: (Vec<Fetched>, Timestamp),
    ) -> Result<Self, StepError> {
        let mut material = Self {
            archives: archives_of(copy, &files, &fetched.0),
            files,
            apart: Vec::new(),
            sources: None,
            exclude: Exclude::parse(&copy.exclude)?,
        };
        if copy.items.iter().any(|item| item.path().is_none()) {
            let mut sources = material.files.sources.clone();
            material.apart = apart::load(store, &copy.items, fetched, &mut sources)?;
            material.sources = Some(sources);
        }
        Ok(material)
    }

    fn sources(&self) -> &Sources {
        self.sources.as_ref().unwrap_or(&self.files.sources)
    }

    /// What the copy's words name.
    fn found(&self, copy: &Copy) -> Result<Vec<Source<'_>>, StepError> {
        let mut sources = Vec::new();
        let mut apart = self.apart.iter();
        for (number, item) in copy.items.iter().enumerate() {
            let unpack = match item {
                Item::Path(_) => copy.unpack != Unpack::Never && !copy.parents,
                Item::Http { .. } => copy.unpack == Unpack::Always,
                Item::Inline { .. } | Item::Git { .. } => false,
            };
            let found = match item.path() {
                Some(path) => self.path(copy, path),
                None => apart
                    .next()
                    .map_or_else(|| Ok(Vec::new()), |apart| apart.found(&self.exclude)),
            };
            let found = found.map_err(|error| self.missing(item, number, error))?;
            let source = |found| Source { found, unpack };
            sources.extend(found.into_iter().map(source));
        }
        Ok(sources)
    }

    fn path(&self, copy: &Copy, path: &str) -> Result<Vec<Match<'_>>, CopyError> {
        let (tree, path) = (&self.files.tree, path.as_bytes());
        match copy.parents {
            true => copy::matches_with_parents(tree, path, &self.exclude),
            false => copy::matches(tree, path, &self.exclude),
        }
    }

    /// Says which source is not there, and whether it only is not seen.
    fn missing(&self, item: &Item, number: usize, error: CopyError) -> StepError {
        let digests = self.files.digests.as_ref();
        let ignored = match (item, &error, digests) {
            (Item::Path(path), CopyError::NotFound { .. }, Some(digests)) => digests.exists(path),
            _ => false,
        };
        StepError::Source {
            item: number,
            ignored,
            error,
        }
    }

    fn fingerprint(&self, copy: &Copy) -> Result<Digest, StepError> {
        let sources = self.found(copy)?;
        let unpacked: Vec<bool> = sources.iter().map(|source| source.unpack).collect();
        let found: Vec<Match<'_>> = sources.into_iter().map(|source| source.found).collect();
        let content = fingerprint::of(&found, self.sources()).map_err(StepError::Read)?;
        Ok(Digest::of(format!("{content} {unpacked:?}").as_bytes()))
    }

    fn write(&self, copy: &Copy, below: &mut Below) -> Result<Layer, StepError> {
        let found = self.found(copy)?;
        let mut sources = self.sources().clone();
        let archives = archives(&found, below.lease.store(), &mut sources)?;
        let nothing = Files::default();
        let lower = match copy.link {
            true => &nothing,
            false => below.files()?,
        };
        let parts: Vec<Part<'_>> = found
            .iter()
            .zip(&archives)
            .map(|(source, archive)| part(source, archive.as_ref()))
            .collect();
        let request = copy::Request {
            parts: &parts,
            destination: copy.destination.as_bytes(),
            owner: owner(copy, lower)?,
            mode: copy.mode.as_ref(),
        };
        let upper = copy::copy(&lower.tree, &request)?;
        below.write(upper, &sources)
    }
}

/// The archives and downloads that a copy takes everything from.
fn archives_of(copy: &Copy, files: &Files, fetched: &[Fetched]) -> Option<Vec<Digest>> {
    let mut all = Vec::new();
    if copy.items.iter().any(|item| item.path().is_some()) {
        all.push(files.archive?);
    }
    all.extend(fetched.iter().map(|fetched| match fetched {
        Fetched::File(download) => download.blob.digest,
        Fetched::Repository(checkout) => checkout.archive.digest,
    }));
    (!all.is_empty()).then_some(all)
}

fn part<'a>(source: &'a Source<'_>, archive: Option<&'a (Archive, u32)>) -> Part<'a> {
    match archive {
        Some((archive, number)) => Part::Archive {
            entries: &archive.entries,
            source: *number,
            mtime: source.found.tree.node(source.found.node).metadata.mtime,
        },
        None => Part::Match(&source.found),
    }
}

/// Reads the archives among what is copied; their bytes are added to the sources.
fn archives(
    found: &[Source<'_>],
    store: &Store,
    sources: &mut Sources,
) -> Result<Archives, StepError> {
    let mut archives = Vec::new();
    for source in found {
        let node = source.found.tree.node(source.found.node);
        let opened = match &node.kind {
            Kind::File(content) if source.unpack => open(store, content, sources, &source.found)?,
            _ => None,
        };
        archives.push(opened.map(|archive| {
            let file = archive.file.try_clone();
            file.map(|file| (archive, sources.add_file(file)))
        }));
    }
    let archives = archives.into_iter().map(Option::transpose);
    archives.collect::<io::Result<_>>().map_err(StepError::Read)
}

fn open(
    store: &Store,
    content: &Content,
    sources: &Sources,
    found: &Match<'_>,
) -> Result<Option<Archive>, StepError> {
    let mut reader = sources.open(content).map_err(StepError::Read)?;
    let opened = archive::open(store, &mut reader, &archive::Limits::default());
    let archive = opened.map_err(|source| StepError::Archive {
        name: String::from_utf8_lossy(&found.name).into_owned(),
        source,
    })?;
    // A file that changed meanwhile is found out at its end.
    io::copy(&mut reader, &mut io::sink()).map_err(StepError::Read)?;
    Ok(archive)
}

/// Who `--chown` names. What is copied without looking at what is below knows no names.
fn owner(copy: &Copy, lower: &Files) -> Result<Option<(u32, u32)>, StepError> {
    let Some(owner) = &copy.owner else {
        return Ok(None);
    };
    let (passwd, group) = user_files(lower);
    match user::owner(owner, &passwd, &group) {
        Ok(owner) => Ok(Some(owner)),
        Err(_) if copy.link => Err(CopyError::LinkedOwner(owner.clone()).into()),
        Err(error) => Err(error.into()),
    }
}
