//! A `.dockerignore` of any bytes is refused, or says of every path the same however it is asked;
//! and a walker that skips what is left out misses nothing.
//!
//! Input: the file, then paths, with a zero byte between them.

use firebuild_dockerfile::dockerignore::Patterns;

use super::parts;

/// Lines that are tried on their own; many lines only take longer.
const LINES: usize = 32;

pub fn ignore(data: &[u8]) {
    let mut parts = parts(data);
    let text = parts.next().unwrap_or_default();
    let patterns = match Patterns::parse(text) {
        Ok(patterns) => patterns,
        Err(error) => {
            assert!(text.get(error.span().range()).is_some());
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let with = |line: &str| {
        let mut longer = text.to_vec();
        longer.extend_from_slice(b"\n");
        longer.extend_from_slice(line.as_bytes());
        Patterns::parse(&longer).unwrap()
    };
    let (all, none) = (with("**"), with("!**"));
    for path in parts.chain([text]).filter(|path| clean(path)) {
        assert!(all.excluded(path), "`**` leaves out everything");
        assert!(!none.excluded(path), "`!**` takes in everything");
        assert!(none.could_reinclude_below(path));
        let excluded = patterns.excluded(path);
        assert_eq!(excluded, in_order(text, path), "one line after the other");
        for directory in above(path) {
            let out = patterns.excluded(directory);
            // A walker enters this directory if it must.
            assert!(
                excluded || !out || patterns.could_reinclude_below(directory),
                "{:?} is never reached",
                String::from_utf8_lossy(path)
            );
            // Without a `!`, what is below is left out too.
            assert!(excluded || !out || text.contains(&b'!'));
        }
    }
}

/// The lines one after the other, each alone: the last that matches counts.
fn in_order(text: &[u8], path: &[u8]) -> bool {
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    if lines.len() > LINES {
        return Patterns::parse(text).unwrap().excluded(path);
    }
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let mut excluded = false;
    for line in text.split(|byte| *byte == b'\n') {
        if line.starts_with(b"#") {
            continue;
        }
        let (out, bare) = match line.trim_ascii().strip_prefix(b"!") {
            Some(bare) => (false, bare),
            None => (true, line.trim_ascii()),
        };
        // Alone, and never negated: whether it matches at all.
        let alone = Patterns::from_list([bare]);
        let matched = match alone {
            // A pattern that begins with `!` behind the first one.
            _ if bare.trim_ascii().starts_with(b"!") => escaped(bare, path),
            Ok(alone) => alone.excluded(path),
            Err(_) => false,
        };
        if matched {
            excluded = out;
        }
    }
    excluded
}

/// A pattern whose first character is a literal `!`.
fn escaped(pattern: &[u8], path: &[u8]) -> bool {
    let mut text = b"\\".to_vec();
    text.extend_from_slice(pattern.trim_ascii());
    Patterns::from_list([text]).is_ok_and(|patterns| patterns.excluded(path))
}

/// Relative, without `.` and `..`: what a walker asks for.
fn clean(path: &[u8]) -> bool {
    let mut parts = path.split(|byte| *byte == b'/');
    parts.all(|part| !matches!(part, b"" | b"." | b".."))
}

fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| &path[..at])
}
