//! POSIX access control lists: ext4 stores them in another form than system calls show them.
//!
//! Shown: version 2, then entries of tag, permissions and id, 8 bytes each. Stored: version 1,
//! then entries of which only those for a named user or group have an id.

const SHOWN_VERSION: u32 = 2;
const STORED_VERSION: u32 = 1;
const NAMED_USER: u16 = 0x02;
const NAMED_GROUP: u16 = 0x08;
/// Owner, group, mask, others.
const UNNAMED: [u16; 4] = [0x01, 0x04, 0x10, 0x20];

/// The stored form, or `None` if `shown` is no list. A list without entries, which in Linux takes
/// the list away, becomes empty bytes.
pub(super) fn stored(shown: &[u8]) -> Option<Vec<u8>> {
    let (version, rest) = shown.split_first_chunk::<4>()?;
    let (entries, left) = rest.as_chunks::<8>();
    if u32::from_le_bytes(*version) != SHOWN_VERSION || !left.is_empty() {
        return None;
    }
    if entries.is_empty() {
        return Some(Vec::new());
    }
    let mut bytes = STORED_VERSION.to_le_bytes().to_vec();
    for entry in entries {
        let [t0, t1, p0, p1, id @ ..] = *entry;
        let tag = u16::from_le_bytes([t0, t1]);
        if u16::from_le_bytes([p0, p1]) > 7 {
            return None;
        }
        bytes.extend_from_slice(&entry[..4]);
        if tag == NAMED_USER || tag == NAMED_GROUP {
            bytes.extend_from_slice(&id);
        } else if !UNNAMED.contains(&tag) {
            return None;
        }
    }
    Some(bytes)
}

/// The form that system calls show, or `None` if `stored` is no list.
pub(super) fn shown(stored: &[u8]) -> Option<Vec<u8>> {
    let (version, mut rest) = stored.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != STORED_VERSION {
        return None;
    }
    let mut bytes = SHOWN_VERSION.to_le_bytes().to_vec();
    while let Some((entry, behind)) = rest.split_first_chunk::<4>() {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        bytes.extend_from_slice(entry);
        rest = behind;
        if tag == NAMED_USER || tag == NAMED_GROUP {
            let (id, behind) = rest.split_first_chunk::<4>()?;
            bytes.extend_from_slice(id);
            rest = behind;
        } else {
            bytes.extend_from_slice(&u32::MAX.to_le_bytes());
        }
    }
    rest.is_empty().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortens_unnamed_entries() {
        let shown = [
            &[2, 0, 0, 0][..],
            &[1, 0, 6, 0, 255, 255, 255, 255],
            &[2, 0, 4, 0, 0xe8, 3, 0, 0],
            &[4, 0, 4, 0, 255, 255, 255, 255],
            &[0x10, 0, 4, 0, 255, 255, 255, 255],
            &[0x20, 0, 0, 0, 255, 255, 255, 255],
        ]
        .concat();
        let expected = [
            &[1, 0, 0, 0][..],
            &[1, 0, 6, 0],
            &[2, 0, 4, 0, 0xe8, 3, 0, 0],
            &[4, 0, 4, 0],
            &[0x10, 0, 4, 0],
            &[0x20, 0, 0, 0],
        ]
        .concat();
        assert_eq!(super::shown(&expected), Some(shown.clone()));
        assert_eq!(stored(&shown), Some(expected));
        assert_eq!(stored(&[2, 0, 0, 0]), Some(Vec::new()));
    }

    #[test]
    fn refuses_what_is_no_list() {
        for bytes in [
            &b""[..],
            &[1, 0, 0, 0],
            &[2, 0, 0, 0, 1],
            &[2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 1, 0, 8, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(stored(bytes), None, "{bytes:?}");
        }
        for bytes in [
            &b""[..],
            &[2, 0, 0, 0],
            &[1, 0, 0, 0, 1],
            &[1, 0, 0, 0, 2, 0, 7, 0],
        ] {
            assert_eq!(super::shown(bytes), None, "{bytes:?}");
        }
    }
}
