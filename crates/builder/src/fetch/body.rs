//! A body on its way into the store: written and hashed on a thread of its own, beside the network.

use std::io::Write as _;

use firebuild_core::ByteSize;
use firebuild_store::{BlobWriter, Lease, StagedBlob};
use reqwest::Response;
use tokio::sync::mpsc;

use super::telling::Telling;
use super::{Cause, FetchError};
use crate::threads::Threads;

/// Pieces that may wait for the disk.
const PIECES: usize = 16;

/// What is told about a body in messages, and how far it may go.
#[derive(Clone, Copy)]
pub(super) struct Body<'a> {
    pub(super) address: &'a str,
    pub(super) limit: ByteSize,
    pub(super) silence: std::time::Duration,
    pub(super) telling: &'a Telling<'a>,
    pub(super) threads: &'a Threads,
}

impl Body<'_> {
    /// Takes the whole body. What is returned is durable and has no name yet; after an error
    /// nothing is left.
    pub(super) async fn receive(
        self,
        lease: &Lease,
        response: Response,
    ) -> Result<StagedBlob, FetchError> {
        let writer = lease.blob_writer()?;
        let (sender, receiver) = mpsc::channel(PIECES);
        // It waits for the network, as nothing among the build's threads may.
        let writing = tokio::task::spawn_blocking(move || write(writer, receiver));
        let received = self.pump(response, sender).await;
        let written = writing
            .await
            .map_err(|error| FetchError::Client(Cause::of(error)))?;
        let writer = written?;
        received?;
        Ok(self.threads.run(move || writer.finish()).await?)
    }

    /// Moves pieces until the body ends. A writer that is gone has an error to tell.
    async fn pump(
        self,
        mut response: Response,
        sender: mpsc::Sender<bytes::Bytes>,
    ) -> Result<(), FetchError> {
        let mut left = self.limit.0;
        let size = response.content_length();
        if size.is_some_and(|size| size > left) {
            return Err(self.too_large());
        }
        loop {
            let piece = response.chunk().await;
            let piece = piece.map_err(|error| FetchError::of(error, self.address, self.silence))?;
            let Some(piece) = piece else {
                return Ok(());
            };
            left = left
                .checked_sub(piece.len() as u64)
                .ok_or_else(|| self.too_large())?;
            self.telling.more(self.limit.0 - left, size);
            if sender.send(piece).await.is_err() {
                return Ok(());
            }
        }
    }

    fn too_large(self) -> FetchError {
        FetchError::TooLarge {
            address: self.address.to_owned(),
            limit: self.limit,
        }
    }
}

fn write(
    mut writer: BlobWriter,
    mut pieces: mpsc::Receiver<bytes::Bytes>,
) -> Result<BlobWriter, firebuild_store::Error> {
    while let Some(piece) = pieces.blocking_recv() {
        writer.write_all(&piece).map_err(store_error)?;
    }
    Ok(writer)
}

/// A blob's writer fails with I/O errors that hold the store's own.
fn store_error(error: std::io::Error) -> firebuild_store::Error {
    match error.downcast::<firebuild_store::Error>() {
        Ok(error) => error,
        Err(source) => firebuild_store::Error::Io {
            doing: "keep a download".to_owned(),
            source,
        },
    }
}
