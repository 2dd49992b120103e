//! Layers that came from elsewhere and are kept as they came, which is compressed.
//!
//! Everything here names a layer by its diff id, the digest of its uncompressed bytes. Of a layer
//! that was made here the store has a blob of that name; of others it knows from these records which
//! blob holds them, what is in them, and where their files' bytes lie uncompressed.

use std::io::ErrorKind;
use std::ops::Range;
use std::path::PathBuf;

use firebuild_core::Digest;
use serde::{Deserialize, Serialize};

use crate::collect::{digest_of, files_of};
use crate::error::{Doing, Result};
use crate::layout::Descriptor;
use crate::lock::Mode;
use crate::{Blob, Store};

/// The store's directory of these records.
pub(crate) const DIRECTORY: &str = "layers";

/// The records of layers that came from elsewhere. See [`Store::layers`].
#[derive(Debug)]
pub struct Layers<'a> {
    store: &'a Store,
}

/// What is kept of a layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    size: u64,
    /// The blobs that hold it: several images may have it compressed in several ways.
    blobs: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    placed: Option<PlacedLayer>,
}

/// What is known of a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerRecord {
    /// How many bytes it has uncompressed.
    pub size: u64,
    /// The blob that holds it, as a manifest refers to it.
    pub blob: Descriptor,
    /// Where its files' bytes lie.
    pub placed: Option<PlacedLayer>,
}

/// Where the files' bytes of a layer lie in a root file system image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedLayer {
    /// The image's key: see [`Store::rootfs`].
    pub rootfs: Digest,
    /// The blocks of 4096 bytes, in the order in which the layer fills them.
    pub blocks: Vec<Range<u64>>,
}

impl Store {
    /// The records of layers that came from elsewhere.
    #[must_use]
    pub fn layers(&self) -> Layers<'_> {
        Layers { store: self }
    }
}

impl Layers<'_> {
    /// What is known of a layer, if a blob that holds it is there. Hold a
    /// [`Lease`](crate::Lease), so that it stays.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io). A record that cannot be understood is as good as none.
    pub fn get(&self, diff_id: &Digest) -> Result<Option<LayerRecord>> {
        let Some(kept) = self.read(diff_id)? else {
            return Ok(None);
        };
        for blob in kept.blobs {
            if self.store.has_blob(&blob.digest)? {
                return Ok(Some(LayerRecord {
                    size: kept.size,
                    blob,
                    placed: kept.placed,
                }));
            }
        }
        Ok(None)
    }

    /// Keeps what is known of a layer, whose blob must be in the store, and its headers: whatever
    /// its maker needs in order to know its entries again. Other blobs that hold it stay known.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::NoSpace`](crate::Error::NoSpace).
    pub fn put(&self, diff_id: &Digest, record: LayerRecord, headers: &[u8]) -> Result<()> {
        let _lock = self.store.lock(DIRECTORY, Mode::Exclusive)?;
        self.store
            .write_bytes(&self.path(diff_id, "headers"), headers)?;
        let known = self.read(diff_id)?;
        let (mut blobs, placed) =
            known.map_or_else(Default::default, |kept| (kept.blobs, kept.placed));
        blobs.retain(|blob| blob.digest != record.blob.digest);
        blobs.insert(0, record.blob);
        let kept = Kept {
            size: record.size,
            blobs,
            placed: record.placed.or(placed),
        };
        self.store.write_json(&self.path(diff_id, "json"), &kept)
    }

    /// The headers that were kept of a layer.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn headers(&self, diff_id: &Digest) -> Result<Option<Vec<u8>>> {
        let path = self.path(diff_id, "headers");
        match fs_err::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing(|| format!("read `{}`", path.display())),
        }
    }

    /// The layers of which there are records, understood or not, in no order.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn list(&self) -> Result<Vec<Digest>> {
        let files = files_of(&self.store.path().join(DIRECTORY))?;
        Ok(files
            .iter()
            .filter_map(|path| digest_of(path, ".json"))
            .collect())
    }

    /// Forgets a layer, whatever blobs hold it.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn remove(&self, diff_id: &Digest) -> Result<()> {
        let _lock = self.store.lock(DIRECTORY, Mode::Exclusive)?;
        self.erase(diff_id)
    }

    fn erase(&self, diff_id: &Digest) -> Result<()> {
        for kind in ["headers", "json"] {
            let path = self.path(diff_id, kind);
            match fs_err::remove_file(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other.doing(|| format!("remove `{}`", path.display()))?,
            }
        }
        Ok(())
    }

    /// Forgets blobs that are gone, and layers without any.
    pub(crate) fn forget_missing(&self) -> Result<()> {
        let _lock = self.store.lock(DIRECTORY, Mode::Exclusive)?;
        let directory = self.store.path().join(DIRECTORY);
        let doing = || format!("clean up `{}`", directory.display());
        for entry in fs_err::read_dir(&directory).doing(doing)? {
            let name = entry.doing(doing)?.file_name();
            let hex = name.to_str().and_then(|name| name.strip_suffix(".json"));
            let diff_id = hex.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
            if let Some(diff_id) = diff_id {
                self.forget(&diff_id)?;
            }
        }
        Ok(())
    }

    fn forget(&self, diff_id: &Digest) -> Result<()> {
        let mut left = Vec::new();
        let kept = self.read(diff_id)?;
        let before = kept.iter().flat_map(|kept| &kept.blobs).count();
        for blob in kept.iter().flat_map(|kept| &kept.blobs) {
            if self.store.has_blob(&blob.digest)? {
                left.push(blob.clone());
            }
        }
        match kept {
            Some(kept) if !left.is_empty() => {
                if left.len() < before {
                    let kept = Kept {
                        blobs: left,
                        ..kept
                    };
                    self.store.write_json(&self.path(diff_id, "json"), &kept)?;
                }
            }
            _ => self.erase(diff_id)?,
        }
        Ok(())
    }

    fn read(&self, diff_id: &Digest) -> Result<Option<Kept>> {
        let path = self.path(diff_id, "json");
        match fs_err::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing(|| format!("read `{}`", path.display())),
        }
    }

    fn path(&self, diff_id: &Digest, kind: &str) -> PathBuf {
        let directory = self.store.path().join(DIRECTORY);
        directory.join(format!("{}.{kind}", diff_id.hex()))
    }
}

impl LayerRecord {
    /// The blob that holds the layer.
    #[must_use]
    pub fn blob(&self) -> Blob {
        Blob {
            digest: self.blob.digest,
            size: self.blob.size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::LAYER;

    #[test]
    fn a_layer_is_known_as_long_as_one_of_its_blobs_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let layers = store.layers();
        let diff_id = Digest::of(b"uncompressed");
        let lease = store.lease().unwrap();
        let record = |bytes| LayerRecord {
            size: 12,
            blob: lease.put(bytes).unwrap().descriptor(LAYER),
            placed: Some(PlacedLayer {
                rootfs: Digest::of(b"a key"),
                blocks: vec![64..70, 80..81],
            }),
        };
        let (one, other) = (record(b"compressed"), record(b"otherwise"));
        assert_eq!(layers.get(&diff_id).unwrap(), None);
        layers.put(&diff_id, one.clone(), b"headers").unwrap();
        assert_eq!(layers.get(&diff_id).unwrap(), Some(one.clone()));
        layers.put(&diff_id, other.clone(), b"headers").unwrap();
        assert_eq!(layers.get(&diff_id).unwrap(), Some(other.clone()));
        let headers = layers.headers(&diff_id).unwrap();
        assert_eq!(headers.as_deref(), Some(&b"headers"[..]));
        fs_err::remove_file(store.blob_path(&other.blob.digest)).unwrap();
        assert_eq!(layers.get(&diff_id).unwrap(), Some(one.clone()));
        layers.forget_missing().unwrap();
        assert_eq!(layers.get(&diff_id).unwrap(), Some(one));
        drop(lease);
        // Nothing refers to the other blob.
        store.collect().unwrap();
        assert_eq!(layers.get(&diff_id).unwrap(), None);
        assert_eq!(layers.headers(&diff_id).unwrap(), None);
        let left = fs_err::read_dir(store.path().join(DIRECTORY)).unwrap();
        assert_eq!(left.count(), 0);
    }
}
