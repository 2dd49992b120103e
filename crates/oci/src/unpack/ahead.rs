//! A reader that another thread reads ahead, so that what it does for its bytes (decompress them,
//! hash them, fetch them) goes on beside what is done with them.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use firebuild_core::{Digest, Hasher};

/// Bytes that pass at once.
const PIECE: usize = 128 << 10;

/// Pieces that wait, so that neither side waits for the other's every hiccup.
const WAITING: usize = 4;

/// The end of a reader that another thread reads. At the end of the input, [`Ahead::finish`] gives
/// the reader back.
pub(super) struct Ahead<'s, R> {
    pieces: Receiver<io::Result<Vec<u8>>>,
    /// Pieces that have been used, to be filled again.
    empty: std::sync::mpsc::Sender<Vec<u8>>,
    piece: Vec<u8>,
    position: usize,
    ended: bool,
    /// Of all pieces, if it is wanted, and their length.
    hasher: Option<Hasher>,
    length: u64,
    thread: ScopedJoinHandle<'s, R>,
}

/// Reads `input` in a thread of its own. The thread ends with the input, at an error, or when the
/// returned end is dropped.
pub(super) fn read_ahead<'s, R: Read + Send + 's>(
    scope: &'s Scope<'s, '_>,
    mut input: R,
) -> Ahead<'s, R> {
    let (full, pieces) = sync_channel(WAITING);
    let (empty, used) = channel();
    let thread = scope.spawn(move || {
        pump(&mut input, &full, &used);
        input
    });
    Ahead {
        pieces,
        empty,
        piece: Vec::new(),
        position: 0,
        ended: false,
        hasher: None,
        length: 0,
        thread,
    }
}

fn pump(input: &mut impl Read, full: &SyncSender<io::Result<Vec<u8>>>, used: &Receiver<Vec<u8>>) {
    loop {
        let mut piece = used.try_recv().unwrap_or_default();
        let result = fill(input, &mut piece);
        let last = !matches!(&result, Ok(more) if *more);
        let sent = full.send(result.map(|_| piece));
        if last || sent.is_err() {
            return;
        }
    }
}

/// Fills a piece as far as there is input; false at its end.
fn fill(input: &mut impl Read, piece: &mut Vec<u8>) -> io::Result<bool> {
    piece.resize(PIECE, 0);
    let mut filled = 0;
    while filled < PIECE {
        match input.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    piece.truncate(filled);
    Ok(filled == PIECE)
}

impl<R> Ahead<'_, R> {
    /// Hashes what comes, if it is wanted.
    pub(super) fn hashing(mut self, wanted: bool) -> Self {
        self.hasher = wanted.then(Hasher::new);
        self
    }

    /// The digest of what came, if it was hashed, and its length.
    pub(super) fn seen(&self) -> (Option<Digest>, u64) {
        (self.hasher.clone().map(Hasher::finish), self.length)
    }

    /// The reader, which has been read as far as it went. None if its thread died.
    pub(super) fn finish(self) -> Option<R> {
        drop((self.pieces, self.empty));
        self.thread.join().ok()
    }

    fn next_piece(&mut self) -> io::Result<()> {
        let used = std::mem::take(&mut self.piece);
        // Nobody needs it where the other side has ended.
        let _ = self.empty.send(used);
        self.position = 0;
        match self.pieces.recv() {
            Ok(piece) => {
                self.piece = piece?;
                self.ended = self.piece.len() < PIECE;
                self.length += self.piece.len() as u64;
                if let Some(hasher) = &mut self.hasher {
                    hasher.update(&self.piece);
                }
                Ok(())
            }
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl<R> BufRead for Ahead<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.piece.len() && !self.ended {
            self.next_piece()?;
        }
        Ok(&self.piece[self.position..])
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount;
    }
}

impl<R> Read for Ahead<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let size = ready.len().min(buffer.len());
        buffer[..size].copy_from_slice(&ready[..size]);
        self.consume(size);
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_all_bytes_and_the_reader() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 9 * PIECE] {
            let bytes: Vec<u8> = (0..length).map(|at| usize::to_le_bytes(at)[0]).collect();
            std::thread::scope(|scope| {
                let mut ahead = read_ahead(scope, bytes.as_slice());
                let mut read = Vec::new();
                ahead.read_to_end(&mut read).unwrap();
                assert_eq!(read, bytes);
                assert_eq!(ahead.finish(), Some([].as_slice()));
            });
        }
    }

    #[test]
    fn an_error_comes_through_and_dropping_ends_the_thread() {
        struct Fails(u32);
        impl Read for Fails {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                if self.0 > 20 {
                    return Err(io::Error::other("enough"));
                }
                Ok(buffer.len())
            }
        }
        std::thread::scope(|scope| {
            let mut ahead = read_ahead(scope, Fails(0));
            let error = io::copy(&mut ahead, &mut io::sink()).unwrap_err();
            assert_eq!(error.to_string(), "enough");
            drop(ahead);
            drop(read_ahead(scope, io::repeat(0)));
        });
    }
}
