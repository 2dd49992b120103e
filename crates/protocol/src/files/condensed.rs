//! A stream of bytes in which runs of zeros cost next to nothing: sparse files are mostly that, and a
//! guest's way to its host is slow where it is emulated.
//!
//! It is a sequence of records: four bytes, big-endian, whose highest bit says whether that many zeros are
//! meant, or that many bytes follow. It ends between two records.

use std::io::{self, Read, Write};

/// What says that zeros are meant.
const ZEROS: u32 = 1 << 31;

/// The most bytes of one record.
const LONGEST: usize = 64 << 10;

/// Zeros are looked for in pieces of this length, as file systems keep them.
const PIECE: usize = 4096;

/// Writes a stream in this form. What was written is passed on with [`finish`](Self::finish) at the
/// latest.
#[derive(Debug)]
pub struct Condenser<W> {
    output: W,
    /// Bytes that are not passed on yet, less than [`LONGEST`].
    waiting: Vec<u8>,
    /// Zeros before those.
    zeros: u32,
}

impl<W: Write> Condenser<W> {
    /// A stream that goes to `output`.
    pub fn new(output: W) -> Self {
        Self {
            output,
            waiting: Vec::with_capacity(LONGEST),
            zeros: 0,
        }
    }

    /// Passes on what is left, and returns the output.
    ///
    /// # Errors
    /// Those of the output.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        Ok(self.output)
    }

    /// Passes on what waits.
    fn pass(&mut self) -> io::Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let mut begin = 0;
        let mut at = 0;
        while at < waiting.len() {
            let end = waiting.len().min(at + PIECE);
            if waiting[at..end].iter().all(|byte| *byte == 0) {
                self.plain(&waiting[begin..at])?;
                self.more_zeros(end - at)?;
                begin = end;
            }
            at = end;
        }
        self.plain(&waiting[begin..])?;
        self.waiting = waiting;
        self.waiting.clear();
        Ok(())
    }

    fn more_zeros(&mut self, count: usize) -> io::Result<()> {
        // A piece, at most.
        let count = u32::try_from(count).unwrap_or(0);
        if self.zeros + count >= ZEROS {
            self.pass_zeros()?;
        }
        self.zeros += count;
        Ok(())
    }

    fn pass_zeros(&mut self) -> io::Result<()> {
        match std::mem::take(&mut self.zeros) {
            0 => Ok(()),
            zeros => self.output.write_all(&(ZEROS | zeros).to_be_bytes()),
        }
    }

    fn plain(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.pass_zeros()?;
        let length = u32::try_from(bytes.len()).unwrap_or(0);
        self.output.write_all(&length.to_be_bytes())?;
        self.output.write_all(bytes)
    }
}

impl<W: Write> Write for Condenser<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(LONGEST - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..taken]);
        if self.waiting.len() == LONGEST {
            self.pass()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass()?;
        self.pass_zeros()?;
        self.output.flush()
    }
}

/// Reads a stream in this form.
#[derive(Debug)]
pub struct Expander<R> {
    input: R,
    /// How much of the current record is left.
    left: u32,
    /// Whether it is zeros.
    zeros: bool,
}

impl<R: Read> Expander<R> {
    /// A stream that comes from `input`.
    pub fn new(input: R) -> Self {
        Self {
            input,
            left: 0,
            zeros: false,
        }
    }

    /// The head of the next record; none at the end.
    fn next(&mut self) -> io::Result<Option<u32>> {
        let mut head = [0; 4];
        let mut have = 0;
        while have < head.len() {
            match self.input.read(&mut head[have..]) {
                Ok(0) if have == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(more) => have += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(u32::from_be_bytes(head)))
    }
}

impl<R: Read> Read for Expander<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.left == 0 {
            let Some(head) = self.next()? else {
                return Ok(0);
            };
            self.zeros = head & ZEROS != 0;
            self.left = head & !ZEROS;
        }
        let most = buffer.len().min(self.left as usize);
        let read = match self.zeros {
            true => {
                buffer[..most].fill(0);
                most
            }
            false => match self.input.read(&mut buffer[..most])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => read,
            },
        };
        // No more than was left.
        self.left -= u32::try_from(read).unwrap_or(self.left);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn condensed(parts: &[Vec<u8>]) -> Vec<u8> {
        let mut condenser = Condenser::new(Vec::new());
        for part in parts {
            condenser.write_all(part).unwrap();
        }
        condenser.finish().unwrap()
    }

    fn expanded(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        Expander::new(bytes).read_to_end(&mut all).map(|_| all)
    }

    #[test]
    fn zeros_cost_nothing() {
        let parts = [b"begin".to_vec(), vec![0; 100 << 20], b"end".to_vec()];
        let short = condensed(&parts);
        assert!(short.len() < 3 * PIECE, "{}", short.len());
        assert!(expanded(&short).unwrap() == parts.concat());
        // More than one record can mean.
        let mut condenser = Condenser::new(Vec::new());
        io::copy(&mut io::repeat(0).take(2 << 30), &mut condenser).unwrap();
        let short = condenser.finish().unwrap();
        assert_eq!(short.len(), 4 * 2);
        let length = io::copy(&mut Expander::new(&short[..]), &mut io::sink()).unwrap();
        assert_eq!(length, 2 << 30);
    }

    #[test]
    fn what_breaks_off_is_an_error() {
        let whole = condensed(&[b"some bytes".to_vec()]);
        assert_eq!(whole.len(), 14);
        for length in 1..whole.len() {
            let error = expanded(&whole[..length]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length}");
        }
        assert_eq!(expanded(b"").unwrap(), b"");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(parts in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..9000),
                (0..200_000_usize).prop_map(|length| vec![0; length]),
            ],
            0..8,
        )) {
            prop_assert!(expanded(&condensed(&parts)).unwrap() == parts.concat());
        }

        #[test]
        fn anything_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut expander = Expander::new(&bytes[..]).take(1 << 20);
            let _ = io::copy(&mut expander, &mut io::sink());
        }
    }
}
