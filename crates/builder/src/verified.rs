//! Root file systems that VMs verify as they read them: an image's, with a dm-verity tree behind it.
//!
//! Such a file is the one that `image export --type ext4 --verity` writes for an image where no size is
//! given, to the byte, so it has the root hash that was printed there. It stands alone, while those of
//! other VMs may be shared in pieces. The store has it under a key of its own, which is the salt of its
//! tree: so a file tells whether it is the one that its name promises.

use std::fs::File;
use std::io;

use firebuild_core::{ByteSize, Digest, Reference};
use firebuild_disk::ext4;
use firebuild_disk::verity::{self, Verity};
use firebuild_oci::Image;
use firebuild_protocol::boot::RootVerity;
use firebuild_store::Store;

use crate::rootfs::{self, RootFs};
use crate::{Error, image};

/// A root file system, and what a guest has to know of it beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The file.
    pub root: RootFs,
    /// What the guest is told.
    pub verity: RootVerity,
}

/// The root file system of an image of the store with its tree, made if it is not there. It has to have
/// this root hash.
///
/// The file's data are not read: the guest does that, with every block that it needs.
///
/// # Errors
/// [`Error::RootHash`], [`Error::RootDamaged`], [`Error::NoImage`], [`Error::RootFs`], and those of the
/// store.
pub fn of_image(store: &Store, reference: &Reference, wanted: &Digest) -> Result<Verified, Error> {
    let image = image::load(store, reference)?;
    let key = key_of(image.diff_ids());
    store.rootfs(&key, |output| make(store, &image, output))?;
    let path = store.rootfs_path(&key);
    let file = fs_err::File::open(&path).map_err(Error::Verity)?;
    let damaged = || Error::RootDamaged {
        reference: Box::new(reference.clone()),
    };
    let tree = tree_of(file.file(), &key).map_err(Error::Verity)?;
    let tree = tree.ok_or_else(damaged)?;
    if tree.root_hash != *wanted {
        // One that was changed has another root hash, too, but that is another thing to say.
        return Err(match verity::check(file.file(), &tree) {
            Ok(None) => Error::RootHash {
                reference: Box::new(reference.clone()),
                found: tree.root_hash.hex(),
                wanted: wanted.hex(),
            },
            _ => damaged(),
        });
    }
    Ok(Verified {
        root: RootFs { images: vec![key] },
        verity: RootVerity {
            root_hash: tree.root_hash,
            salt: key,
            data_blocks: tree.data_blocks,
        },
    })
}

fn make(store: &Store, image: &Image, output: &File) -> Result<(), Error> {
    let written = rootfs::export(store, image, ByteSize(0), output)?;
    rootfs::protect(image, written.size, output)?;
    Ok(())
}

/// The name in the store of the root file system of these layers with its tree.
pub(crate) fn key_of(diff_ids: &[Digest]) -> Digest {
    verity::salt_of(rootfs::key_of(diff_ids).bytes())
}

/// The tree of a root file system of this name. None if it has none, or not the one that it should have.
pub(crate) fn tree_of(file: &File, key: &Digest) -> io::Result<Option<Verity>> {
    let Some(size) = ext4::size_of(file)? else {
        return Ok(None);
    };
    let tree = verity::read(file, size)?;
    Ok(tree.filter(|tree| tree.salt == *key.bytes()))
}
