//! A layer's bytes on their way, and what they must be.

use std::io::{self, Read};

use firebuild_core::layer::LayerError;
use firebuild_core::{Digest, Hasher};
use firebuild_store::Blob;

use super::ahead::Ahead;
use super::died;
use crate::compression::Decompressed;
use crate::error::{Error, Result};

/// A layer's bytes as they come.
pub(super) struct Incoming<'a> {
    pub(super) bytes: io::Take<Box<dyn Read + Send + 'a>>,
    /// Of what was read, if it is wanted, and its length.
    pub(super) hasher: Option<Hasher>,
    pub(super) length: u64,
}

impl Read for Incoming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        self.length += read as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..read]);
        }
        Ok(read)
    }
}

/// A layer's bytes uncompressed, each stage in a thread of its own.
pub(super) type Plain<'a> = Ahead<'a, io::Take<Decompressed<Ahead<'a, Incoming<'a>>>>>;

/// Ends all threads of a layer. Gives the digest and length of the bytes as they came, all of which
/// are read for that.
pub(super) fn came(plain: Plain<'_>) -> io::Result<(Option<Digest>, u64)> {
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    let raw = plain.finish().ok_or_else(gone)?.into_inner().drain()?;
    let incoming = raw.finish().ok_or_else(gone)?;
    Ok((incoming.hasher.map(Hasher::finish), incoming.length))
}

/// What a layer must be.
pub(super) struct Expected {
    pub(super) name: String,
    pub(super) blob: Option<Blob>,
    pub(super) diff_id: Option<Digest>,
    pub(super) trusted: bool,
}

impl Expected {
    /// The blob of which this is the digest, unless it is trusted, and the length.
    pub(super) fn blob(&self, (digest, size): (Option<Digest>, u64)) -> Result<Blob> {
        if let Some(blob) = self.blob.filter(|blob| size > blob.size) {
            let reason = format!("has more than {} bytes", blob.size);
            return Err(Error::invalid(self.name.clone(), reason));
        }
        let digest = self.check(&self.name, self.blob.map(|blob| blob.digest), digest)?;
        Ok(Blob { digest, size })
    }

    pub(super) fn layer_digest(&self, found: Option<Digest>) -> Result<Digest> {
        self.check(
            &format!("{}, uncompressed,", self.name),
            self.diff_id,
            found,
        )
    }

    fn check(&self, what: &str, expected: Option<Digest>, found: Option<Digest>) -> Result<Digest> {
        match (expected, found) {
            (Some(expected), Some(actual)) if expected != actual => Err(Error::WrongDigest {
                what: what.to_owned(),
                expected,
                actual,
            }),
            (expected, found) => found.or(expected).ok_or_else(died),
        }
    }

    pub(super) fn layer(&self, source: LayerError) -> Error {
        Error::Layer {
            layer: self.name.clone(),
            source,
        }
    }
}
