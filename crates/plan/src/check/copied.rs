//! Sources of `COPY` and `ADD` that the context leaves out.

use firebuild_dockerfile::source::{SourceKind, classify};

use crate::ignore::Patterns;

/// Whether a source of the context is certainly left out. Where patterns take things in again, a
/// directory that is left out may still have something in it, so nothing is said.
pub(super) fn is_ignored(ignore: &Patterns, source: &str, is_add: bool) -> bool {
    if ignore.is_empty() || ignore.has_exceptions() {
        return false;
    }
    if is_add && !matches!(classify(source), Ok(SourceKind::Local { .. })) {
        return false;
    }
    let path = clean(source);
    // The context itself is never left out.
    !path.is_empty() && ignore.excluded(path.as_bytes())
}

/// A path below the context's root, without `.` and `..`.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_certainly_left_out() {
        for (ignore, source, expected) in [
            ("a", "a", true),
            ("a", "./a/", true),
            ("a", "/a/b", true),
            ("a", "b/../a", true),
            ("*.tmp", "x.tmp", true),
            ("**/x", "a/b/x", true),
            ("*", "a", true),
            ("a", "b", false),
            ("a/b", "a", false),
            (".*", ".", false),
            ("*", ".", false),
            ("*\n!b", "a", false),
            ("", "a", false),
        ] {
            let patterns = Patterns::parse(ignore.as_bytes()).unwrap();
            let found = is_ignored(&patterns, source, false);
            assert_eq!(found, expected, "{ignore} {source}");
        }
        let all = Patterns::parse(b"*").unwrap();
        assert!(!is_ignored(&all, "https://example.org/a", true));
        assert!(is_ignored(&all, "a", true));
    }
}
