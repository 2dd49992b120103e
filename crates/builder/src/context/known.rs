//! The digests of a context's files, kept from build to build.
//!
//! A file whose identity (size, times, inode, device) is as it was need not be read again. Kept is
//! only what can be relied on: a file that changed in the same tick of the clock in which it was
//! read may change once more without a new time, so the digests of files that were that young are
//! not kept ("racily clean", as git calls it).
//!
//! The form: a magic line, then for each file its path, identity and digest, then the digest of all
//! that. What cannot be read, or is of another version, counts as nothing known.

use std::collections::HashMap;

use firebuild_core::Digest;
use firebuild_oci::Identity;

const MAGIC: &[u8] = b"firebuild digests 1\n";

/// How long ago a file must have changed last, in nanoseconds, when it was read: several ticks.
const SETTLED: i128 = 50_000_000;

/// The same for file systems that keep no fractions of seconds.
const SETTLED_COARSE: i128 = 2_100_000_000;

/// Files by their paths below the context.
pub(super) type Known = HashMap<Box<[u8]>, (Identity, Digest)>;

/// Whether a digest holds for as long as the identity does, if the bytes were read at `read`, in
/// nanoseconds since 1970.
pub(super) fn is_settled(identity: &Identity, read: i128) -> bool {
    let nanoseconds =
        |(seconds, below): (i64, i64)| i128::from(seconds) * 1_000_000_000 + i128::from(below);
    let coarse = identity.mtime.1 == 0 && identity.ctime.1 == 0;
    let settled = if coarse { SETTLED_COARSE } else { SETTLED };
    let changed = nanoseconds(identity.mtime).max(nanoseconds(identity.ctime));
    changed + settled < read
}

/// Writes them down.
pub(super) fn encode<'a>(
    files: impl Iterator<Item = (&'a [u8], &'a Identity, &'a Digest)>,
) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for (path, identity, digest) in files {
        let length = u32::try_from(path.len()).unwrap_or_default();
        bytes.extend(length.to_le_bytes());
        bytes.extend(path);
        bytes.extend(identity.size.to_le_bytes());
        for (seconds, nanoseconds) in [identity.mtime, identity.ctime] {
            bytes.extend(seconds.to_le_bytes());
            bytes.extend(nanoseconds.to_le_bytes());
        }
        bytes.extend(identity.inode.to_le_bytes());
        bytes.extend(identity.device.to_le_bytes());
        bytes.extend(digest.bytes());
    }
    let check = Digest::of(&bytes);
    bytes.extend(check.bytes());
    bytes
}

/// Reads what [`encode`] wrote; nothing from anything else.
pub(super) fn decode(bytes: &[u8]) -> Known {
    let whole = bytes.split_last_chunk::<32>();
    let whole = whole.filter(|(bytes, check)| Digest::of(bytes).bytes() == *check);
    let Some(mut rest) = whole.and_then(|(bytes, _)| bytes.strip_prefix(MAGIC)) else {
        return Known::new();
    };
    let mut known = Known::with_capacity(rest.len() / 128);
    while !rest.is_empty() {
        let Some((path, identity, digest)) = entry(&mut rest) else {
            return Known::new();
        };
        known.insert(path, (identity, digest));
    }
    known
}

fn entry(rest: &mut &[u8]) -> Option<(Box<[u8]>, Identity, Digest)> {
    let length = u32::from_le_bytes(take(rest)?);
    let (path, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = behind;
    let mut number = || take(rest).map(i64::from_le_bytes);
    let size = number()?.cast_unsigned();
    let mtime = (number()?, number()?);
    let ctime = (number()?, number()?);
    let inode = number()?.cast_unsigned();
    let device = number()?.cast_unsigned();
    let identity = Identity {
        size,
        mtime,
        ctime,
        inode,
        device,
    };
    Some((path.into(), identity, Digest::from_bytes(take(rest)?)))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*first)
}
