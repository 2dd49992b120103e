//! Unpacks what kernel builds compress: kernels in bzImages, and modules.
//!
//! The format is known by its first bytes. Output is bounded, whatever the input claims.

use std::io::{self, Read};

/// The largest kernel or module that is unpacked, in bytes.
const LIMIT: u64 = 512 << 20;
/// The most that one block of the kernel's LZ4 form unpacks to.
const LZ4_BLOCK: usize = 8 << 20;
const LZ4_LEGACY: &[u8] = &[0x02, 0x21, 0x4c, 0x18];

/// The bytes that `packed` holds; `packed` itself where it is not compressed.
///
/// # Errors
/// `InvalidData` for damaged data, more than 512 MiB, and formats that are not supported.
pub(super) fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut read = |reader: &mut dyn Read| reader.take(LIMIT + 1).read_to_end(&mut bytes);
    match packed {
        [0x1f, 0x8b, ..] => read(&mut flate2::read::GzDecoder::new(packed))?,
        [0xfd, b'7', b'z', b'X', b'Z', ..] => read(&mut liblzma::read::XzDecoder::new(packed))?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            read(&mut zstd::Decoder::with_buffer(packed)?.single_frame())?
        }
        [0x02, 0x21, 0x4c, 0x18, ..] => read(&mut lz4_legacy(packed)?.as_slice())?,
        [b'B', b'Z', b'h', ..] => return Err(unsupported("bzip2")),
        [0x5d, 0, 0, ..] => return Err(unsupported("lzma")),
        [0x89, b'L', b'Z', b'O', ..] => return Err(unsupported("lzo")),
        plain => read(&mut &*plain)?,
    };
    if bytes.len() as u64 > LIMIT {
        return Err(invalid("it unpacks to more than 512 MiB"));
    }
    Ok(bytes)
}

/// The form that `lz4 -l` writes and kernels are packed in: blocks preceded by their packed
/// lengths. What follows the last whole block is the unpacked length, which the kernel appends.
fn lz4_legacy(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut rest = packed.strip_prefix(LZ4_LEGACY).unwrap_or_default();
    let mut bytes = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((block, after)) = after.split_at_checked(length) else {
            break;
        };
        let block = lz4_flex::block::decompress(block, LZ4_BLOCK)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        bytes.extend_from_slice(&block);
        if bytes.len() as u64 > LIMIT {
            return Err(invalid("it unpacks to more than 512 MiB"));
        }
        rest = after;
    }
    match rest {
        [] => Ok(bytes),
        // The unpacked length modulo 2^32.
        [a, b, c, d] if u32::from_le_bytes([*a, *b, *c, *d]) as usize == bytes.len() => Ok(bytes),
        _ => Err(invalid("its LZ4 data is cut off")),
    }
}

fn unsupported(format: &str) -> io::Error {
    invalid(&format!("{format} compression is not supported"))
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    fn packed(tool: &str, arguments: &[&str], bytes: &[u8]) -> Vec<u8> {
        let mut child = Command::new(tool)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let owned = bytes.to_vec();
        let writer = std::thread::spawn(move || input.write_all(&owned));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert!(output.status.success(), "{tool}");
        output.stdout
    }

    #[test]
    fn unpacks_what_the_tools_pack() {
        let bytes: Vec<u8> = (0..20_000_000_u32)
            .map(|n| (n / 1000 % 251) as u8)
            .collect();
        for (tool, arguments) in [
            ("gzip", &["-1"][..]),
            ("xz", &["-0", "--check=crc32"]),
            ("zstd", &["-1"]),
            ("lz4", &["-l", "-1"]),
        ] {
            let packed = packed(tool, arguments, &bytes);
            assert!(packed.len() < bytes.len() / 2, "{tool}");
            assert!(unpack(&packed).unwrap() == bytes, "{tool}");
            assert!(unpack(&packed[..packed.len() / 2]).is_err(), "{tool}");
        }
        assert_eq!(unpack(b"plain").unwrap(), b"plain");
        assert!(unpack(b"BZh9").unwrap_err().to_string().contains("bzip2"));
    }

    #[test]
    fn the_kernels_length_may_follow_its_lz4_blocks() {
        let bytes = vec![7; 100_000];
        let mut packed = packed("lz4", &["-l"], &bytes);
        packed.extend(100_000_u32.to_le_bytes());
        assert_eq!(unpack(&packed).unwrap(), bytes);
        packed.extend([1]);
        assert!(unpack(&packed).is_err());
    }
}
