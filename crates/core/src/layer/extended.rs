//! Extended headers: the records of the pax form, with GNU's and star's additions.
//!
//! A record is `LENGTH KEY=VALUE\n`, and LENGTH alone says where it ends: values hold any bytes,
//! line feeds too (a `security.capability` may well).

use super::XATTR_PREFIX;
use super::limits::{Fault, Limits};
use super::sparse::SparseRecords;
use crate::tree::{Timestamp, Xattrs};

const LONGEST_XATTR_NAME: usize = 255;
const LONGEST_XATTR_VALUE: usize = 1 << 16;

/// What Linux's overlay file system notes for itself. It shows none of these to anybody, so a layer
/// has them by mistake; in a directory that others are mounted over, they would hide files.
const OVERLAY: &[u8] = b"trusted.overlay.";

/// What extended headers say of an entry, where they say anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) device_major: Option<u32>,
    pub(super) device_minor: Option<u32>,
    pub(super) xattrs: Xattrs,
    /// Bytes of their names and values.
    xattr_bytes: usize,
    pub(super) sparse: SparseRecords,
}

impl Extended {
    /// Takes the records of one extended header over what was known before.
    pub(super) fn take(&mut self, mut records: &[u8], limits: &Limits) -> Result<(), Fault> {
        while !records.is_empty() {
            let (key, value, rest) = split_record(records)?;
            self.record(key, value, limits)?;
            records = rest;
        }
        Ok(())
    }

    /// Bytes of memory, about.
    pub(super) fn size(&self) -> usize {
        let texts = [&self.path, &self.link].into_iter().flatten();
        let texts: usize = texts.map(Vec::len).sum();
        texts + self.xattr_bytes + self.sparse.size()
    }

    fn record(&mut self, key: &[u8], value: &[u8], limits: &Limits) -> Result<(), Fault> {
        if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
            return self.xattr(&unescape(name), value, limits);
        }
        // An empty value takes back what an earlier header said.
        match key {
            b"path" => self.path = some(value).map(<[u8]>::to_vec),
            b"linkpath" => self.link = some(value).map(<[u8]>::to_vec),
            b"size" => self.size = some(value).map(|v| decimal(v, "size")).transpose()?,
            b"uid" => self.uid = some(value).map(|v| decimal(v, "uid")).transpose()?,
            b"gid" => self.gid = some(value).map(|v| decimal(v, "gid")).transpose()?,
            b"mtime" => self.mtime = some(value).map(timestamp).transpose()?,
            b"SCHILY.devmajor" => {
                self.device_major = some(value).map(|v| decimal(v, "devmajor")).transpose()?;
            }
            b"SCHILY.devminor" => {
                self.device_minor = some(value).map(|v| decimal(v, "devminor")).transpose()?;
            }
            _ => self.sparse.record(key, value, limits)?,
        }
        Ok(())
    }

    fn xattr(&mut self, name: &[u8], value: &[u8], limits: &Limits) -> Result<(), Fault> {
        if name.is_empty() || name.len() > LONGEST_XATTR_NAME || name.contains(&0) {
            return Err(Fault::new("an extended attribute's name is not valid"));
        }
        if value.len() > LONGEST_XATTR_VALUE {
            return Err(Fault::new(
                "an extended attribute is longer than 65536 bytes",
            ));
        }
        if name.starts_with(OVERLAY) {
            return Ok(());
        }
        self.xattr_bytes += name.len() + value.len();
        if let Some(old) = self.xattrs.insert(name.into(), value.into()) {
            self.xattr_bytes -= name.len() + old.len();
        }
        if self.xattr_bytes > limits.xattrs {
            return Err(Fault::Limit(
                "bytes of extended attributes",
                limits.xattrs as u64,
            ));
        }
        Ok(())
    }
}

fn some(value: &[u8]) -> Option<&[u8]> {
    Some(value).filter(|value| !value.is_empty())
}

/// Key, value and what follows the record.
type Split<'a> = (&'a [u8], &'a [u8], &'a [u8]);

fn split_record(records: &[u8]) -> Result<Split<'_>, Fault> {
    let broken = || Fault::new("its extended header is damaged");
    let blank = records.iter().take(20).position(|byte| *byte == b' ');
    let blank = blank.ok_or_else(broken)?;
    let length: usize = decimal(&records[..blank], "record's length")?;
    if length <= blank + 1 || length > records.len() {
        return Err(broken());
    }
    let (record, rest) = records.split_at(length);
    let record = record[blank + 1..].strip_suffix(b"\n").ok_or_else(broken)?;
    let equals = record.iter().position(|byte| *byte == b'=');
    let (key, value) = record.split_at(equals.ok_or_else(broken)?);
    Ok((key, &value[1..], rest))
}

pub(super) fn decimal<T: TryFrom<u64>>(text: &[u8], what: &str) -> Result<T, Fault> {
    let wrong = || Fault::new(format!("its extended header's {what} is not valid"));
    if text.is_empty() || text.len() > 20 {
        return Err(wrong());
    }
    let value = text.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.wrapping_sub(b'0');
        value
            .checked_mul(10)
            .filter(|_| digit < 10)
            .and_then(|value| value.checked_add(u64::from(digit)))
    });
    let value = value.ok_or_else(wrong)?;
    T::try_from(value).map_err(|_| wrong())
}

/// Decimal seconds with a sign and a fraction; digits beyond nanoseconds are dropped.
fn timestamp(text: &[u8]) -> Result<Timestamp, Fault> {
    let wrong = || Fault::new("its extended header's mtime is not valid");
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let dot = text.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match dot {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let seconds: i64 = if whole.is_empty() && !fraction.is_empty() {
        0
    } else {
        decimal(whole, "mtime")?
    };
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0'));
    let nanoseconds = digits
        .take(9)
        .fold(0_u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    Ok(match (negative, nanoseconds) {
        (false, _) => Timestamp {
            seconds,
            nanoseconds,
        },
        (true, 0) => Timestamp {
            seconds: -seconds,
            nanoseconds: 0,
        },
        (true, _) => Timestamp {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

/// An attribute's name as GNU tar writes it: `%3D` is `=`, `%25` is `%`.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut rest = name;
    let mut plain = Vec::with_capacity(name.len());
    while let Some((first, after)) = rest.split_first() {
        (plain, rest) = if let Some(after) = rest.strip_prefix(b"%3D") {
            plain.push(b'=');
            (plain, after)
        } else if let Some(after) = rest.strip_prefix(b"%25") {
            plain.push(b'%');
            (plain, after)
        } else {
            plain.push(*first);
            (plain, after)
        };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(records: &[u8]) -> Result<Extended, Fault> {
        let mut extended = Extended::default();
        extended.take(records, &Limits::default())?;
        Ok(extended)
    }

    #[test]
    fn values_hold_any_bytes() {
        let extended = taken(b"27 SCHILY.xattr.user.a=\n=\0\n").unwrap();
        assert_eq!(extended.xattrs[&b"user.a"[..]].as_ref(), b"\n=\0");
        let extended = taken(b"41 SCHILY.xattr.trusted.overlay.opaque=y\n").unwrap();
        assert!(extended.xattrs.is_empty());
        let extended = taken(b"30 SCHILY.xattr.user.a%3D%25=\n").unwrap();
        assert_eq!(extended.xattrs[&b"user.a=%"[..]].as_ref(), b"");
    }

    #[test]
    fn an_empty_value_takes_back() {
        let extended = taken(b"9 path=a\n8 path=\n").unwrap();
        assert_eq!(extended, Extended::default());
    }

    #[test]
    fn times() {
        for (text, seconds, nanoseconds) in [
            ("0", 0, 0),
            ("12.5", 12, 500_000_000),
            ("1.1234567899", 1, 123_456_789),
            ("-1.25", -2, 750_000_000),
            ("-1", -1, 0),
            ("-0.5", -1, 500_000_000),
            (".5", 0, 500_000_000),
        ] {
            let expected = Timestamp {
                seconds,
                nanoseconds,
            };
            assert_eq!(timestamp(text.as_bytes()), Ok(expected), "{text}");
        }
        for text in ["", ".", "-", "1.-5", "1e5", "99999999999999999999"] {
            assert!(timestamp(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn damaged_records_are_refused() {
        for records in [
            &b"9 path=a"[..],
            b"11 path=a\n",
            b"8 path=a\n",
            b"0 path=a\n",
            b"path=a\n",
            b"7 path\n",
            b"99999999999999999999 path=a\n",
            b"18446744073709551616 p=a\n",
            b"10 size=x\n",
            b"15 uid=4294967296\n",
        ] {
            assert!(taken(records).is_err(), "{}", records.escape_ascii());
        }
    }
}
