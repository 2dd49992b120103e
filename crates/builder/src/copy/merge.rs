//! Where copied files go: into a directory or to a path, over what is there.

use std::collections::BTreeMap;

use firebuild_core::layer::LayerEntry;
use firebuild_core::tree::{Kind, Metadata, Node, NodeId, Timestamp, Tree, TreeError, shown};
use firebuild_plan::ModeChange;

use super::unpack::Unpacker;
use super::upper::{Overlay, Place};
use super::{CopyError, Match, Part, Request, place};

/// The mode of directories that a copy makes and no source has.
const MADE_MODE: u16 = 0o755;

pub(super) struct Copier<'a> {
    request: &'a Request<'a>,
    overlay: Overlay<'a>,
    /// The paths of files that sources were copied to by name.
    named: Vec<Vec<u8>>,
}

/// A directory's contents on their way.
struct Merge<'a> {
    from: &'a Match<'a>,
    /// Where the entry in hand goes, for errors.
    path: Vec<u8>,
    /// What was copied under a first name already.
    links: BTreeMap<NodeId, NodeId>,
}

impl<'a> Copier<'a> {
    pub(super) fn new(lower: &'a Tree, request: &'a Request<'a>) -> Self {
        Self {
            request,
            overlay: Overlay::new(lower),
            named: Vec::new(),
        }
    }

    pub(super) fn into_upper(self) -> Tree {
        self.overlay.into_upper()
    }

    pub(super) fn part(&mut self, part: &Part<'a>) -> Result<(), CopyError> {
        match part {
            Part::Match(source) => {
                let node = source.tree.node(source.node);
                let made = self.made(node.metadata.mtime, self.request.mode);
                if node.is_directory() {
                    self.directory(source, &made)
                } else {
                    self.file(source, &made)
                }
            }
            Part::Archive {
                entries,
                source,
                mtime,
            } => self.archive(entries, *source, *mtime),
        }
    }

    /// The metadata of directories that are made on the way and no source has. They take an octal
    /// mode as far as `mkdir` does, and no symbolic one. They take a source's time, so that the
    /// same sources make the same layer.
    fn made(&self, mtime: Timestamp, mode: Option<&ModeChange>) -> Metadata {
        let mode = match mode {
            Some(ModeChange::Octal(mode)) => mode & 0o777,
            Some(ModeChange::Symbolic(_)) | None => MADE_MODE,
        };
        let mut made = Metadata {
            mtime,
            ..Metadata::root_owned(mode)
        };
        if let Some((uid, gid)) = self.request.owner {
            (made.uid, made.gid) = (uid, gid);
        }
        made
    }

    fn archive(
        &mut self,
        entries: &[LayerEntry],
        source: u32,
        mtime: Timestamp,
    ) -> Result<(), CopyError> {
        let made = self.made(mtime, None);
        let root = place::real_directory(&mut self.overlay, self.request.destination, &made)?;
        let mut unpacker = Unpacker {
            overlay: &mut self.overlay,
            root,
            source,
            owner: self.request.owner,
            mtime,
        };
        entries.iter().try_for_each(|entry| unpacker.entry(entry))
    }

    /// The directory's contents go into the destination.
    fn directory(&mut self, source: &'a Match<'a>, made: &Metadata) -> Result<(), CopyError> {
        let destination = self.request.destination;
        let place =
            place::directory(&mut self.overlay, destination, made).map_err(
                |error| match error {
                    TreeError::NotDirectory(_) => CopyError::ToNonDirectory(shown(destination)),
                    other => CopyError::Tree(other),
                },
            )?;
        let mut merge = Merge {
            from: source,
            path: destination.to_vec(),
            links: BTreeMap::new(),
        };
        self.contents(source.node, place, &mut merge)
    }

    /// Copies what is in `source` into `place`. Recursion is as deep as the source tree is.
    fn contents(
        &mut self,
        source: NodeId,
        place: Place,
        merge: &mut Merge<'a>,
    ) -> Result<(), CopyError> {
        let from = merge.from;
        for (name, id) in from.tree.entries(source) {
            let length = merge.path.len();
            if merge.path.last() != Some(&b'/') {
                merge.path.push(b'/');
            }
            merge.path.extend_from_slice(name.as_bytes());
            self.nested(id, place, name.as_bytes(), merge)?;
            merge.path.truncate(length);
        }
        Ok(())
    }

    fn nested(
        &mut self,
        id: NodeId,
        place: Place,
        name: &[u8],
        merge: &mut Merge<'a>,
    ) -> Result<(), CopyError> {
        let node = merge.from.tree.node(id);
        let existing = self
            .overlay
            .child(place, name)
            .map(|found| self.overlay.node(found).is_directory());
        match (node.is_directory(), existing) {
            (true, Some(false)) => Err(CopyError::ToNonDirectory(shown(&merge.path))),
            (true, existing) => {
                let metadata = self.changed(node);
                let below = self.overlay.directory(place, name, &metadata)?;
                if merge.from.implied.contains(&id) && existing.is_some() {
                    // It is not copied itself, and only its bits are taken over.
                    self.overlay.metadata_mut(below.upper).mode = node.metadata.mode;
                } else {
                    *self.overlay.metadata_mut(below.upper) = metadata;
                }
                self.contents(id, below, merge)
            }
            (false, Some(true)) => Err(CopyError::OverDirectory(shown(&merge.path))),
            (false, _) => match merge.links.get(&id) {
                Some(first) => Ok(self.overlay.link(place, name, *first)?),
                None => {
                    let copied = self.put(node, place, name)?;
                    merge.links.extend(copied.map(|copied| (id, copied)));
                    Ok(())
                }
            },
        }
    }

    /// Copies one node that is no directory. A socket is nothing without its process, and no layer
    /// can hold one.
    fn put(&mut self, node: &Node, place: Place, name: &[u8]) -> Result<Option<NodeId>, CopyError> {
        if matches!(node.kind, Kind::Socket) {
            return Ok(None);
        }
        let copied = Node {
            metadata: self.changed(node),
            kind: node.kind.clone(),
        };
        Ok(Some(self.overlay.put(place, name, copied)?))
    }

    /// One file that the instruction named: into a directory under its own name, or to a path.
    fn file(&mut self, source: &Match<'a>, made: &Metadata) -> Result<(), CopyError> {
        let destination = self.request.destination;
        let resolved = self.overlay.resolve(destination)?;
        let into = place::names_directory(destination)
            || (resolved.missing.is_empty() && resolved.is_directory);
        let (parent, name, path) = if into {
            let parent = place::directory(&mut self.overlay, destination, made)?;
            let path = [destination, b"/", &source.name].concat();
            (parent, source.name.clone(), path)
        } else {
            let (parent, name) = place::parent(&mut self.overlay, &resolved, made)?;
            let path = [resolved.existing, resolved.missing].concat().join(&b'/');
            if self.named.contains(&path) {
                return Err(CopyError::Overwrites(shown(destination)));
            }
            self.named.push(path);
            (parent, name, destination.to_vec())
        };
        let occupied = self
            .overlay
            .child(parent, &name)
            .is_some_and(|found| self.overlay.node(found).is_directory());
        if occupied {
            return Err(CopyError::OverDirectory(shown(&path)));
        }
        let node = source.tree.node(source.node);
        self.put(node, parent, &name).map(|_| ())
    }

    /// The metadata that a copied node gets.
    fn changed(&self, node: &Node) -> Metadata {
        let mut metadata = node.metadata.clone();
        if let Some((uid, gid)) = self.request.owner {
            (metadata.uid, metadata.gid) = (uid, gid);
        }
        if let Some(mode) = self.request.mode
            && !matches!(node.kind, Kind::Symlink(_))
        {
            metadata.mode = mode.apply(metadata.mode, node.is_directory());
        }
        metadata
    }
}
