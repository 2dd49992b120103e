//! Compressed bytes, told by how they begin.

use std::io::{self, BufReader, Chain, Cursor, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::Stream;

/// The most memory that an xz archive may ask for: what its highest preset needs.
const XZ_MEMORY: u64 = 96 << 20;

type Start<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// Bytes as they were before they were compressed by gzip, bzip2, xz, zstd or nothing.
pub struct Decompressed<R: Read>(Kind<R>);

enum Kind<R: Read> {
    Plain(Start<R>),
    Gzip(Box<MultiGzDecoder<Start<R>>>),
    Bzip2(Box<MultiBzDecoder<Start<R>>>),
    Zstd(Box<zstd::Decoder<'static, Start<R>>>),
    Xz(Box<XzDecoder<Start<R>>>),
}

impl<R: Read> Decompressed<R> {
    /// Tells from the first bytes how the input is compressed.
    ///
    /// # Errors
    /// Those of the input; no memory for a decoder.
    pub fn new(mut input: R) -> io::Result<Self> {
        let mut start = Vec::new();
        input.by_ref().take(6).read_to_end(&mut start)?;
        let kind = start.clone();
        let input = BufReader::with_capacity(128 << 10, Cursor::new(start).chain(input));
        Ok(Self(match kind.as_slice() {
            [0x1f, 0x8b, ..] => Kind::Gzip(Box::new(MultiGzDecoder::new(input))),
            [b'B', b'Z', b'h', ..] => Kind::Bzip2(Box::new(MultiBzDecoder::new(input))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                Kind::Zstd(Box::new(zstd::Decoder::with_buffer(input)?))
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0] => {
                let stream = Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
                Kind::Xz(Box::new(XzDecoder::new_stream(input, stream)))
            }
            _ => Kind::Plain(input),
        }))
    }

    /// Reads what follows the compressed bytes, so that a hash over the input sees all of it, and
    /// gives the input back.
    ///
    /// # Errors
    /// Those of the input.
    pub fn drain(self) -> io::Result<R> {
        let mut rest = match self.0 {
            Kind::Plain(input) => input,
            Kind::Gzip(decoder) => decoder.into_inner(),
            Kind::Bzip2(decoder) => decoder.into_inner(),
            Kind::Zstd(decoder) => decoder.finish(),
            Kind::Xz(decoder) => decoder.into_inner(),
        };
        io::copy(&mut rest, &mut io::sink())?;
        Ok(rest.into_inner().into_inner().1)
    }
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Plain(input) => input.read(buffer),
            Kind::Gzip(decoder) => decoder.read(buffer),
            Kind::Bzip2(decoder) => decoder.read(buffer),
            Kind::Zstd(decoder) => decoder.read(buffer),
            Kind::Xz(decoder) => decoder.read(buffer),
        }
    }
}

impl<R: Read> std::fmt::Debug for Decompressed<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &self.0 {
            Kind::Plain(_) => "Decompressed(plain)",
            Kind::Gzip(_) => "Decompressed(gzip)",
            Kind::Bzip2(_) => "Decompressed(bzip2)",
            Kind::Zstd(_) => "Decompressed(zstd)",
            Kind::Xz(_) => "Decompressed(xz)",
        })
    }
}
