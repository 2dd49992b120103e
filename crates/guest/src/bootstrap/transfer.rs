//! Layers on their way: from the disk to the host, and from the host to the disk. Files are read
//! and written on a thread of their own, the network is served by the agent's one; a few pieces
//! are under way between them, never more.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::{Buf as _, Bytes};
use firebuild_core::tree::Metadata;
use firebuild_protocol::chunk::{Receiver, SIZE, Sender};
use firebuild_protocol::v1::bootstrap_client::BootstrapClient;
use firebuild_protocol::v1::{Chunk, LayerChunk, ResourceRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::{changes, lay};
use crate::error::{GuestError, Result, call};

/// How many pieces of a megabyte may wait.
const WAITING: usize = 2;
/// The largest layer that is taken from the host, in bytes.
const LARGEST: u64 = 1 << 42;
/// The largest resource that is kept in memory, in bytes.
const LARGEST_FILE: u64 = 4 << 20;

/// What an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A layer, with whiteouts.
    Layer,
    /// Files of any names.
    Plain,
}

/// Sends the content of `upper` as the layer that `command` made.
pub(super) async fn send_layer(
    client: &mut BootstrapClient<Channel>,
    command: u32,
    upper: PathBuf,
    below: Metadata,
) -> Result<()> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let scan = tokio::task::spawn_blocking(move || {
        let pieces = Pieces {
            command,
            buffer: Vec::new(),
            sender: Sender::default(),
            to: sender,
        };
        changes::write(&upper, &below, pieces)?.end()
    });
    let answer = client.layer(ReceiverStream::new(receiver)).await;
    // A failure here is why the stream ended early, so it comes first.
    let scanned = scan
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)));
    match (scanned, answer) {
        (Ok(()), answer) => answer.map(|_| ()).map_err(call("Layer")),
        (Err(error), Err(status)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(call("Layer")(status))
        }
        (Err(source), _) => Err(GuestError::System {
            action: "read what the step changed".to_owned(),
            source,
        }),
    }
}

/// A writer that cuts what it is given into checked pieces.
struct Pieces {
    command: u32,
    buffer: Vec<u8>,
    sender: Sender,
    to: mpsc::Sender<LayerChunk>,
}

impl Pieces {
    fn send(&mut self, chunk: Chunk) -> io::Result<()> {
        let chunk = LayerChunk {
            command: self.command,
            chunk: Some(chunk),
        };
        self.to
            .blocking_send(chunk)
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn send_buffer(&mut self) -> io::Result<()> {
        let data = std::mem::take(&mut self.buffer);
        if data.is_empty() {
            return Ok(());
        }
        let piece = self.sender.piece(data);
        self.send(piece)
    }

    fn end(mut self) -> io::Result<()> {
        self.send_buffer()?;
        let end = std::mem::take(&mut self.sender).end();
        self.send(end)
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(SIZE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == SIZE {
            self.send_buffer()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Fetches the resource and unpacks it in `directory`, which exists and is empty. Every piece is
/// checked before it is used, and the whole before this returns.
pub(super) async fn lay_resource(
    client: &mut BootstrapClient<Channel>,
    resource: &str,
    directory: &Path,
    form: Form,
) -> Result<()> {
    let mut stream = open(client, resource).await?;
    let (sender, receiver) = mpsc::channel(WAITING);
    let directory = directory.to_owned();
    let laying = tokio::task::spawn_blocking(move || {
        let mut bytes = Arriving {
            current: Bytes::new(),
            from: receiver,
        };
        let result = match form {
            Form::Layer => lay::unpack(&mut bytes, &directory),
            Form::Plain => lay::unpack_plain(&mut bytes, &directory),
        };
        // What follows the archive's end belongs to the resource and is checked with it.
        if result.is_ok() {
            while bytes.from.blocking_recv().is_some() {}
        }
        result
    });
    let received = receive(&mut stream, sender).await;
    let laid = laying
        .await
        .unwrap_or_else(|error| Err(GuestError::Layer(error.to_string())));
    received.and(laid)
}

/// Fetches a small resource.
pub(super) async fn fetch(
    client: &mut BootstrapClient<Channel>,
    resource: &str,
) -> Result<Vec<u8>> {
    let damaged = |error: firebuild_protocol::chunk::ChunkError| {
        GuestError::Told(format!("`{resource}`: {error}"))
    };
    let mut stream = open(client, resource).await?;
    let (mut receiver, mut content) = (Receiver::default(), Vec::new());
    while let Some(chunk) = stream.message().await.map_err(call("ResourceChunk"))? {
        if let Some(data) = receiver.accept(chunk, LARGEST_FILE).map_err(damaged)? {
            content.extend_from_slice(&data);
        }
    }
    receiver.finish().map_err(damaged)?;
    Ok(content)
}

async fn open(
    client: &mut BootstrapClient<Channel>,
    resource: &str,
) -> Result<tonic::Streaming<Chunk>> {
    let request = ResourceRequest {
        path: resource.to_owned(),
    };
    let answer = client.resource_chunk(request).await;
    Ok(answer.map_err(call("ResourceChunk"))?.into_inner())
}

async fn receive(stream: &mut tonic::Streaming<Chunk>, sender: mpsc::Sender<Bytes>) -> Result<()> {
    let damaged =
        |error: firebuild_protocol::chunk::ChunkError| GuestError::Layer(error.to_string());
    let mut receiver = Receiver::default();
    while let Some(chunk) = stream.message().await.map_err(call("ResourceChunk"))? {
        let Some(data) = receiver.accept(chunk, LARGEST).map_err(damaged)? else {
            continue;
        };
        if sender.send(data).await.is_err() {
            // The other side has failed, and says why.
            return Ok(());
        }
    }
    receiver.finish().map_err(damaged)?;
    Ok(())
}

/// A reader of pieces that arrive. Its end is the archive's, or that of a stream that failed.
struct Arriving {
    current: Bytes,
    from: mpsc::Receiver<Bytes>,
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() {
            match self.from.blocking_recv() {
                Some(bytes) => self.current = bytes,
                None => return Ok(0),
            }
        }
        let length = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
