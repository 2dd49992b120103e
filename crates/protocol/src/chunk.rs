//! Cutting bytes into checked pieces, and putting them together again.
//!
//! Every piece carries the SHA-256 of its data; the last carries no data and the SHA-256 of the
//! whole. A receiver checks each piece, the whole, and that nothing follows the end.

use firebuild_core::{Digest, Hasher};

use crate::v1::Chunk;

/// The size of the pieces that firebuild sends, in bytes.
pub const SIZE: usize = 1 << 20;

/// Makes the pieces of one stream of bytes.
#[derive(Debug, Default)]
pub struct Sender(Hasher);

/// Checks the pieces of one stream of bytes.
#[derive(Debug, Default)]
pub struct Receiver {
    hasher: Hasher,
    received: u64,
    ended: bool,
}

/// Why a received piece is not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// A piece's checksum does not match its data.
    #[error("the checksum of the chunk at byte {0} does not match its data")]
    Checksum(u64),
    /// The whole's checksum does not match.
    #[error("the checksum of the whole does not match the {0} bytes received")]
    Whole(u64),
    /// A piece came after the last one.
    #[error("a chunk came after the last one")]
    AfterEnd,
    /// The stream ended without its last piece.
    #[error("the stream ended after {0} bytes, without its last chunk")]
    Truncated(u64),
    /// A chunk without data that is not the last one.
    #[error("an empty chunk came before the last one")]
    Empty,
    /// More bytes than the receiver allows.
    #[error("more than {0} bytes came")]
    TooLong(u64),
}

impl Sender {
    /// A piece with `data`, which must not be empty.
    pub fn piece(&mut self, data: Vec<u8>) -> Chunk {
        self.0.update(&data);
        let checksum = Digest::of(&data).bytes().to_vec();
        Chunk {
            data: data.into(),
            checksum: checksum.into(),
            eof: false,
        }
    }

    /// The last piece.
    #[must_use]
    pub fn end(self) -> Chunk {
        let checksum = self.0.finish().bytes().to_vec();
        Chunk {
            data: Vec::new().into(),
            checksum: checksum.into(),
            eof: true,
        }
    }
}

impl Receiver {
    /// Checks a piece and returns its data; `None` for the last piece.
    ///
    /// # Errors
    /// [`ChunkError`] if the piece or the whole is not what its sender hashed, or if more than
    /// `limit` bytes come in all.
    pub fn accept(&mut self, chunk: Chunk, limit: u64) -> Result<Option<bytes::Bytes>, ChunkError> {
        if self.ended {
            return Err(ChunkError::AfterEnd);
        }
        if chunk.eof {
            let whole = std::mem::take(&mut self.hasher).finish();
            if !chunk.data.is_empty() || chunk.checksum != whole.bytes()[..] {
                return Err(ChunkError::Whole(self.received));
            }
            self.ended = true;
            return Ok(None);
        }
        if chunk.data.is_empty() {
            return Err(ChunkError::Empty);
        }
        if chunk.checksum != Digest::of(&chunk.data).bytes()[..] {
            return Err(ChunkError::Checksum(self.received));
        }
        self.received += chunk.data.len() as u64;
        if self.received > limit {
            return Err(ChunkError::TooLong(limit));
        }
        self.hasher.update(&chunk.data);
        Ok(Some(chunk.data))
    }

    /// To be called when the stream has ended.
    ///
    /// # Errors
    /// [`ChunkError::Truncated`] if the last piece is missing.
    pub fn finish(self) -> Result<u64, ChunkError> {
        if self.ended {
            Ok(self.received)
        } else {
            Err(ChunkError::Truncated(self.received))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent() -> Vec<Chunk> {
        let mut sender = Sender::default();
        vec![
            sender.piece(b"ab".to_vec()),
            sender.piece(b"c".to_vec()),
            sender.end(),
        ]
    }

    fn received(chunks: Vec<Chunk>, limit: u64) -> Result<(Vec<u8>, u64), ChunkError> {
        let mut receiver = Receiver::default();
        let mut bytes = Vec::new();
        for chunk in chunks {
            if let Some(data) = receiver.accept(chunk, limit)? {
                bytes.extend_from_slice(&data);
            }
        }
        Ok((bytes, receiver.finish()?))
    }

    #[test]
    fn arrives_as_sent() {
        assert_eq!(received(sent(), 3), Ok((b"abc".to_vec(), 3)));
        assert_eq!(
            received(vec![Sender::default().end()], 0),
            Ok((Vec::new(), 0))
        );
    }

    #[test]
    fn every_change_is_found() {
        let mut chunks = sent();
        chunks[1].data = b"d".to_vec().into();
        assert_eq!(received(chunks, 9), Err(ChunkError::Checksum(2)));
        let mut chunks = sent();
        chunks.swap(0, 1);
        assert_eq!(received(chunks, 9), Err(ChunkError::Whole(3)));
        let mut chunks = sent();
        chunks.pop();
        assert_eq!(received(chunks, 9), Err(ChunkError::Truncated(3)));
        let mut chunks = sent();
        chunks.push(chunks[0].clone());
        assert_eq!(received(chunks, 9), Err(ChunkError::AfterEnd));
        assert_eq!(received(sent(), 2), Err(ChunkError::TooLong(2)));
        let empty = Chunk {
            checksum: Digest::of(b"").bytes().to_vec().into(),
            ..Chunk::default()
        };
        assert_eq!(received(vec![empty], 9), Err(ChunkError::Empty));
    }
}
