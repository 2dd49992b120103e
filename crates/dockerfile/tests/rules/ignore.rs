//! ".dockerignore".

use firebuild_dockerfile::dockerignore::{IgnoreError, Patterns};

fn excluded(patterns: &str, path: &str) -> bool {
    Patterns::parse(patterns.as_bytes())
        .unwrap()
        .excluded(path.as_bytes())
}

#[test]
fn patterns_match() {
    for (patterns, path, result) in [
        ("a", "a", true),
        ("a", "b", false),
        ("a", "x/a", false),
        ("a", "a/b/c", true),
        ("/a", "a", true),
        ("a/", "a", true),
        ("./a//b/../c", "a/c", true),
        ("  a  ", "a", true),
        ("#a", "#a", false),
        (" #a", "#a", true),
        ("\u{FEFF}a", "a", true),
        ("\u{FEFF}#a", "#a", false),
        ("a\r\nb\r\n", "a", true),
        ("*", "a", true),
        ("*", "a/b", true),
        ("*.go", "a.go", true),
        ("*.go", "x/a.go", false),
        ("*/*.go", "x/a.go", true),
        ("a?c", "abc", true),
        ("a?c", "a/c", false),
        ("a*c", "a/c", false),
        ("[a-c]", "b", true),
        ("[^a-c]", "b", false),
        ("[^a-c]", "d", true),
        ("a\\*", "a*", true),
        ("a\\*", "ab", false),
        ("**", "a/b", true),
        ("**/a", "a", true),
        ("**/a", "x/y/a", true),
        ("**/a", "xa", false),
        ("**/a", "x/a/b", true),
        ("**a", "xa", true),
        ("**a", "x/ya", true),
        ("**/*.go", "a.go", true),
        ("**/*.go", "x/y/a.go", true),
        ("**/*.go", "x/a.gox", false),
        ("a/**", "a/b/c", true),
        ("a/**", "a", false),
        ("a**", "abc/d", true),
        ("a/**/b", "a/b", true),
        ("a/**/b", "a/x/y/b", true),
        ("a/**/b", "a/xb", false),
        ("a**/x", "ax", true),
        ("a**/x", "ab/x", true),
        ("a**/x", "a/b/x", true),
        ("**/a/**", "x/a/b", true),
        ("**/a/**", "a/b", true),
        ("**/a/**", "x/a", false),
        ("**/**/a", "x/a", true),
        ("a.b", "axb", false),
        ("(a|b)", "a", false),
        ("(a|b)", "(a|b)", true),
        ("a+", "aa", false),
        ("é?", "éé", true),
        (".", "a", false),
        ("", "a", false),
        // Anchored at the top, unlike what git does.
        ("b", "a/b", false),
        ("a/b", "x/a/b", false),
        ("b/", "a/b", false),
        ("../a", "a", false),
        ("a/../b", "b", true),
        ("a//b", "a/b", true),
        ("\ta\t", "a", true),
        ("a\u{FEFF}", "a", false),
        ("#", "#", false),
    ] {
        assert_eq!(excluded(patterns, path), result, "{patterns:?} {path}");
    }
}

#[test]
fn the_last_match_wins() {
    for (patterns, path, result) in [
        ("*\n!a", "a", false),
        ("*\n!a", "b", true),
        ("!a\n*", "a", true),
        ("*\n!a\na", "a", true),
        ("*\n!a/b", "a/b", false),
        ("*\n!a/b", "a/b/c", false),
        ("*\n!a/b", "a/c", true),
        ("*\n!a/b", "a", true),
        ("a\n! a", "a", false),
        ("a\n!/a", "a", false),
        ("**\n!**/*.md", "x/y.md", false),
        ("**\n!**/*.md\nx/z.md", "x/z.md", true),
    ] {
        assert_eq!(excluded(patterns, path), result, "{patterns:?} {path}");
    }
}

#[test]
fn walkers_know_where_to_look() {
    for (patterns, directory, result) in [
        ("*", "a", false),
        ("*\n!a/b", "a", true),
        ("*\n!a/b", "a/b", false),
        ("*\n!a/b", "c", false),
        ("*\n!a/b/**", "a", true),
        ("*\n!a/b/**", "a/b/c", true),
        ("*\n!**/b", "c/d", true),
        ("*\n!*/b", "c", true),
        ("*\n!*/b", "c/d", false),
        ("*\n!**b", "c/d", true),
    ] {
        let parsed = Patterns::parse(patterns.as_bytes()).unwrap();
        assert_eq!(
            parsed.could_reinclude_below(directory.as_bytes()),
            result,
            "{patterns:?} {directory}"
        );
    }
}

#[test]
fn patterns_can_be_wrong() {
    let error = Patterns::parse(b"a\n  !  \n").unwrap_err();
    assert!(matches!(error, IgnoreError::Exclusion { .. }));
    assert_eq!((error.span().start.line, error.span().start.column), (2, 3));
    for pattern in ["[", "[]", "[^]", "a[", "[]a]", "[a-]", "a\\"] {
        let error = Patterns::parse(pattern.as_bytes()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("syntax error in pattern `{pattern}`")
        );
    }
    assert!(Patterns::from_list(["*.o", "["]).is_err());
    assert!(Patterns::from_list(["*.o"]).unwrap().excluded(b"a.o"));
    assert!(Patterns::parse(b"# nothing\n").unwrap().is_empty());
}

#[test]
fn names_need_not_be_utf8() {
    let patterns = Patterns::parse(b"a\xff\nb?\n*\xfe").unwrap();
    assert!(patterns.excluded(b"a\xff"));
    assert!(patterns.excluded(b"b\xff"));
    assert!(patterns.excluded(b"x\xfe"));
    assert!(!patterns.excluded(b"x\xff"));
}
