//! "ARG, FROM, stages", as far as the text alone goes.

use crate::{bad, good, last, refused, shown};

#[test]
fn from_has_one_or_three_words() {
    for (text, fields) in [
        ("FROM a:1", r#"{"image":"a:1"}"#),
        ("FROM a AS b", r#"{"image":"a","name":"b"}"#),
        ("FROM a as B-c_.1", r#"{"image":"a","name":"b-c_.1"}"#),
        (
            "FROM --platform=$BUILDPLATFORM ${a:-b} AS c",
            r#"{"image":"${a:-b}","name":"c","platform":"$BUILDPLATFORM"}"#,
        ),
    ] {
        assert_eq!(shown(text), fields, "{text}");
    }
    let arguments = "FROM requires either one or three arguments";
    let name = |name: &str| format!("invalid name for build stage: `{name}`");
    for (text, message) in [
        ("FROM", arguments.to_owned()),
        ("FROM a b", arguments.to_owned()),
        ("FROM a AS", arguments.to_owned()),
        ("FROM a IS b", arguments.to_owned()),
        ("FROM a AS b c", arguments.to_owned()),
        ("FROM a AS 1b", name("1b")),
        ("FROM a AS -b", name("-b")),
        ("FROM a AS b/c", name("b/c")),
        ("FROM a AS b\u{fc}", name("b\u{fc}")),
        ("FROM a AS $b", name("$b")),
    ] {
        assert_eq!(refused(text).3, message, "{text}");
    }
}

#[test]
fn only_arg_stands_before_from() {
    good("ARG A\nARG B=1\nFROM scratch");
    let error = bad("ARG A\nRUN x\nFROM scratch");
    assert_eq!((error.line(), error.column()), (2, 1));
    assert_eq!(
        error.to_string(),
        "no build stage in current context: RUN before the first FROM"
    );
}

#[test]
fn arg_without_a_value_is_not_empty() {
    for (text, fields) in [
        ("ARG a", r#"{"arguments":[{"name":"a"}]}"#),
        ("ARG a=", r#"{"arguments":[{"name":"a","value":""}]}"#),
        (
            "ARG a=1 b c=\"x y\" d=$a e=f=g",
            r#"{"arguments":[{"name":"a","value":"1"},{"name":"b"},{"name":"c","value":"\"x y\""},{"name":"d","value":"$a"},{"name":"e","value":"f=g"}]}"#,
        ),
        (
            "ARG a=b\\ c",
            r#"{"arguments":[{"name":"a","value":"b\\ c"}]}"#,
        ),
    ] {
        assert_eq!(shown(text), fields, "{text}");
    }
    assert_eq!(refused("ARG").3, "ARG requires at least one argument");
    assert_eq!(refused("ARG =a").3, "ARG names can not be blank");
}

#[test]
fn words_have_places() {
    let text = "FROM --platform=linux/arm64 \\\n  image \\\n  AS name";
    let firebuild_dockerfile::InstructionKind::From(from) = last(text).kind else {
        panic!();
    };
    let place = |word: &firebuild_dockerfile::Word| {
        let span = word.span;
        (span.start.line, span.start.column, span.range().len())
    };
    assert_eq!(place(&from.platform.unwrap()), (2, 17, 11));
    assert_eq!(place(&from.image), (3, 3, 5));
    assert_eq!(place(&from.name.unwrap()), (4, 6, 4));
}
