//! Layers on their way from a registry: several at once, their bytes kept as they come, so that what
//! breaks off goes on where it was.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use firebuild_core::Digest;
use firebuild_store::layout::Descriptor;
use firebuild_store::{Partial, Store};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::{Motion, Watcher};
use crate::error::{Error, Result};
use crate::registry::{BlobStream, Registry, RegistryError, Repository};
use crate::{Origin, OriginLayer};

/// Pieces that may wait for whoever unpacks them.
const PIECES: usize = 16;

/// A repository as the origin of an image.
pub(super) struct Downloads {
    registry: Registry,
    repository: Repository,
    store: Store,
    /// Where the transfers run, while others wait for what they bring.
    runtime: Handle,
    watcher: Arc<dyn Watcher>,
    pub(super) outcome: Arc<Outcome>,
}

/// What became of an image's transfers.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Bytes that came.
    fetched: AtomicU64,
    /// Whether some bytes were here from an earlier time.
    resumed: AtomicBool,
    /// The first failure.
    failure: Mutex<Option<RegistryError>>,
}

impl Outcome {
    pub(super) fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    pub(super) fn resumed(&self) -> bool {
        self.resumed.load(Ordering::Relaxed)
    }

    /// What failed first, which is why everything else did.
    pub(super) fn failure(&self) -> Option<RegistryError> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take()
    }

    fn failed(&self, error: RegistryError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
    }
}

impl Downloads {
    /// Transfers run in the runtime that this is called in.
    pub(super) fn new(
        registry: &Registry,
        repository: Repository,
        (store, watcher): (&Store, &Arc<dyn Watcher>),
    ) -> Self {
        Self {
            registry: registry.clone(),
            repository,
            store: store.clone(),
            runtime: Handle::current(),
            watcher: Arc::clone(watcher),
            outcome: Arc::default(),
        }
    }
}

impl Origin for Downloads {
    fn layer(&self, layer: &Descriptor) -> Result<OriginLayer<'_>> {
        let download = self.store.partial(&layer.digest)?.map(Arc::new);
        let known = match &download {
            Some(partial) => beginning(partial.file(), layer.size).map_err(|error| {
                Error::io(error, || format!("read or write blob `{}`", layer.digest))
            })?,
            None => 0,
        };
        self.outcome.resumed.fetch_or(known > 0, Ordering::Relaxed);
        let blob = (layer.digest, layer.size);
        let stream = self.registry.blob_after(&self.repository, blob, known);
        let coming = Coming {
            partial: download.clone(),
            layer: layer.digest,
            size: layer.size,
            known,
            here: known,
            at: 0,
            transfer: Transfer::Waiting(Box::new(stream)),
            downloads: self,
            current: Bytes::new(),
        };
        coming.tell();
        Ok(OriginLayer {
            bytes: Box::new(coming),
            download,
        })
    }
}

/// How many of a blob's bytes a file has. What is longer than the blob is none of it.
fn beginning(mut file: &File, size: u64) -> io::Result<u64> {
    if file.metadata()?.len() > size {
        file.set_len(0)?;
    }
    file.seek(SeekFrom::End(0))
}

/// Passes on what comes, as long as somebody takes it.
async fn receive(mut stream: BlobStream, sender: mpsc::Sender<Bytes>, outcome: Arc<Outcome>) {
    loop {
        match stream.next().await {
            Ok(Some(piece)) => {
                let length = piece.len() as u64;
                outcome.fetched.fetch_add(length, Ordering::Relaxed);
                if sender.send(piece).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            // Told before the sender goes, so that whoever misses bytes finds it.
            Err(error) => return outcome.failed(error),
        }
    }
}

/// The bytes of a layer: first those that are here, then those that come, which are kept.
struct Coming<'d> {
    /// None if somebody else brings the same layer: then nothing is kept.
    partial: Option<Arc<Partial>>,
    layer: Digest,
    size: u64,
    /// How many bytes were here.
    known: u64,
    /// How many bytes are here.
    here: u64,
    /// How many bytes were given.
    at: u64,
    transfer: Transfer,
    downloads: &'d Downloads,
    current: Bytes,
}

/// A transfer begins when somebody reads what it brings: no more are on their way than are unpacked.
enum Transfer {
    Waiting(Box<BlobStream>),
    Begun(mpsc::Receiver<Bytes>),
}

impl Read for Coming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &self.partial {
            Some(partial) if self.at < self.known => {
                let left = usize::try_from(self.known - self.at).unwrap_or(buffer.len());
                let most = buffer.len().min(left);
                partial.file().read_at(&mut buffer[..most], self.at)?
            }
            _ => {
                if self.current.is_empty() {
                    self.current = self.next()?;
                }
                let length = buffer.len().min(self.current.len());
                buffer[..length].copy_from_slice(&self.current.split_to(length));
                length
            }
        };
        self.at += read as u64;
        Ok(read)
    }
}

impl Coming<'_> {
    /// The next piece; nothing at the end.
    fn next(&mut self) -> io::Result<Bytes> {
        let pieces = match &mut self.transfer {
            Transfer::Begun(pieces) => pieces,
            Transfer::Waiting(_) => {
                let (sender, pieces) = mpsc::channel(PIECES);
                let waiting = std::mem::replace(&mut self.transfer, Transfer::Begun(pieces));
                if let Transfer::Waiting(stream) = waiting {
                    let outcome = Arc::clone(&self.downloads.outcome);
                    let runtime = &self.downloads.runtime;
                    runtime.spawn(receive(*stream, sender, outcome));
                }
                return self.next();
            }
        };
        let Some(piece) = pieces.blocking_recv() else {
            if self.here < self.size {
                // Why something is missing at the end is told by the transfer.
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let moved = Some(self.here - self.known);
            let arrived = Motion::Arrived { moved };
            self.downloads.watcher.layer(&self.layer, arrived);
            return Ok(Bytes::new());
        };
        if let Some(partial) = &self.partial {
            let written = partial.file().write_all(&piece);
            let store = &self.downloads.store;
            written.map_err(|error| store.write_error(error, "write a layer"))?;
        }
        self.here += piece.len() as u64;
        self.tell();
        Ok(piece)
    }

    fn tell(&self) {
        let underway = Motion::Underway {
            bytes: self.here,
            size: Some(self.size),
        };
        self.downloads.watcher.layer(&self.layer, underway);
    }
}
