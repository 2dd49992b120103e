//! All state on disk: images, build cache, root file systems, kernels, machine records.
//!
//! The store knows where things are and when it is safe to touch them, and nothing of how any of
//! them is made. Everything lies in one directory on one file system:
//!
//! ```text
//! ROOT/v1/                     the format's version; another version is another directory
//!   images/                    an OCI image layout, readable by other tools
//!     oci-layout  index.json   tags are `org.opencontainers.image.ref.name` annotations
//!     blobs/sha256/HEX
//!   cache/HEX.json             build cache: key -> layer; the file's mtime is its last use
//!   contexts/HEX               digests of a build context's files, by the context's path
//!   compressed/HEX            what layers are compressed, by diff id and way
//!   copied/HEX                 digests of what was copied from layers, by their chain
//!   downloads/HEX.json         what was fetched: key -> blob; the mtime as above
//!   layers/HEX.json           layers that came compressed, by diff id; HEX.headers: what they hold
//!   cache-mounts/HEX-N.img     disk N of a cache mount, by its id's digest; HEX-N.json tells the id
//!   volumes/NAME.img           volumes; NAME.json tells their size
//!   partial/HEX                downloads that broke off, by the digest that the blob will have
//!   rootfs/HEX.img             finished root file system images, by key; HEX.json: several that are one
//!   kernels/ID/                a kernel and what belongs to it
//!   machines/ID/               identity.json, record.json, lock, and what the machine has
//!   events/events.log          what happened to machines, a line each; the one before it: .old
//!   locks/NAME                 empty files to lock
//!   reserve                    space for removing a name on a full disk
//!   tmp/NAME                   files and directories being made, each locked by its maker
//! ```
//!
//! What must hold:
//!
//! * A file appears whole or not at all: it is written in `tmp`, synced, renamed, and its
//!   directory is synced.
//! * Whatever in `tmp` is not locked has lost its maker and is removed by the next
//!   [`Store::open`].
//! * A file that others change is changed under its lock and read without one.
//! * A blob is safe from [`Store::collect`] while a [`Lease`] is held or something refers to it.
//! * Only the owner of the store can look into it: who else needs a file is given it open.
//! * Locks are `flock` locks: they end with the process that holds them, however it ends.

mod blob;
mod cache;
mod cache_disk;
mod collect;
mod downloads;
mod error;
mod events;
mod kernel;
mod layers;
pub mod layout;
mod lock;
mod machine;
mod partial;
mod prune;
mod records;
mod remembered;
mod rootfs;
mod tags;
mod temporary;
mod turn;
mod usage;
mod volume;

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use blob::{Blob, BlobWriter, Lease, StagedBlob};
pub use cache::{Cache, CacheEntry, CacheRecord};
pub use cache_disk::{CacheDisk, CacheDiskEntry, CacheDisks, MOST_DISKS};
pub use collect::{Collected, Removal, Unneeded};
pub use downloads::{DownloadEntry, DownloadRecord, Downloads};
pub use error::{Error, Result};
pub use events::{EventReader, Events};
pub use kernel::{KernelId, Kernels, ParseKernelIdError};
pub use layers::{LayerRecord, Layers, PlacedLayer};
pub use lock::Lock;
pub use machine::{Identity, MachineLock, Machines};
pub use partial::Partial;
pub use prune::{PrunePolicy, Pruned};
pub use remembered::Remembered;
pub use tags::{Tagged, Tags};
pub use temporary::{TemporaryDirectory, TemporaryFile};
pub use usage::{Category, Usage, Used};
pub use volume::{OpenVolume, ParseVolumeNameError, VolumeEntry, VolumeName, VolumeUsage, Volumes};

use error::Doing;
use lock::Mode;

/// The format that this version reads and writes.
const FORMAT: u32 = 1;

/// A store. Clones are cheap and mean the same store; any number of processes and threads may use
/// one at once.
#[derive(Debug, Clone)]
pub struct Store {
    root: Arc<Path>,
}

/// Held by who decides whether one more machine may start. See [`Store::admission`].
#[derive(Debug)]
pub struct AdmissionLock(#[expect(dead_code, reason = "held for as long as it lives")] Lock);

impl Store {
    /// Opens the store in `root`, makes it if it is not there, and removes what processes that
    /// were killed left half-made.
    ///
    /// # Errors
    /// [`Error::Format`] if `root` holds a store of a newer firebuild; otherwise [`Error::Io`] and
    /// [`Error::NoSpace`].
    pub fn open(root: &Path) -> Result<Self> {
        let doing = || format!("open the store `{}`", root.display());
        directory(root)?;
        let root = fs_err::canonicalize(root).doing(doing)?;
        check_format(&root)?;
        let root = root.join(format!("v{FORMAT}"));
        for path in [
            "locks",
            "tmp",
            "images/blobs/sha256",
            "cache",
            "downloads",
            "contexts",
            "copied",
            "compressed",
            layers::DIRECTORY,
            "rootfs",
            cache_disk::DIRECTORY,
            volume::DIRECTORY,
            "kernels",
            "machines",
            events::DIRECTORY,
            partial::DIRECTORY,
        ] {
            directory(&root.join(path))?;
        }
        let store = Self { root: root.into() };
        store.init_layout()?;
        store.sweep()?;
        store.fill_reserve();
        Ok(store)
    }

    /// The store's own directory: the root that was given, and the format's version.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The directory that is an OCI image layout.
    #[must_use]
    pub fn layout_path(&self) -> PathBuf {
        self.root.join("images")
    }

    /// The images' names.
    #[must_use]
    pub fn tags(&self) -> Tags<'_> {
        Tags::new(self)
    }

    /// The build cache.
    #[must_use]
    pub fn cache(&self) -> Cache<'_> {
        Cache::new(self)
    }

    /// The disks of cache mounts.
    #[must_use]
    pub fn cache_disks(&self) -> CacheDisks<'_> {
        CacheDisks::new(self)
    }

    /// The volumes.
    #[must_use]
    pub fn volumes(&self) -> Volumes<'_> {
        Volumes::new(self)
    }

    /// The kernels.
    #[must_use]
    pub fn kernels(&self) -> Kernels<'_> {
        Kernels::new(self)
    }

    /// The records of machines.
    #[must_use]
    pub fn machines(&self) -> Machines<'_> {
        Machines::new(self)
    }

    /// Waits until nobody else is deciding whether one more machine may start.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn admission(&self) -> Result<AdmissionLock> {
        self.lock("admission", lock::Mode::Exclusive)
            .map(AdmissionLock)
    }

    /// The log of what happened to machines.
    #[must_use]
    pub fn events(&self) -> Events<'_> {
        Events::new(self)
    }

    /// How many bytes can still be written to the store's file system.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn free_space(&self) -> Result<u64> {
        error::free_space(&self.root)
            .doing(|| format!("measure the file system of `{}`", self.root.display()))
    }

    /// Waits for one of the store's locks.
    fn lock(&self, name: &str, mode: Mode) -> Result<Lock> {
        Lock::wait(&self.root.join("locks").join(name), mode)
    }

    /// Takes one of the store's locks if nobody holds it.
    fn try_lock(&self, name: &str, mode: Mode) -> Result<Option<Lock>> {
        Lock::try_take(&self.root.join("locks").join(name), mode)
    }

    fn init_layout(&self) -> Result<()> {
        let marker = self.layout_path().join("oci-layout");
        let doing = || format!("make the image layout `{}`", self.layout_path().display());
        if marker.try_exists().doing(doing)? {
            return Ok(());
        }
        let _lock = self.lock("index", Mode::Exclusive)?;
        if marker.try_exists().doing(doing)? {
            return Ok(());
        }
        let empty = layout::Index::default();
        self.write_json(&self.layout_path().join("index.json"), &empty)?;
        self.write_bytes(&marker, layout::LAYOUT_MARKER.as_bytes())
    }
}

/// Images hold other people's secrets, so only the owner looks into the store, whatever the umask.
fn directory(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .writing(path, || format!("make the directory `{}`", path.display()))
}

/// Refuses a root that a newer firebuild has taken over.
fn check_format(root: &Path) -> Result<()> {
    let doing = || format!("read the directory `{}`", root.display());
    for entry in fs_err::read_dir(root).doing(doing)? {
        let name = entry.doing(doing)?.file_name();
        let version = name.to_str().and_then(|name| name.strip_prefix('v'));
        let version: Option<u32> = version.and_then(|version| version.parse().ok());
        if let Some(found) = version.filter(|version| *version > FORMAT) {
            return Err(Error::Format {
                root: root.to_owned(),
                found,
            });
        }
    }
    Ok(())
}
