//! One header block: the v7, ustar, GNU and star forms.
//!
//! Numbers are octal text or, in GNU's extension, big-endian base 256 with the highest bit set.

use super::BLOCK;
use super::limits::Fault;

/// Which tool's form a header has; it decides what the last 255 bytes mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Nothing after the link's name.
    V7,
    /// A prefix of the path, this many bytes long.
    Ustar(usize),
    /// Sparse files' maps.
    Gnu,
}

/// A header block whose checksum is right.
#[derive(Debug)]
pub(super) struct Header {
    block: Box<[u8; BLOCK]>,
    form: Form,
}

impl Header {
    pub(super) fn parse(block: Box<[u8; BLOCK]>) -> Result<Self, Fault> {
        let not_an_archive = || {
            Fault::new("its header's checksum is wrong: this is no tar archive, or a damaged one")
        };
        let expected = number(&block[148..156]).map_err(|_| not_an_archive())?;
        // Some old tools summed signed bytes.
        if checksum(&block, i64::from) != expected
            && checksum(&block, |byte| i64::from(byte.cast_signed())) != expected
        {
            return Err(not_an_archive());
        }
        let form = match &block[257..265] {
            b"ustar  \0" => Form::Gnu,
            magic if magic.starts_with(b"ustar") && &block[508..512] == b"tar\0" => {
                Form::Ustar(131)
            }
            magic if magic.starts_with(b"ustar") => Form::Ustar(155),
            _ => Form::V7,
        };
        Ok(Self { block, form })
    }

    pub(super) fn kind(&self) -> u8 {
        self.block[156]
    }

    /// The path, with its prefix.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(&self.block[..100]);
        match self.form {
            Form::Ustar(length) => {
                let prefix = text(&self.block[345..345 + length]);
                if prefix.is_empty() {
                    name.to_vec()
                } else {
                    [prefix, b"/", name].concat()
                }
            }
            _ => name.to_vec(),
        }
    }

    pub(super) fn link(&self) -> &[u8] {
        text(&self.block[157..257])
    }

    /// Permission, set-id and sticky bits; some tools put the file's type above them.
    pub(super) fn mode(&self) -> Result<u16, Fault> {
        let mode = number(&self.block[100..108])?;
        u16::try_from(mode & 0o7777).map_err(|_| Fault::new("its mode is not valid"))
    }

    pub(super) fn uid(&self) -> Result<u32, Fault> {
        unsigned(&self.block[108..116], "owner")
    }

    pub(super) fn gid(&self) -> Result<u32, Fault> {
        unsigned(&self.block[116..124], "group")
    }

    pub(super) fn size(&self) -> Result<u64, Fault> {
        unsigned(&self.block[124..136], "size")
    }

    pub(super) fn mtime(&self) -> Result<i64, Fault> {
        number(&self.block[136..148])
    }

    pub(super) fn device_major(&self) -> Result<u32, Fault> {
        match self.form {
            Form::V7 => Ok(0),
            _ => unsigned(&self.block[329..337], "device number"),
        }
    }

    pub(super) fn device_minor(&self) -> Result<u32, Fault> {
        match self.form {
            Form::V7 => Ok(0),
            _ => unsigned(&self.block[337..345], "device number"),
        }
    }

    /// The four runs of an old GNU sparse file's map, and whether more blocks of it follow.
    pub(super) fn sparse_map(&self) -> Result<(Vec<(u64, u64)>, bool), Fault> {
        if self.form != Form::Gnu {
            return Err(Fault::new("a sparse file needs the GNU form of header"));
        }
        Ok((sparse_runs(&self.block[386..482])?, self.block[482] != 0))
    }

    /// The length of an old GNU sparse file with its holes.
    pub(super) fn real_size(&self) -> Result<u64, Fault> {
        unsigned(&self.block[483..495], "size")
    }
}

/// The sum of all bytes, with the checksum's own field as blanks.
fn checksum(block: &[u8; BLOCK], value: impl Fn(u8) -> i64) -> i64 {
    let sum = |bytes: &[u8]| -> i64 { bytes.iter().map(|byte| value(*byte)).sum() };
    sum(block) - sum(&block[148..156]) + 8 * i64::from(b' ')
}

/// The runs in a piece of a sparse map: offset and length, until one that is empty.
pub(super) fn sparse_runs(map: &[u8]) -> Result<Vec<(u64, u64)>, Fault> {
    map.chunks_exact(24)
        .take_while(|run| run[0] != 0)
        .map(|run| {
            let start = unsigned(&run[..12], "sparse map")?;
            let length = unsigned(&run[12..], "sparse map")?;
            Ok((start, length))
        })
        .collect()
}

/// The field up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn unsigned<T: TryFrom<i64>>(field: &[u8], what: &str) -> Result<T, Fault> {
    T::try_from(number(field)?).map_err(|_| Fault::new(format!("its {what} is out of range")))
}

fn number(field: &[u8]) -> Result<i64, Fault> {
    let out_of_range = || Fault::new("a number in its header is out of range");
    let first = field.first().copied().unwrap_or_default();
    if first & 0x80 == 0 {
        return octal(field);
    }
    // The bit below the marker is the sign.
    let (mut value, mask): (i64, u8) = if first & 0x40 == 0 {
        (0, 0x7f)
    } else {
        (-1, 0xff)
    };
    for (at, byte) in field.iter().enumerate() {
        let byte = if at == 0 { byte & mask } else { *byte };
        value = value
            .checked_mul(256)
            .and_then(|value| value.checked_add(i64::from(byte)))
            .ok_or_else(out_of_range)?;
    }
    Ok(value)
}

fn octal(field: &[u8]) -> Result<i64, Fault> {
    let blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field.iter().position(|byte| !blank(byte));
    let digits = &field[start.unwrap_or(field.len())..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    digits[..end].iter().try_fold(0_i64, |value, digit| {
        if !(b'0'..=b'7').contains(digit) {
            return Err(Fault::new("a number in its header is not octal"));
        }
        Ok(value * 8 + i64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_every_form() {
        let cases: [(&[u8], Option<i64>); 11] = [
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777", Some(0o77_777_777)),
            (b"0000648\0", None),
            (b"-000001\0", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x85",
                Some(-123),
            ),
            (
                b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
                Some(i64::MAX),
            ),
        ];
        for (field, expected) in cases {
            assert_eq!(number(field).ok(), expected, "{field:?}");
        }
    }
}
