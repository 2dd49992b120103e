//! Names of images: the entries of the layout's `index.json`.
//!
//! An entry's `org.opencontainers.image.ref.name` is the whole normalised reference. An entry
//! without one is an image that was made without a name; it is kept until it is removed.

use std::path::PathBuf;

use firebuild_core::{Digest, Reference};

use crate::error::{Doing, Error, Result};
use crate::layout::{Descriptor, Index, REF_NAME, SOURCE};
use crate::lock::Mode;
use crate::{Lease, Store};

/// The images' names. See [`Store::tags`].
#[derive(Debug)]
pub struct Tags<'a> {
    store: &'a Store,
}

/// A manifest and the name it has.
#[derive(Debug, Clone, PartialEq)]
pub struct Tagged {
    /// The name; none for an image that was made without one.
    pub reference: Option<Reference>,
    /// The manifest.
    pub descriptor: Descriptor,
}

impl Tagged {
    /// Whether it has a name, even one that is no reference.
    #[must_use]
    pub fn is_named(&self) -> bool {
        name_of(&self.descriptor).is_some()
    }
}

impl<'a> Tags<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// All images, in the order in which they were first named.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn list(&self) -> Result<Vec<Tagged>> {
        let entries = self.read()?.manifests.into_iter();
        Ok(entries
            .map(|descriptor| Tagged {
                reference: reference_of(&descriptor),
                descriptor,
            })
            .collect())
    }

    /// The manifest that a reference names. One with a digest names the manifest of that digest,
    /// whatever its tags.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn get(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        let entries = self.read()?.manifests;
        let found = match reference.digest() {
            Some(digest) => entries.into_iter().find(|entry| is_known_by(entry, digest)),
            None => {
                let name = reference.to_string();
                let named = |entry: &Descriptor| name_of(entry) == Some(&name);
                entries.into_iter().find(named)
            }
        };
        Ok(found)
    }

    /// Names a manifest, which must be in the store; another that had the name loses it.
    ///
    /// # Errors
    /// [`Error::NoBlob`]; [`Error::WrongDigest`] if the reference has another digest;
    /// [`Error::Io`], [`Error::Damaged`], [`Error::NoSpace`].
    pub fn set(&self, reference: &Reference, mut descriptor: Descriptor) -> Result<()> {
        let digest = descriptor.digest;
        let known = |wanted| is_known_by(&descriptor, wanted);
        if reference.digest().is_some_and(|wanted| !known(wanted)) {
            return Err(Error::WrongDigest {
                reference: Box::new(reference.clone()),
                digest,
            });
        }
        let _lease = self.check(&digest)?;
        let name = reference.to_string();
        descriptor
            .annotations
            .insert(REF_NAME.to_owned(), name.clone());
        self.change(|index| {
            let entries = &mut index.manifests;
            entries.retain(|old| name_of(old).is_some() || old.digest != digest);
            match entries.iter_mut().find(|old| name_of(old) == Some(&name)) {
                Some(old) => *old = descriptor,
                None => entries.push(descriptor),
            }
        })
    }

    /// Keeps a manifest that has no name.
    ///
    /// # Errors
    /// As [`Tags::set`].
    pub fn keep(&self, mut descriptor: Descriptor) -> Result<()> {
        let _lease = self.check(&descriptor.digest)?;
        descriptor.annotations.remove(REF_NAME);
        self.change(|index| {
            let entries = &mut index.manifests;
            if entries.iter().all(|old| old.digest != descriptor.digest) {
                entries.push(descriptor);
            }
        })
    }

    /// Takes a name away. Returns the manifest that had it, if any did.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`], [`Error::NoSpace`].
    pub fn remove(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        let name = reference.to_string();
        self.take_first(|entry| name_of(entry) == Some(&name))
    }

    /// Takes all names of a manifest away, and its place as one without a name. Returns whether it
    /// had any.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`], [`Error::NoSpace`].
    pub fn remove_digest(&self, digest: &Digest) -> Result<bool> {
        let mut any = false;
        while self.take_first(|entry| entry.digest == *digest)?.is_some() {
            any = true;
        }
        Ok(any)
    }

    /// Takes entries away, all at once; whoever has changed one meanwhile keeps it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`], [`Error::NoSpace`].
    pub fn remove_entries(&self, gone: &[Tagged]) -> Result<()> {
        self.change(|index| {
            let is_gone =
                |entry: &Descriptor| gone.iter().any(|tagged| tagged.descriptor == *entry);
            index.manifests.retain(|entry| !is_gone(entry));
        })
    }

    fn take_first(&self, is_it: impl Fn(&Descriptor) -> bool) -> Result<Option<Descriptor>> {
        let mut taken = None;
        self.change(|index| {
            let at = index.manifests.iter().position(is_it);
            taken = at.map(|at| index.manifests.remove(at));
        })?;
        Ok(taken)
    }

    /// Checks that a manifest is there, and keeps it there until it has its name.
    fn check(&self, digest: &Digest) -> Result<Lease> {
        let lease = self.store.lease()?;
        if self.store.has_blob(digest)? {
            Ok(lease)
        } else {
            Err(Error::NoBlob(*digest))
        }
    }

    fn path(&self) -> PathBuf {
        self.store.layout_path().join("index.json")
    }

    pub(crate) fn read(&self) -> Result<Index> {
        let path = self.path();
        let bytes =
            fs_err::read(&path).doing(|| format!("read the images of `{}`", path.display()))?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Damaged { path, source })
    }

    /// Changes the index under its lock; what does not change it is not written.
    fn change(&self, change: impl FnOnce(&mut Index)) -> Result<()> {
        let _lock = self.store.lock("index", Mode::Exclusive)?;
        let old = self.read()?;
        let mut new = old.clone();
        change(&mut new);
        if new == old {
            return Ok(());
        }
        match self.store.write_json(&self.path(), &new) {
            // Names must go even when the disk is full, because that is how room is made.
            Err(Error::NoSpace { .. }) => {
                self.store.release_reserve()?;
                self.store.write_json(&self.path(), &new)
            }
            other => other,
        }
    }
}

fn name_of(entry: &Descriptor) -> Option<&String> {
    entry.annotations.get(REF_NAME)
}

fn reference_of(entry: &Descriptor) -> Option<Reference> {
    name_of(entry).and_then(|name| name.parse().ok())
}

/// Whether a digest means this image: its own, or that of the index that it came by.
fn is_known_by(entry: &Descriptor, digest: &Digest) -> bool {
    let source = entry.annotations.get(SOURCE);
    entry.digest == *digest || source.and_then(|text| text.parse().ok()) == Some(*digest)
}
