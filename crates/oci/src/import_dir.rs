//! Images from OCI image layouts in directories.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use firebuild_core::digest::Hashing;
use firebuild_core::tree::Tree;
use firebuild_core::{Digest, ImageConfig, Platform, Reference};
use firebuild_store::layout::{Descriptor, FULL_NAME, Index, Manifest, REF_NAME};
use firebuild_store::{Blob, Lease, StagedBlob, Store};
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::image::{parse_config, write_manifest};
use crate::source::open_regular;
use crate::{Image, ImportLimits, apply, import_layer};

/// How deep indexes may lie in indexes.
const DEEPEST: usize = 4;

/// Imports an image from the OCI image layout in `directory` and gives it these names; without
/// any it is known by its digest only.
///
/// `name` is the image's name in the layout or its digest there; without one the layout must have
/// one image. Of an
/// image for several platforms the host's is taken. Every blob's digest, length and, for a layer,
/// diff id is verified; layers are stored uncompressed, so the image gets a manifest of its own,
/// while its configuration stays byte for byte what it was.
///
/// # Errors
/// [`Error::NoSuchName`]; [`Error::WrongDigest`], [`Error::Invalid`], [`Error::Document`],
/// [`Error::Layer`], [`Error::Entry`], [`Error::TooLarge`] if it is not valid, and then nothing of
/// it is in the store; [`Error::Io`], [`Error::Store`].
pub fn import_oci_dir(
    store: &Store,
    directory: &Path,
    name: Option<&str>,
    references: &[Reference],
) -> Result<Image> {
    let layout = Layout {
        directory,
        limits: ImportLimits::default(),
    };
    let entry = layout.find(name)?;
    let manifest: Manifest = layout.document(&entry, "manifest")?;
    let config_bytes = layout.bytes(&manifest.config, "image configuration")?;
    let config = parse_config(&config_bytes, &manifest.config.digest)?;
    layout.check(&manifest, &config)?;
    let lease = store.lease()?;
    let staged = layout.layers(&lease, &manifest, &config)?;
    let committed = staged.into_iter().map(StagedBlob::commit);
    let mut blobs = HashMap::new();
    for blob in committed {
        let blob = blob?;
        blobs.insert(blob.digest, blob);
    }
    let layers: Vec<Blob> = config
        .rootfs
        .diff_ids
        .iter()
        .filter_map(|diff_id| blobs.get(diff_id).copied())
        .collect();
    write_manifest(&lease, &config_bytes, config, &layers, references)
}

struct Layout<'a> {
    directory: &'a Path,
    limits: ImportLimits,
}

impl Layout<'_> {
    /// The manifest of the image `name`.
    fn find(&self, name: Option<&str>) -> Result<Descriptor> {
        let path = self.directory.join("index.json");
        let what = format!("the image layout's `{}`", path.display());
        let bytes = self.read_bounded(&path, &what)?;
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
                directory: self.directory.to_owned(),
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
        let media_type: String = entry.media_type.chars().take(200).collect();
        let reason = format!("is a `{media_type}`, which is no image");
        Err(Error::invalid(what, reason))
    }

    fn check(&self, manifest: &Manifest, config: &ImageConfig) -> Result<()> {
        let what = || format!("image configuration `{}`", manifest.config.digest);
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            let reason = format!("lists {diff_ids} layers, but the manifest {layers}");
            return Err(Error::invalid(what(), reason));
        }
        if layers > self.limits.layers {
            let reason = format!("has more than {} layers", self.limits.layers);
            return Err(Error::invalid(what(), reason));
        }
        if config.platform.os != "linux" {
            let os: String = config.platform.os.chars().take(100).collect();
            return Err(Error::invalid(
                what(),
                format!("is for `{os}`, not for linux"),
            ));
        }
        Ok(())
    }

    /// Reads and verifies all layers that the store does not have yet, and their merge.
    fn layers(
        &self,
        lease: &Lease,
        manifest: &Manifest,
        config: &ImageConfig,
    ) -> Result<Vec<StagedBlob>> {
        let mut tree = Tree::default();
        let mut staged = Vec::new();
        for (descriptor, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            let name = format!("layer `{}`", descriptor.digest);
            let (file, path) = self.open_blob(descriptor, &name)?;
            let mut hashing = Hashing::new(file.take(descriptor.size.saturating_add(1)));
            let imported = import_layer(lease, &mut hashing, &name, &self.limits);
            verify(descriptor, hashing, imported.is_ok(), &name, &path)?;
            let (blob, index) = imported?;
            if blob.blob().digest != *diff_id {
                return Err(Error::WrongDigest {
                    what: format!("{name}, uncompressed,"),
                    expected: *diff_id,
                    actual: blob.blob().digest,
                });
            }
            apply(&mut tree, &index)?;
            staged.push(blob);
        }
        Ok(staged)
    }

    fn document<T: DeserializeOwned>(&self, descriptor: &Descriptor, kind: &str) -> Result<T> {
        let bytes = self.bytes(descriptor, kind)?;
        parse(&bytes, &format!("{kind} `{}`", descriptor.digest))
    }

    /// A small blob, verified.
    fn bytes(&self, descriptor: &Descriptor, kind: &str) -> Result<Vec<u8>> {
        let what = format!("{kind} `{}`", descriptor.digest);
        let path = self.blob_path(&descriptor.digest);
        let bytes = self.read_bounded(&path, &what)?;
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

    fn read_bounded(&self, path: &Path, what: &str) -> Result<Vec<u8>> {
        let limit = self.limits.document;
        let doing = || format!("read {what}");
        let mut bytes = Vec::new();
        open_regular(path)
            .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
            .map_err(|error| Error::io(error, doing))?;
        if bytes.len() as u64 > limit {
            return Err(Error::TooLarge {
                what: what.to_owned(),
                limit,
            });
        }
        Ok(bytes)
    }

    /// Opens a layer's blob, if it is as long as it should be.
    fn open_blob(&self, descriptor: &Descriptor, what: &str) -> Result<(File, PathBuf)> {
        let path = self.blob_path(&descriptor.digest);
        let fail = |error| Error::io(error, || format!("read {what}"));
        let file = open_regular(&path).map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        if length != descriptor.size {
            return Err(wrong_size(what, length, descriptor.size));
        }
        if length > self.limits.layer {
            return Err(Error::TooLarge {
                what: what.to_owned(),
                limit: self.limits.layer,
            });
        }
        Ok((file, path))
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.directory.join("blobs/sha256").join(digest.hex())
    }
}

/// Checks a layer's own bytes. If reading them as a layer failed, what is wrong with the bytes is
/// the better message; the rest of them is read for it.
fn verify(
    descriptor: &Descriptor,
    mut hashing: Hashing<impl Read>,
    whole: bool,
    name: &str,
    path: &Path,
) -> Result<()> {
    if !whole {
        io::copy(&mut hashing, &mut io::sink())
            .map_err(|error| Error::io(error, || format!("read `{}`", path.display())))?;
    }
    let (_, actual, size) = hashing.finish();
    if size != descriptor.size {
        return Err(wrong_size(name, size, descriptor.size));
    }
    if actual != descriptor.digest {
        return Err(Error::WrongDigest {
            what: name.to_owned(),
            expected: descriptor.digest,
            actual,
        });
    }
    Ok(())
}

fn wrong_size(what: &str, actual: u64, expected: u64) -> Error {
    let reason = format!("has {actual} bytes, but the image says {expected}");
    Error::invalid(what, reason)
}

fn shown_name(entry: &Descriptor) -> Option<String> {
    let name = entry.annotations.get(REF_NAME)?;
    Some(name.chars().take(200).collect())
}

fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| Error::Document {
        what: what.to_owned(),
        source,
    })
}
