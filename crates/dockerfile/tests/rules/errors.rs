//! What a person sees of a mistake: the mark, what was expected, what to do.

use firebuild_dockerfile::parse;

use crate::{bad, refused};

#[test]
fn unknown_instructions_are_marked() {
    for (text, column, marked, message) in [
        (
            "RNU a",
            1,
            "RNU",
            "unknown instruction `RNU`; did you mean `RUN`?",
        ),
        (
            "  coppy a b",
            3,
            "coppy",
            "unknown instruction `coppy`; did you mean `COPY`?",
        ),
        (
            "apt-get install x",
            1,
            "apt-get",
            "unknown instruction `apt-get`",
        ),
        (
            "RUN\u{a0}a",
            1,
            "RUN\u{a0}a",
            "unknown instruction `RUN\u{a0}a`; did you mean `RUN`?",
        ),
    ] {
        let found = refused(text);
        assert_eq!(
            found,
            (2, column, marked.to_owned(), message.to_owned()),
            "{text}"
        );
    }
}

#[test]
fn marks_count_characters() {
    let (line, column, marked, _) = refused("COPY --chown=ä \\\n  --chmöd=1 b c");
    assert_eq!((line, column, marked.as_str()), (3, 3, "--chmöd"));
}

#[test]
fn the_next_step_is_offered() {
    for (text, expected, hint) in [
        ("RNU a", Some("an instruction and a blank"), None),
        (
            "CMD",
            Some("a command"),
            Some("to clear an inherited one, write `CMD []`"),
        ),
        (
            "RUN <<EOF\n",
            Some("a line `EOF` further down"),
            Some("end it with a line that holds only `EOF`, or quote `<<` if it opens none"),
        ),
        (
            "COPY --from=$a b c",
            Some("a stage, a context or an image"),
            Some("define a new stage with FROM, which expands build arguments, and name that"),
        ),
        ("USER", Some("USER[:GROUP] or UID[:GID]"), None),
        ("COPY --link=2 a b", Some("`true` or `false`"), None),
        ("USER --x a", Some("USER has no flags"), None),
        ("FROM --plat=a b", Some("one of --platform"), None),
    ] {
        let error = bad(&format!("FROM scratch\n{text}"));
        assert_eq!(error.expected.as_deref(), expected, "{text}");
        assert_eq!(error.hint().as_deref(), hint, "{text}");
    }
}

/// A file in another encoding has no characters to mark, and yet a place.
#[test]
fn other_encodings_have_a_place() {
    for text in [b"\xFF\xFEF\0".as_slice(), b"\xFE\xFF\0F"] {
        let error = parse(text).unwrap_err();
        assert_eq!((error.line(), error.column(), error.range()), (1, 1, 0..0));
        assert_eq!(error.span.end, error.span.start);
    }
}
