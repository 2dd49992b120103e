//! Compressed bytes, told by how they begin.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::Stream;

/// The most memory that an xz archive may ask for: what its highest preset needs.
const XZ_MEMORY: u64 = 96 << 20;

type Start<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// Bytes as they were before they were compressed by gzip, zstd, xz or nothing.
pub(crate) enum Decompressed<R: Read> {
    Plain(Start<R>),
    Gzip(Box<MultiGzDecoder<Start<R>>>),
    Zstd(Box<zstd::Decoder<'static, Start<R>>>),
    Xz(Box<XzDecoder<Start<R>>>),
}

impl<R: Read> Decompressed<R> {
    pub(crate) fn new(mut input: R) -> io::Result<Self> {
        let mut start = Vec::new();
        input.by_ref().take(6).read_to_end(&mut start)?;
        let kind = start.clone();
        let input = BufReader::with_capacity(128 << 10, Cursor::new(start).chain(input));
        Ok(match kind.as_slice() {
            [0x1f, 0x8b, ..] => Self::Gzip(Box::new(MultiGzDecoder::new(input))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                Self::Zstd(Box::new(zstd::Decoder::with_buffer(input)?))
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0] => {
                let stream = Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
                Self::Xz(Box::new(XzDecoder::new_stream(input, stream)))
            }
            _ => Self::Plain(input),
        })
    }

    /// Reads what follows the compressed bytes, so that a hash over the input sees all of it.
    pub(crate) fn drain(self) -> io::Result<()> {
        let mut rest: Box<dyn BufRead + '_> = match self {
            Self::Plain(input) => Box::new(input),
            Self::Gzip(decoder) => Box::new(decoder.into_inner()),
            Self::Zstd(decoder) => Box::new(decoder.finish()),
            Self::Xz(decoder) => Box::new(decoder.into_inner()),
        };
        io::copy(&mut rest, &mut io::sink()).map(|_| ())
    }
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(input) => input.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
            Self::Xz(decoder) => decoder.read(buffer),
        }
    }
}
