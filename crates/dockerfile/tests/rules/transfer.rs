//! "COPY / ADD", as far as the text alone goes.

use firebuild_dockerfile::InstructionKind;

use crate::{last, refused, shown};

#[test]
fn sources_and_destination() {
    for (text, fields) in [
        (
            "COPY a b /c/",
            r#"{"destination":"/c/","sources":[{"path":"a"},{"path":"b"}]}"#,
        ),
        (
            "ADD https://h.example/a.git#v1 $d",
            r#"{"destination":"$d","sources":[{"path":"https://h.example/a.git#v1"}]}"#,
        ),
        (
            "COPY \"a b\" c",
            r#"{"destination":"c","sources":[{"path":"\"a"},{"path":"b\""}]}"#,
        ),
        (
            "COPY <<E /c\na$b\nE",
            r#"{"destination":"/c","sources":[{"heredoc":{"body":"a$b\n","descriptor":0,"expand":true,"name":"E","strip_tabs":false}}]}"#,
        ),
    ] {
        assert_eq!(shown(text), fields, "{text}");
    }
    for text in [
        "COPY",
        "COPY a",
        "COPY --link a",
        r#"COPY ["a"]"#,
        "COPY []",
    ] {
        let message = "COPY requires at least two arguments, a source and the destination";
        assert_eq!(refused(text).3, message, "{text}");
    }
}

#[test]
fn add_has_flags_of_its_own() {
    let text = "ADD --checksum=sha256:$a --keep-git-dir --unpack=false --chown=5 --chmod=u=rwX \
                --link --exclude=*.o a b";
    assert_eq!(
        shown(text),
        r#"{"checksum":"sha256:$a","chmod":"u=rwX","chown":"5","destination":"b","exclude":["*.o"],"keep_git_dir":true,"link":true,"sources":[{"path":"a"}],"unpack":false}"#
    );
    for flag in ["from=a", "parents"] {
        let message = refused(&format!("ADD --{flag} a b")).3;
        assert!(message.starts_with("unknown flag `--"), "{message}");
    }
}

#[test]
fn flags_are_checked_where_they_can_be() {
    for (text, marked, message) in [
        (
            "COPY --from=$a b c",
            "$a",
            "variable expansion is not supported for `--from`",
        ),
        (
            "ONBUILD COPY --from=${a} b c",
            "${a}",
            "variable expansion is not supported for `--from`",
        ),
        (
            "COPY --chmod=888 b c",
            "888",
            "invalid `--chmod`: `888` is not an octal number between 0 and 07777",
        ),
        (
            "COPY --chmod=\"u+q\" b c",
            "u+q",
            "invalid `--chmod`: `u+q` is not a mode",
        ),
    ] {
        let (_, _, found, error) = refused(text);
        assert_eq!(
            (found.as_str(), error.as_str()),
            (marked, message),
            "{text}"
        );
    }
    shown("COPY --chmod=$mode b c");
}

#[test]
fn words_of_arrays_have_places() {
    let InstructionKind::Copy(copy) = last(r#"COPY --link ["a b", "c\\d",  "$e"]"#).kind else {
        panic!();
    };
    let sources = copy.sources.iter().filter_map(|source| source.path());
    let words = sources.chain([&copy.destination]);
    let places: Vec<_> = words
        .map(|word| (word.span.start.column, word.span.range().len()))
        .collect();
    assert_eq!(places, [(15, 3), (22, 4), (31, 2)]);
}
