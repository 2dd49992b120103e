//! Images from OCI image layouts.

use std::io::Read;
use std::path::Path;

use firebuild_core::{Digest, Platform, Reference, printable};
use firebuild_store::Store;
use firebuild_store::layout::{Descriptor, FULL_NAME, Index, Manifest, REF_NAME};
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::members::{Directory, Members};
use crate::{Destination, Documents, Image, ImportLimits, Origin, OriginLayer, take_in};

/// The file that tells what is in a layout.
const INDEX: &str = "index.json";

/// How deep indexes may lie in indexes.
const DEEPEST: usize = 4;

/// Imports an image from the OCI image layout in `directory` and gives it these names; without
/// any it is known by its digest only.
///
/// `name` is the image's name in the layout or its digest there; without one the layout must have
/// one image. Of an image for several platforms the host's is taken. Every blob's digest, length
/// and, for a layer, diff id is verified; all of it stays byte for byte what it was.
///
/// # Errors
/// [`Error::NoSuchName`], and those of [`take_in`].
pub fn import_oci_dir(
    store: &Store,
    (directory, name): (&Path, Option<&str>),
    destination: &dyn Destination,
    references: &[Reference],
) -> Result<Image> {
    Layout {
        members: &Directory(directory),
        limits: ImportLimits::default(),
    }
    .import(store, name, destination, references)
}

/// An OCI image layout.
pub(crate) struct Layout<'a> {
    pub(crate) members: &'a dyn Members,
    pub(crate) limits: ImportLimits,
}

impl Layout<'_> {
    pub(crate) fn import(
        &self,
        store: &Store,
        name: Option<&str>,
        destination: &dyn Destination,
        references: &[Reference],
    ) -> Result<Image> {
        let documents = self.documents(name)?;
        take_in(store, &documents, self, destination, references)
    }

    /// The manifest of the image `name`.
    fn find(&self, name: Option<&str>) -> Result<Descriptor> {
        let path = self.members.place().join(INDEX);
        let what = format!("the image layout's `{}`", path.display());
        let bytes = self.read_bounded(INDEX, &what)?;
        let index: Index = parse(&bytes, &what)?;
        let entry = self.select(index, name)?;
        self.manifest_of(entry)
    }

    fn select(&self, index: Index, name: Option<&str>) -> Result<Descriptor> {
        let mut entries = index.manifests;
        let names: Vec<String> = entries.iter().filter_map(shown_name).collect();
        if let Some(name) = name {
            let named = |key: &str, entry: &Descriptor| {
                entry
                    .annotations
                    .get(key)
                    .is_some_and(|value| value == name)
            };
            let digest = name.parse::<Digest>().ok();
            entries.retain(|entry| {
                named(REF_NAME, entry) || named(FULL_NAME, entry) || digest == Some(entry.digest)
            });
        }
        let count = entries.len();
        match entries.pop() {
            Some(only) if count == 1 => Ok(only),
            _ => Err(Error::NoSuchName {
                directory: self.members.place().to_owned(),
                found: self.what_was_found(name, count, &names),
            }),
        }
    }

    fn what_was_found(&self, name: Option<&str>, count: usize, names: &[String]) -> String {
        let listed = match names {
            [] => "none of its images has a name".to_owned(),
            names => format!("it has `{}`", names.join("`, `")),
        };
        match (name, count) {
            (_, 0) if names.is_empty() && name.is_none() => "no image".to_owned(),
            (Some(name), 0) => format!("no image `{name}`; {listed}"),
            (Some(name), _) => format!("{count} images `{name}`"),
            (None, _) => format!("{count} images, and none was chosen; {listed}"),
        }
    }

    /// Goes through indexes to the manifest for this host's platform.
    fn manifest_of(&self, mut entry: Descriptor) -> Result<Descriptor> {
        for _ in 0..DEEPEST {
            if entry.is_manifest() {
                return Ok(entry);
            }
            if !entry.is_index() {
                break;
            }
            let index: Index = self.document(&entry, "index")?;
            let host = Platform::host();
            let fits = |entry: &Descriptor| {
                entry.platform.as_ref().is_none_or(|platform| {
                    platform.os == host.os && platform.architecture == host.architecture
                })
            };
            let digest = entry.digest;
            entry = index.manifests.into_iter().find(fits).ok_or_else(|| {
                Error::invalid(format!("image `{digest}`"), format!("has none for {host}"))
            })?;
        }
        let what = format!("blob `{}`", entry.digest);
        let media_type = printable(&entry.media_type, 200);
        let reason = format!("is a `{media_type}`, which is no image");
        Err(Error::invalid(what, reason))
    }

    /// The manifest and the configuration of the image `name`.
    fn documents(&self, name: Option<&str>) -> Result<Documents> {
        let descriptor = self.find(name)?;
        let manifest = self.bytes(&descriptor, "manifest")?;
        let what = format!("manifest `{}`", descriptor.digest);
        let config = parse::<Manifest>(&manifest, &what)?.config;
        Ok(Documents {
            descriptor,
            manifest,
            config: self.bytes(&config, "image configuration")?,
        })
    }

    fn document<T: DeserializeOwned>(&self, descriptor: &Descriptor, kind: &str) -> Result<T> {
        let bytes = self.bytes(descriptor, kind)?;
        parse(&bytes, &format!("{kind} `{}`", descriptor.digest))
    }

    /// A small blob, verified.
    fn bytes(&self, descriptor: &Descriptor, kind: &str) -> Result<Vec<u8>> {
        let what = format!("{kind} `{}`", descriptor.digest);
        let bytes = self.read_bounded(&blob_name(&descriptor.digest), &what)?;
        let actual = Digest::of(&bytes);
        if actual != descriptor.digest {
            return Err(Error::WrongDigest {
                what,
                expected: descriptor.digest,
                actual,
            });
        }
        if bytes.len() as u64 != descriptor.size {
            return Err(wrong_size(&what, bytes.len() as u64, descriptor.size));
        }
        Ok(bytes)
    }

    fn read_bounded(&self, name: &str, what: &str) -> Result<Vec<u8>> {
        let limit = self.limits.document;
        let doing = || format!("read {what}");
        let mut bytes = Vec::new();
        let member = self.members.open(name);
        member
            .and_then(|member| member.bytes.take(limit + 1).read_to_end(&mut bytes))
            .map_err(|error| Error::io(error, doing))?;
        if bytes.len() as u64 > limit {
            return Err(Error::TooLarge {
                what: what.to_owned(),
                limit,
            });
        }
        Ok(bytes)
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

impl Origin for Layout<'_> {
    fn layer(&self, layer: &Descriptor) -> Result<OriginLayer<'_>> {
        let what = format!("layer `{}`", layer.digest);
        let fail = |error| Error::io(error, || format!("read {what}"));
        let member = self.members.open(&blob_name(&layer.digest));
        let member = member.map_err(fail)?;
        if member.length != layer.size {
            return Err(wrong_size(&what, member.length, layer.size));
        }
        Ok(OriginLayer {
            bytes: member.bytes,
            download: None,
        })
    }
}

fn wrong_size(what: &str, actual: u64, expected: u64) -> Error {
    let reason = format!("has {actual} bytes, but the image says {expected}");
    Error::invalid(what, reason)
}

fn shown_name(entry: &Descriptor) -> Option<String> {
    let name = entry.annotations.get(REF_NAME)?;
    Some(printable(name, 200))
}

fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| Error::Document {
        what: what.to_owned(),
        source,
    })
}
