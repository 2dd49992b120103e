//! Images from archives: image layouts (`oci-archive`), and what `docker save` writes.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;

use firebuild_core::{Digest, Hasher, ImageConfig, Reference, printable};
use firebuild_store::Store;
use firebuild_store::layout::{self, Descriptor, Manifest};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::image::parse_config;
use crate::import_dir::Layout;
use crate::members::{Archive, Members};
use crate::{Destination, Documents, Image, ImportLimits, Origin, OriginLayer, take_in};

/// The file of `docker save` that tells what is in it.
const MANIFEST: &str = "manifest.json";

/// Imports an image from the archive of an OCI image layout, as [`crate::import_oci_dir`] does from a
/// directory. `path` is for messages.
///
/// # Errors
/// Those of [`crate::import_oci_dir`]; [`Error::Archive`] for what is none.
pub fn import_oci_archive(
    store: &Store,
    (path, name): (&Path, Option<&str>),
    input: impl Read,
    destination: &dyn Destination,
    references: &[Reference],
) -> Result<Image> {
    let limits = ImportLimits::default();
    let archive = Archive::of(store, path, input, limits.layer)?;
    Layout {
        members: &archive,
        limits,
    }
    .import(store, name, destination, references)
}

/// Imports an image from what `docker save` writes, new or old. `path` is for messages.
///
/// `name` is one of the image's names in the archive; without one the archive must have one image.
/// Every layer is verified by its diff id. The image's configuration stays byte for byte what it was;
/// its manifest is made here, because there is none.
///
/// # Errors
/// [`Error::NoSuchName`], [`Error::Archive`], and those of [`take_in`].
pub fn import_docker_archive(
    store: &Store,
    (path, name): (&Path, Option<&str>),
    input: impl Read,
    destination: &dyn Destination,
    references: &[Reference],
) -> Result<Image> {
    let limits = ImportLimits::default();
    let archive = Archive::of(store, path, input, limits.layer)?;
    let saved = Saved {
        archive: &archive,
        limits,
        layers: HashMap::new(),
    };
    saved.import(store, name, destination, references)
}

/// An image in `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// What `docker save` wrote.
struct Saved<'a> {
    archive: &'a Archive<'a>,
    limits: ImportLimits,
    /// The files of layers by the digests of their bytes.
    layers: HashMap<Digest, String>,
}

impl Saved<'_> {
    fn import(
        mut self,
        store: &Store,
        name: Option<&str>,
        destination: &dyn Destination,
        references: &[Reference],
    ) -> Result<Image> {
        let bytes = self.document(MANIFEST)?;
        let images = serde_json::from_slice(&bytes);
        let images: Vec<SavedImage> = images.map_err(|source| Error::Document {
            what: format!("`{MANIFEST}` of `{}`", self.archive.place().display()),
            source,
        })?;
        let image = self.select(images, name)?;
        let config = self.document(&image.config)?;
        let manifest = self.manifest(&image, &config)?;
        let manifest = serde_json::to_vec(&manifest).map_err(|source| Error::Document {
            what: "the image manifest".to_owned(),
            source,
        })?;
        let digest = Digest::of(&manifest);
        let documents = Documents {
            descriptor: Descriptor::new(layout::MANIFEST, digest, manifest.len() as u64),
            manifest,
            config,
        };
        take_in(store, &documents, &self, destination, references)
    }

    fn select(&self, images: Vec<SavedImage>, name: Option<&str>) -> Result<SavedImage> {
        let tags = |image: &SavedImage| image.repo_tags.clone().unwrap_or_default();
        let names: Vec<String> = images.iter().flat_map(tags).take(20).collect();
        // Tools write the same name in more or fewer words.
        let same = |one: &str, other: &str| match (one.parse(), other.parse::<Reference>()) {
            (Ok(one), Ok(other)) => other == one,
            _ => one == other,
        };
        let fits = |image: &SavedImage| {
            name.is_none_or(|name| tags(image).iter().any(|tag| same(tag, name)))
        };
        let mut found: Vec<SavedImage> = images.into_iter().filter(fits).collect();
        let count = found.len();
        match found.pop() {
            Some(only) if count == 1 => Ok(only),
            _ => Err(Error::NoSuchName {
                directory: self.archive.place().to_owned(),
                found: match name {
                    Some(name) if count == 0 => {
                        format!("no image `{name}`; it has `{}`", names.join("`, `"))
                    }
                    _ if count == 0 => "no image".to_owned(),
                    _ => format!(
                        "{count} images, and none was chosen; it has `{}`",
                        names.join("`, `")
                    ),
                },
            }),
        }
    }

    /// What a manifest of the image says.
    fn manifest(&mut self, image: &SavedImage, config: &[u8]) -> Result<Manifest> {
        let digest = Digest::of(config);
        let parsed: ImageConfig = parse_config(config, &digest)?;
        let files = image.layers.as_deref().unwrap_or_default();
        let diff_ids = &parsed.rootfs.diff_ids;
        if files.len() != diff_ids.len() || files.len() > self.limits.layers {
            let (count, listed) = (files.len(), diff_ids.len());
            let what = format!("image configuration `{digest}`");
            let s = if listed == 1 { "" } else { "s" };
            let reason = format!("lists {listed} layer{s}, but the archive {count}");
            return Err(Error::invalid(what, reason));
        }
        let mut layers = Vec::new();
        for (file, diff_id) in files.iter().zip(diff_ids) {
            layers.push(self.describe(file, diff_id)?);
        }
        let config = Descriptor::new(layout::CONFIG, digest, config.len() as u64);
        Ok(Manifest::new(config, layers))
    }

    /// A descriptor of a layer. An uncompressed one has the digest that the configuration says, or
    /// will be found to have another; others must be read for it.
    fn describe(&mut self, file: &str, diff_id: &Digest) -> Result<Descriptor> {
        let mut member = self.open(file)?;
        let length = member.length;
        let mut start = Vec::new();
        let fail = |error| Error::io(error, || format!("read layer `{file}`"));
        member
            .bytes
            .by_ref()
            .take(4)
            .read_to_end(&mut start)
            .map_err(fail)?;
        let (media_type, digest) = match start.as_slice() {
            [0x1f, 0x8b, ..] => (layout::LAYER_GZIP, None),
            [0x28, 0xb5, 0x2f, 0xfd] => (layout::LAYER_ZSTD, None),
            _ => (layout::LAYER, Some(*diff_id)),
        };
        let digest = match digest {
            Some(digest) => digest,
            None => {
                let mut hashing = Hashed(Hasher::new());
                hashing.0.update(&start);
                io::copy(&mut member.bytes, &mut hashing).map_err(fail)?;
                hashing.0.finish()
            }
        };
        drop(member);
        self.layers.insert(digest, file.to_owned());
        Ok(Descriptor::new(media_type, digest, length))
    }

    fn document(&self, name: &str) -> Result<Vec<u8>> {
        let limit = self.limits.document;
        let member = self.open(name)?;
        let mut bytes = Vec::new();
        let read = member.bytes.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| Error::io(error, || format!("read `{name}`")))?;
        if bytes.len() as u64 > limit {
            let what = format!("`{name}`");
            return Err(Error::TooLarge { what, limit });
        }
        Ok(bytes)
    }

    fn open(&self, name: &str) -> Result<crate::members::Member<'_>> {
        let shown = printable(name, 200);
        let opened = self.archive.open(name);
        opened.map_err(|error| Error::io(error, || format!("read `{shown}`")))
    }
}

struct Hashed(Hasher);

impl io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Origin for Saved<'_> {
    fn layer(&self, layer: &Descriptor) -> Result<OriginLayer<'_>> {
        let file = self.layers.get(&layer.digest).map_or("", String::as_str);
        Ok(OriginLayer {
            bytes: self.open(file)?.bytes,
            download: None,
        })
    }
}
