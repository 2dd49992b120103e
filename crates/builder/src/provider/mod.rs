//! Storage providers: where root file systems and kernels are kept beside this host's store.
//!
//! VMs always run from the store, and builds always begin there; a provider is where more of both
//! comes from, and where what was built is put for others. It has to do no more than a store of objects
//! could: give an image or a kernel by its name, take an image, and tell what it has. There are two:
//! [`Own`], the store itself, and [`Directory`], in the original tool's layout. What a provider has is
//! hostile: whoever can write there may not be whoever runs firebuild.

mod adopt;
mod directory;
mod entrypoint;
mod error;
mod metadata;
mod own;
mod place;

use std::fmt;

use firebuild_core::{ByteSize, Digest, Reference};
use firebuild_store::{KernelId, Store};

pub use directory::{Directory, KERNEL_ROOT, ROOTFS_ROOT};
pub use error::ProviderError;
pub use metadata::{BuildConfig, Kind};
pub use own::Own;

/// Where images and kernels are kept.
pub trait Provider: fmt::Debug {
    /// Sees that the store has, under this name, what the provider has under it.
    ///
    /// # Errors
    /// What it has cannot be used, or cannot be had. The store is then as it was.
    fn bring_image(&self, store: &Store, name: &Reference) -> Result<Brought, ProviderError>;

    /// Sees that the store has the kernel that the provider has under this id, unless the store has one
    /// under it.
    ///
    /// # Errors
    /// As [`Provider::bring_image`].
    fn bring_kernel(&self, store: &Store, id: &KernelId) -> Result<Brought, ProviderError>;

    /// Keeps an image of the store, whole or not at all, in place of another of that name.
    ///
    /// # Errors
    /// Why it cannot be kept. The provider then has what it had.
    fn keep_image(&self, store: &Store, image: &Keep<'_>) -> Result<Kept, ProviderError>;

    /// The images that there are, in an order that stays; for each that cannot be used, why.
    ///
    /// # Errors
    /// The list itself cannot be had.
    fn images(&self, store: &Store) -> Result<Vec<Result<Listed, ProviderError>>, ProviderError>;
}

/// What came of asking for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brought {
    /// The provider has none.
    Nothing,
    /// The store had it already.
    Known,
    /// It was taken into the store.
    Taken,
}

/// An image that is to be kept, and what is told of it.
#[derive(Debug, Clone)]
pub struct Keep<'a> {
    /// Its name, in the store and with the provider.
    pub name: &'a Reference,
    /// What it is for.
    pub kind: Kind,
    /// How it was made.
    pub made: BuildConfig,
    /// The image that it was made from.
    pub parent: Option<&'a Reference>,
    /// Where it is kept as a file system, that is at least so large.
    pub size: ByteSize,
}

/// Where something is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In the store, where it was.
    Already,
    /// There, for people.
    At(String),
}

/// An image of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: Reference,
    /// The digest that it has in a store that it comes from, if that is known.
    pub digest: Option<Digest>,
    /// When it was made, in the form of RFC 3339.
    pub created: Option<String>,
    /// What it takes, in bytes.
    pub size: u64,
}
