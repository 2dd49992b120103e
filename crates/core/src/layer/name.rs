//! Paths of entries: normalised as container tools do, and refused where they would lead out.
//!
//! A leading `/` or `./` is dropped, as are empty parts, `.` and a trailing slash. In a layer `..` is
//! refused even where it would stay inside: no tool that writes layers makes such a path. In an
//! archive of anything else it is refused only where it leads out. What is left is relative, and
//! each part of it can name an entry of a [`Tree`](crate::tree::Tree).

use super::limits::{Fault, Limits};
use super::{OPAQUE, RESERVED_PREFIX, WHITEOUT_PREFIX};
use crate::tree::{LONGEST_NAME, components};

/// What a path's name says of its entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// An ordinary entry.
    Entry(Vec<u8>),
    /// The lower layers' entry of this path is hidden.
    Whiteout(Vec<u8>),
    /// All lower entries of this directory are hidden.
    Opaque(Vec<u8>),
    /// A leftover of the AUFS driver, which means nothing to anyone else.
    Ignored,
}

/// What an archive is, which decides what its names may be and mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A layer: some names hide what lies below.
    Layer,
    /// Any other archive: a name is a name.
    Plain,
}

pub(super) fn normalise(path: &[u8], form: Form, limits: &Limits) -> Result<Vec<u8>, Fault> {
    let mut normal = Vec::with_capacity(path.len());
    for part in components(path) {
        if part == b".." {
            up(&mut normal, form)?;
            continue;
        }
        if part.contains(&0) {
            return Err(Fault::new("its path has a NUL byte"));
        }
        if part.len() > LONGEST_NAME {
            return Err(Fault::new("a part of its path is longer than 255 bytes"));
        }
        if !normal.is_empty() {
            normal.push(b'/');
        }
        normal.extend_from_slice(part);
        if normal.len() > limits.path {
            return Err(Fault::Limit("bytes of a path", limits.path as u64));
        }
    }
    Ok(normal)
}

/// Takes the last part away for a `..`.
fn up(normal: &mut Vec<u8>, form: Form) -> Result<(), Fault> {
    if form == Form::Layer {
        return Err(Fault::new("its path has a `..` part"));
    }
    if normal.is_empty() {
        return Err(Fault::new("its path leads out of the archive with `..`"));
    }
    let parent = normal.iter().rposition(|byte| *byte == b'/');
    normal.truncate(parent.unwrap_or(0));
    Ok(())
}

/// Tells whiteouts from entries by a normalised path.
pub(super) fn meaning(path: Vec<u8>) -> Result<Meaning, Fault> {
    let start = path
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |at| at + 1);
    let (parents, name) = path.split_at(start);
    let reserved = components(parents).find(|part| part.starts_with(WHITEOUT_PREFIX));
    match reserved {
        Some(part) if part.starts_with(RESERVED_PREFIX) => return Ok(Meaning::Ignored),
        Some(_) => return Err(Fault::new("a directory's name begins with `.wh.`")),
        None => {}
    }
    let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) else {
        return Ok(Meaning::Entry(path));
    };
    if name == OPAQUE {
        return Ok(Meaning::Opaque(
            parents.strip_suffix(b"/").unwrap_or(parents).to_vec(),
        ));
    }
    if name.starts_with(RESERVED_PREFIX) {
        return Ok(Meaning::Ignored);
    }
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(Fault::new("it is a whiteout of no name"));
    }
    Ok(Meaning::Whiteout([parents, hidden].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_relative_and_stay_inside() {
        let limits = Limits::default();
        let cases: [(&[u8], Option<&[u8]>); 10] = [
            (b"a/b", Some(b"a/b")),
            (b"./a//b/", Some(b"a/b")),
            (b"/etc/passwd", Some(b"etc/passwd")),
            (b"./", Some(b"")),
            (b"a/../b", None),
            (b"..", None),
            (b"/../x", None),
            (b"..x/x..", Some(b"..x/x..")),
            (b"a\0b", None),
            (&[b'n'; 256], None),
        ];
        for (path, expected) in cases {
            assert_eq!(
                normalise(path, Form::Layer, &limits).ok().as_deref(),
                expected,
                "{path:?}"
            );
        }
        let deep = b"d/".repeat(2049);
        assert_eq!(
            normalise(&deep, Form::Layer, &limits),
            Err(Fault::Limit("bytes of a path", 4096))
        );
    }

    #[test]
    fn a_plain_archives_paths_may_go_up_and_not_out() {
        let limits = Limits::default();
        let cases: [(&[u8], Option<&[u8]>); 8] = [
            (b"a/../b", Some(b"b")),
            (b"a/b/../../c", Some(b"c")),
            (b"a/..", Some(b"")),
            (b"/etc/passwd", Some(b"etc/passwd")),
            (b"..", None),
            (b"a/../../b", None),
            (b"/../x", None),
            (b"a/b/../..x", Some(b"a/..x")),
        ];
        for (path, expected) in cases {
            let normal = normalise(path, Form::Plain, &limits);
            assert_eq!(normal.ok().as_deref(), expected, "{path:?}");
        }
    }

    #[test]
    fn whiteouts_by_name() {
        let cases: [(&str, Option<Meaning>); 10] = [
            ("a/b", Some(Meaning::Entry(b"a/b".to_vec()))),
            ("a/.wh.b", Some(Meaning::Whiteout(b"a/b".to_vec()))),
            (".wh.b", Some(Meaning::Whiteout(b"b".to_vec()))),
            (".wh..wh..opq", Some(Meaning::Opaque(Vec::new()))),
            ("a/b/.wh..wh..opq", Some(Meaning::Opaque(b"a/b".to_vec()))),
            (".wh..wh.plnk", Some(Meaning::Ignored)),
            (".wh..wh.plnk/12.34", Some(Meaning::Ignored)),
            ("a/.wh.", None),
            ("a/.wh...", None),
            (".wh.a/b", None),
        ];
        for (path, expected) in cases {
            assert_eq!(meaning(path.as_bytes().to_vec()).ok(), expected, "{path}");
        }
    }
}
