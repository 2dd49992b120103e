//! ext4, written in one pass over the files' bytes; and read, whoever wrote it ([`read()`]).
//!
//! First an `Inventory` of the tree numbers inodes, counts links and blocks, and refuses what the
//! format cannot hold. Then a `Plan` finds the size and gives every block its purpose. Only then a
//! `Job` writes: directories, symbolic links and attributes, files, inodes, bitmaps, descriptors.
//! Nothing is written twice, and what stays zero is never written, so the image is sparse.
//!
//! Files' content may also come first, before the tree is known: [`Room`] hands out blocks in which
//! it can be written as it arrives, and [`finish`] makes the file system around it. Nothing else is
//! at a place that depends on how much there is of anything.
//!
//! # The format
//! Linux describes it in `Documentation/filesystems/ext4`; these are its sections, where they are
//! implemented, and what was chosen.
//!
//! | section | here | chosen |
//! |---|---|---|
//! | Super Block | `superblock` | blocks of 4 KiB, inodes of 256 bytes, no time but 0, errors go on |
//! | Layout, Flexible Block Groups | `geometry` | all groups' bitmaps and inode tables together, behind the data; copies of the superblock as `sparse_super` has them |
//! | Lazy Block Group Initialization | `group` | bitmaps of untouched groups are not written; inode tables are marked as zeroed, for holes are |
//! | Block and inode Bitmaps | `bitmap` | |
//! | Index Nodes | `inode` | in the order of the tree's names; change and access times are the modification's |
//! | The Contents of inode.i_block | `extent` | extents only; no inline data |
//! | Directory Entries, Hash Tree Directories | `directory`, `hash` | an index from two blocks on; half MD4, unsigned; leaves filled up |
//! | Extended Attributes | `xattr`, `acl` | all in the inode if they fit, else all in a block, shared by up to 1024 inodes |
//! | Large Extended Attribute Values | `xattr`, `tables` | the largest values, as many as it takes; the feature is set only then |
//! | Journal (jbd2) | `journal` | inside, empty, only if asked for |
//! | Checksums | `checksum` | everywhere (`metadata_csum`) |
//!
//! Some of it stands in Linux's source alone: an inode counts the blocks of its attribute block and
//! of all values in inodes of their own even if it shares them; an index entry's hash has bit 0 set
//! if the leaf before ends with the same hash, on both levels; a directory with more than 64,998
//! subdirectories has 1 link.
//!
//! There is no `lost+found`: a layer should have nothing that its makers did not put there, and
//! `e2fsck` makes one when it needs it. There are no reserved blocks for root and none for growth:
//! `resize2fs` grows without.
//!
//! A file whose time lies between 2310 and 2378 makes `e2fsck -n` say that the time is likely one
//! before 1970, because an old Linux wrote such times by mistake; it counts it as no error.
//!
//! File content is read and written, not cloned: an archive aligns it to 512 bytes, a file system
//! to 4096.

mod acl;
mod bitmap;
mod check;
mod checksum;
mod directory;
mod extent;
mod fields;
mod geometry;
mod group;
mod hash;
mod image;
mod inode;
mod inventory;
mod journal;
mod plan;
mod read;
mod record;
mod space;
mod superblock;
mod tables;
mod writer;
mod xattr;

use std::fs::File;

use firebuild_core::tree::Tree;
use firebuild_core::{ByteSize, Digest};

use crate::{ContentSource, Error, NoContent};
pub use check::{Damage, check, size_of};
pub use read::{ReadError, read};
pub use space::{Blocks, Room};

use image::Image;
use inventory::Inventory;
use plan::Plan;
use writer::{Identity, Job};

/// What a file system is to have beside a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whatever tells this file system from others, such as the digests of its layers: its UUID
    /// and the seed of its directories' hashes follow from it.
    pub identity: Vec<u8>,
    /// A name of up to 16 bytes; may be empty.
    pub label: String,
    /// The file system becomes at least as large, else as large as it must be.
    pub minimum_size: ByteSize,
    /// Space left for data at least.
    pub free_space: ByteSize,
    /// Inodes left at least, beside one for each 16 KiB of free space asked for.
    pub free_inodes: u32,
    /// The size of a journal, 4 MiB at least; of more than 1 GiB that much is used. A file system
    /// that is only read needs none.
    pub journal: Option<ByteSize>,
}

impl Default for Options {
    /// No label, no journal, no identity, and no larger than the tree needs.
    fn default() -> Self {
        Self {
            identity: Vec::new(),
            label: String::new(),
            minimum_size: ByteSize(0),
            free_space: ByteSize(0),
            free_inodes: 0,
            journal: None,
        }
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// The length of the image.
    pub size: ByteSize,
    /// Of it, what metadata and content take.
    pub used: ByteSize,
    /// How many inodes there are.
    pub inodes: u32,
    /// Of them, how many are in use, the ten reserved ones included.
    pub used_inodes: u32,
    /// The file system's UUID.
    pub uuid: [u8; 16],
}

/// Writes a file system that holds `tree` to `output`, whose former content is lost.
///
/// The same tree, content and options give the same bytes. `output` becomes sparse; it is not
/// synced. A directory's size, the times other than a file's modification, and inode numbers are
/// the file system's own; the other times are set to the modification's. Times outside of 1901 to
/// 2446 become the nearest that there is, as in Linux.
///
/// # Errors
/// Any of [`Error`]. If it is [`Error::Read`] or [`Error::Write`], `output` is left half-written,
/// otherwise as it was.
pub fn write(
    tree: &Tree,
    content: &(impl ContentSource + ?Sized),
    output: &File,
    options: &Options,
) -> Result<Summary, Error> {
    finish(tree, content, &Room::new(), output, options)
}

/// Writes a file system around content that is in `output` already, in blocks of `room`.
///
/// A source that is placed ([`ContentSource::placed`]) is where its blocks say: the segments of its
/// files begin at multiples of 4096 bytes in file and source, and what such a block has beyond its
/// segment must be zeros. What `room` handed out and no file of `tree` has becomes a hole.
///
/// Everything else is as in [`write`]; with a room of which nothing was taken it is the same.
///
/// # Errors
/// Those of [`write`]; [`Error::Segments`] for a segment that begins elsewhere or that its source
/// does not have; [`Error::PlacedTwice`].
pub fn finish(
    tree: &Tree,
    content: &(impl ContentSource + ?Sized),
    room: &Room,
    output: &File,
    options: &Options,
) -> Result<Summary, Error> {
    if options.label.len() > superblock::LONGEST_LABEL {
        let label = options.label.clone();
        return Err(Error::Label { label });
    }
    let identity = identify(options);
    let placed = |source| content.placed(source);
    let inventory = Inventory::of(tree, identity.hash_seed, &placed)?;
    let plan = Plan::new(&inventory, options, room.taken())?;
    let job = Job {
        inventory,
        plan,
        identity,
    };
    let blocks = job.plan.layout.geometry.blocks;
    let mut image = Image::new(output, room.end(), blocks).map_err(Error::Write)?;
    job.clear(room, &mut image).map_err(Error::Write)?;
    job.write_content(content, &mut image)?;
    job.write_tables(&mut image).map_err(Error::Write)
}

/// Writes a file system of `size` that is empty but for its root directory, for use as a writable
/// disk. Without a journal in `options` it gets one that suits its size.
///
/// Takes milliseconds and little space whatever the size, and Linux finds nothing left to set up
/// when it mounts it.
///
/// # Errors
/// [`Error::Label`], [`Error::TooLarge`], [`Error::SmallJournal`], [`Error::Write`].
pub fn write_empty(output: &File, size: ByteSize, options: &Options) -> Result<Summary, Error> {
    let options = Options {
        minimum_size: size.max(options.minimum_size),
        journal: options.journal.or_else(|| Some(journal::suitable(size))),
        ..options.clone()
    };
    write(&Tree::default(), &NoContent, output, &options)
}

/// The size of a journal that suits a file system of `size`: a 64th of it, between 4 MiB and 64 MiB.
#[must_use]
pub fn suitable_journal(size: ByteSize) -> ByteSize {
    journal::suitable(size)
}

/// The UUID (version 8) and the seed that follow from the options' identity.
fn identify(options: &Options) -> Identity<'_> {
    let digest = Digest::of(&[b"firebuild ext4\0", &options.identity[..]].concat());
    let (halves, _) = digest.bytes().as_chunks::<16>();
    let (mut uuid, mut seed) = (halves[0], hash::Seed::default());
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    for (word, bytes) in seed.iter_mut().zip(halves[1].as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    Identity {
        uuid,
        hash_seed: seed,
        label: options.label.as_bytes(),
    }
}
