//! What ADD does with an archive: its entries go into a directory, in their order.
//!
//! The destination is the root that the archive sees: links on the way are followed within it,
//! absolute ones from it, and one that leads out is an error. Directories that entries need and the
//! archive lacks are 0755 and root's, whatever `--chown` says; the destination's own metadata stays.

use firebuild_core::layer::{Item, LayerEntry};
use firebuild_core::tree::{Kind, Metadata, Node, Timestamp, shown};

use super::upper::{Found, Overlay, Place};
use super::{CopyError, place};

/// The mode of every symbolic link in Linux, whatever an archive says.
const SYMLINK_MODE: u16 = 0o777;

/// Lays entries into a directory.
pub(super) struct Unpacker<'o, 'a> {
    pub(super) overlay: &'o mut Overlay<'a>,
    /// The directory's path, without symbolic links.
    pub(super) root: Vec<Vec<u8>>,
    /// The number that the entries' source has where they are going.
    pub(super) source: u32,
    /// The owner of all entries; none keeps the archive's.
    pub(super) owner: Option<(u32, u32)>,
    /// The time of directories that the archive does not list.
    pub(super) mtime: Timestamp,
}

impl Unpacker<'_, '_> {
    /// Lays one entry.
    pub(super) fn entry(&mut self, entry: &LayerEntry) -> Result<(), CopyError> {
        if entry.path.is_empty() {
            return Ok(());
        }
        let metadata = self.metadata(entry);
        let kind = match &entry.item {
            Item::Directory => return self.directory(entry, &metadata),
            Item::HardLink(target) => return self.link(entry, target, metadata),
            Item::File(content) => {
                let mut content = content.clone();
                content.source = self.source;
                Kind::File(content)
            }
            Item::Symlink(target) => Kind::Symlink(target.clone()),
            Item::CharacterDevice(device) => Kind::CharacterDevice(*device),
            Item::BlockDevice(device) => Kind::BlockDevice(*device),
            Item::Fifo => Kind::Fifo,
            Item::Whiteout | Item::Opaque => return Ok(()),
        };
        let (parent, name) = self.place(&entry.path)?;
        self.overlay.put(parent, &name, Node { metadata, kind })?;
        Ok(())
    }

    fn metadata(&self, entry: &LayerEntry) -> Metadata {
        let mut metadata = entry.metadata.clone();
        if let Some((uid, gid)) = self.owner {
            (metadata.uid, metadata.gid) = (uid, gid);
        }
        if matches!(entry.item, Item::Symlink(_)) {
            metadata.mode = SYMLINK_MODE;
        }
        metadata
    }

    /// A directory takes the entry's metadata, also one that is there already.
    fn directory(&mut self, entry: &LayerEntry, metadata: &Metadata) -> Result<(), CopyError> {
        let parts = self.resolve(&entry.path, true)?;
        if parts.len() == self.root.len() {
            return Ok(());
        }
        let (parent, name) = self.parent(parts)?;
        let made = self.overlay.replace_by_directory(parent, &name, metadata)?;
        *self.overlay.metadata_mut(made.upper) = metadata.clone();
        Ok(())
    }

    /// The link's header speaks of the file that both names are of.
    fn link(
        &mut self,
        entry: &LayerEntry,
        target: &[u8],
        mut metadata: Metadata,
    ) -> Result<(), CopyError> {
        let missing = || CopyError::LinkToNothing {
            link: shown(&entry.path),
            target: shown(target),
        };
        let mut parts = self.resolve(target, false)?;
        let name = parts.pop().ok_or_else(missing)?;
        let parent = place::walk(self.overlay, &parts, &Metadata::default());
        let found = parent
            .ok()
            .and_then(|parent| self.overlay.child(parent, &name));
        let Some(Found::Upper(file, _)) = found else {
            return Err(missing());
        };
        let (parent, name) = self.place(&entry.path)?;
        self.overlay.link(parent, &name, file)?;
        let own = self.overlay.metadata_mut(file);
        metadata.xattrs = std::mem::take(&mut own.xattrs);
        *own = metadata;
        Ok(())
    }

    /// Where an entry that is no directory goes.
    fn place(&mut self, path: &[u8]) -> Result<(Place, Vec<u8>), CopyError> {
        let parts = self.resolve(path, false)?;
        self.parent(parts)
    }

    /// The directory above a path, made if it is not there, and the path's last part.
    fn parent(&mut self, mut parts: Vec<Vec<u8>>) -> Result<(Place, Vec<u8>), CopyError> {
        let name = parts.pop().unwrap_or_default();
        let implied = Metadata {
            mtime: self.mtime,
            ..Metadata::root_owned(0o755)
        };
        Ok((place::walk(self.overlay, &parts, &implied)?, name))
    }

    fn resolve(&self, path: &[u8], follow_last: bool) -> Result<Vec<Vec<u8>>, CopyError> {
        let resolved = self.overlay.resolve_in(&self.root, path, follow_last)?;
        if resolved.stopped {
            return Err(CopyError::LeadsOut(shown(path)));
        }
        Ok([resolved.existing, resolved.missing].concat())
    }
}
