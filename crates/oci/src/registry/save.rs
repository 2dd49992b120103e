//! A blob on its way into a file: written on a thread of its own, beside the network.

use std::io::{self, Write};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::BlobStream;
use crate::error::{Error, Result};

/// Pieces that may wait for the disk.
const PIECES: usize = 16;

impl BlobStream {
    /// Writes all that is to come. After an error the output is gone.
    ///
    /// # Errors
    /// [`Error::Registry`]; [`Error::Io`], [`Error::Store`] if it cannot be written.
    pub async fn save<W: Write + Send + 'static>(mut self, output: W) -> Result<W> {
        let (sender, receiver) = mpsc::channel(PIECES);
        let writing = tokio::task::spawn_blocking(move || write(output, receiver));
        let received = self.pump(sender).await;
        let written = writing.await.map_err(io::Error::other).flatten();
        let fail = |error| Error::io(error, || format!("keep {}", self.what()));
        let output = written.map_err(fail)?;
        received?;
        Ok(output)
    }

    /// A writer that is gone has an error to tell.
    async fn pump(&mut self, sender: mpsc::Sender<Bytes>) -> Result<()> {
        while let Some(piece) = self.next().await? {
            if sender.send(piece).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

fn write<W: Write>(mut output: W, mut pieces: mpsc::Receiver<Bytes>) -> io::Result<W> {
    while let Some(piece) = pieces.blocking_recv() {
        output.write_all(&piece)?;
    }
    output.flush()?;
    Ok(output)
}
