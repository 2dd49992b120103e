//! Where an image's layers come from, and the file of the store that gets each one's bytes.
//!
//! A layer's bytes are written once. An origin that keeps what comes, so that it can go on with it
//! another time, has written them already: its file becomes the blob. Of any other origin they are
//! copied to a new file as they are read.

use std::io::{self, Read, Write as _};
use std::sync::{Arc, OnceLock};

use firebuild_store::layout::Descriptor;
use firebuild_store::{Partial, Store, TemporaryFile};

use crate::error::{Error, Result};

/// Where an image comes from.
pub trait Origin: Sync {
    /// A layer that the image's manifest lists. Asked for when somebody begins to read it, once.
    ///
    /// # Errors
    /// Why there is no such layer, or not one of that length.
    fn layer(&self, layer: &Descriptor) -> Result<OriginLayer<'_>>;
}

/// A layer as an origin gives it.
pub struct OriginLayer<'a> {
    /// Its bytes. They need not have been verified.
    pub bytes: Box<dyn Read + Send + 'a>,
    /// A file of the store that has every byte once it was read, and no others.
    pub download: Option<Arc<Partial>>,
}

/// The file that gets a layer's bytes, once somebody has begun to read them.
#[derive(Default)]
pub(crate) struct Kept(OnceLock<Holder>);

enum Holder {
    Download(Arc<Partial>),
    Copy(Arc<TemporaryFile>),
}

impl Kept {
    /// The bytes of a layer, which are in the file when they have been read.
    pub(crate) fn open<'a>(
        &self,
        store: &'a Store,
        origin: &'a dyn Origin,
        layer: &Descriptor,
    ) -> Result<Box<dyn Read + Send + 'a>> {
        let OriginLayer { bytes, download } = origin.layer(layer)?;
        let (holder, bytes) = match download {
            Some(download) => (Holder::Download(download), bytes),
            None => {
                let output = Arc::new(store.temporary_file()?);
                let holder = Holder::Copy(Arc::clone(&output));
                let input = bytes;
                let copied = Copied {
                    input,
                    output,
                    store,
                };
                (holder, Box::new(copied) as Box<dyn Read + Send>)
            }
        };
        // Each layer is opened once.
        self.0.set(holder).map_err(|_| still_read())?;
        Ok(bytes)
    }

    /// The file, once all bytes have been read and their reader is gone; none if nobody asked for
    /// them. If it is not given a name, it goes.
    pub(crate) fn into_file(self) -> Result<Option<TemporaryFile>> {
        let file = match self.0.into_inner() {
            Some(Holder::Copy(file)) => Arc::into_inner(file),
            Some(Holder::Download(download)) => Arc::into_inner(download)
                .map(Partial::into_whole)
                .transpose()?,
            None => return Ok(None),
        };
        file.map(Some).ok_or_else(still_read)
    }
}

/// Can only be a mistake of ours.
fn still_read() -> Error {
    Error::io(io::ErrorKind::ResourceBusy.into(), || {
        "take over a layer's file".to_owned()
    })
}

/// Copies what is read.
struct Copied<'a> {
    input: Box<dyn Read + Send + 'a>,
    output: Arc<TemporaryFile>,
    store: &'a Store,
}

impl Read for Copied<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        let written = self.output.file().write_all(&buffer[..read]);
        written.map_err(|error| self.store.write_error(error, "write a layer"))?;
        Ok(read)
    }
}
