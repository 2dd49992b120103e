//! Paths as instructions name them: relative to the working directory, by their words alone.

/// `path` below `directory` unless it is absolute, with `.` and `..` taken out.
pub(crate) fn absolute(directory: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let start = if path.starts_with('/') { "" } else { directory };
    for part in start.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A copy's destination: absolute, and ending in a slash where it was written as a directory.
pub(crate) fn destination(directory: &str, written: &str) -> String {
    let mut path = absolute(directory, written);
    let is_directory = written.is_empty()
        || written == "."
        || written == ".."
        || written.ends_with('/')
        || written.ends_with("/.")
        || written.ends_with("/..");
    if is_directory && path != "/" {
        path.push('/');
    }
    path
}

/// A path without what says nothing, relative if it was; `.` for an empty one.
pub(crate) fn clean(path: &str) -> String {
    if path.starts_with('/') {
        return absolute("/", path);
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match (part, parts.last()) {
            ("" | ".", _) => {}
            ("..", Some(last)) if *last != ".." => drop(parts.pop()),
            (part, _) => parts.push(part),
        }
    }
    match parts[..] {
        [] => ".".to_owned(),
        _ => parts.join("/"),
    }
}

/// The last part of a path.
pub(crate) fn base_name(path: &str) -> &str {
    path.trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, result) in [
            ("", "."),
            ("./", "."),
            ("a/..", "."),
            ("./a//b/.", "a/b"),
            ("a/../b", "b"),
            ("../a/..", ".."),
            ("../../a", "../../a"),
            ("/", "/"),
            ("/../a/", "/a"),
        ] {
            assert_eq!(clean(path), result, "{path}");
        }
    }

    #[test]
    fn paths_are_made_absolute_and_clean() {
        for (directory, path, result) in [
            ("/w", "", "/w"),
            ("/w", "a", "/w/a"),
            ("/w", "./a//b/", "/w/a/b"),
            ("/w", "../a", "/a"),
            ("/w", "../../..", "/"),
            ("/w", "/a/../b", "/b"),
            ("", "", "/"),
        ] {
            assert_eq!(absolute(directory, path), result, "{directory} {path}");
        }
    }

    #[test]
    fn a_destination_says_whether_it_is_a_directory() {
        for (written, result) in [
            ("", "/w/"),
            (".", "/w/"),
            ("./", "/w/"),
            ("..", "/"),
            ("d", "/w/d"),
            ("d/", "/w/d/"),
            ("d/.", "/w/d/"),
            ("d/..", "/w/"),
            ("/", "/"),
            ("/d/../e", "/e"),
        ] {
            assert_eq!(destination("/w", written), result, "{written}");
        }
    }
}
