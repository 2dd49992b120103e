//! Rules about `FROM` and the names of stages.

use super::*;

#[test]
fn stage_name_casing() {
    Case::default().table(
        "StageNameCasing",
        &[
            ("FROM a AS b", &[]),
            ("FROM a", &[]),
            ("FROM a AS Bb", &[(1, "Bb")]),
            ("FROM a AS B\nFROM B AS c", &[(1, "B")]),
            ("FROM --platform=$x a AS bC", &[(1, "bC")]),
        ],
    );
}

#[test]
fn from_as_casing() {
    Case::default().table(
        "FromAsCasing",
        &[
            ("FROM a AS b", &[]),
            ("from a as b", &[]),
            ("FROM a as b", &[(1, "as")]),
            ("FROM a As b", &[(1, "As")]),
            ("from a AS b", &[(1, "AS")]),
            ("FROM a   as b", &[(1, "   as ")]),
            // Told by ConsistentInstructionCasing.
            ("From a as b", &[]),
        ],
    );
}

#[test]
fn stage_names_that_cannot_be_used() {
    Case::default().table(
        "ReservedStageName",
        &[
            ("FROM a AS context", &[(1, "context")]),
            ("FROM a AS Scratch", &[(1, "Scratch")]),
            ("FROM scratch AS contexts", &[]),
        ],
    );
    Case::default().table(
        "DuplicateStageName",
        &[
            ("FROM a AS b\nFROM c AS d", &[]),
            ("FROM a AS b\nFROM c AS B", &[(2, "B")]),
            (
                "FROM a AS b\nFROM c AS b\nFROM d AS b",
                &[(2, "b"), (3, "b")],
            ),
            ("FROM a\nFROM a", &[]),
        ],
    );
}

#[test]
fn undefined_arg_in_from() {
    Case::default().table(
        "UndefinedArgInFrom",
        &[
            ("ARG a\nFROM x$a", &[]),
            ("ARG a=1 b=2\nFROM x$a$b", &[]),
            ("FROM x$a", &[(1, "$a")]),
            ("FROM x${a}y$b", &[(1, "${a}"), (1, "$b")]),
            ("FROM x${a:-b}", &[(1, "${a")]),
            ("FROM --platform=$TARGETPLATFORM x", &[]),
            (
                "FROM --platform=$TARGETPLATFORN x",
                &[(1, "$TARGETPLATFORN")],
            ),
            ("FROM x:$TARGETARCH$TARGETVARIANT", &[]),
            // An argument of a stage is none of the next FROM's.
            ("FROM x\nARG a=1\nFROM y$a", &[(3, "$a")]),
        ],
    );
    let case = Case::given(&[("a", "1")]);
    case.table("UndefinedArgInFrom", &[("FROM x$a", &[(1, "$a")])]);
    let told = Case::default().message("ARG suite=1\nFROM x$siute");
    assert!(told.contains("did you mean `suite`?"), "{told}");
}

#[test]
fn invalid_default_arg_in_from() {
    let cases: &[(&str, &[(u32, &str)])] = &[
        ("ARG a=x\nFROM $a", &[]),
        ("ARG a\nFROM $a", &[(2, "$a")]),
        ("ARG a\nFROM x:$a", &[(2, "x:$a")]),
        ("ARG a\nFROM x$a", &[]),
        ("ARG a=B:\nFROM $a", &[(2, "$a")]),
        ("ARG a\nFROM ${a:-x}", &[]),
        ("ARG a=x\nARG b=$a\nFROM $b", &[]),
        ("FROM scratch", &[]),
    ];
    Case::default().table("InvalidDefaultArgInFrom", cases);
    // That people give one does not change what happens without it.
    Case::given(&[("a", "x")]).table("InvalidDefaultArgInFrom", cases);
}

#[test]
fn platforms_of_from() {
    let case = Case::default();
    case.table(
        "RedundantTargetPlatform",
        &[
            (
                "FROM --platform=$TARGETPLATFORM x",
                &[(1, "$TARGETPLATFORM")],
            ),
            (
                "FROM --platform=${TARGETPLATFORM} x",
                &[(1, "${TARGETPLATFORM}")],
            ),
            (
                "FROM --platform=\"$TARGETPLATFORM\" x",
                &[(1, "$TARGETPLATFORM")],
            ),
            ("FROM --platform=$BUILDPLATFORM x", &[]),
            ("FROM --platform=$TARGETOS/$TARGETARCH x", &[]),
            ("FROM --platform=$TARGETPLATFORM/v1 x", &[]),
            ("FROM --platform=$TARGETPLATFORM$none x", &[]),
            ("FROM --platform=linux/amd64 x", &[]),
            ("FROM x", &[]),
        ],
    );
    case.table(
        "FromPlatformFlagConstDisallowed",
        &[
            ("FROM --platform=linux/amd64 x", &[(1, "linux/amd64")]),
            ("FROM --platform=linux x AS y", &[(1, "linux")]),
            ("FROM --platform=aarch64 x AS y", &[(1, "aarch64")]),
            ("FROM --platform=linux/amd64 x AS y-amd64", &[]),
            ("FROM --platform=linux/x86_64 x AS amd64", &[]),
            ("FROM --platform=linux/amd64 x AS linux-y", &[]),
            ("FROM --platform=$BUILDPLATFORM x", &[]),
            ("ARG p=linux/amd64\nFROM --platform=$p x", &[]),
            ("FROM --platform=linux/${a} x", &[]),
            ("FROM --platform=nonsense x", &[]),
        ],
    );
    case.table(
        "InvalidBaseImagePlatform",
        &[
            ("FROM example.org/for-amd64", &[]),
            (
                "FROM example.org/only-for-arm64",
                &[(1, "example.org/only-for-arm64")],
            ),
            (
                "FROM --platform=linux/arm64 example.org/only-for-arm64",
                &[],
            ),
            (
                "FROM --platform=linux/arm64 example.org/for-amd64",
                &[(1, "example.org/for-amd64")],
            ),
            ("FROM unknown", &[]),
            ("FROM scratch", &[]),
            ("FROM example.org/for-amd64 AS a\nFROM a", &[]),
        ],
    );
}

#[test]
fn stages_that_contexts_replace() {
    let mut case = Case::default();
    let contexts = [
        (
            "a".to_owned(),
            NamedContext::Image("known".parse().unwrap()),
        ),
        ("docker.io/library/b:latest".to_owned(), NamedContext::Files),
    ];
    case.options.contexts = BTreeMap::from(contexts);
    case.table(
        "UndefinedVar",
        &[
            ("FROM x AS a\nENV p=$KNOWN", &[]),
            ("FROM a\nENV p=$KNOWN", &[]),
            ("FROM b\nENV p=$KNOWN", &[(2, "$KNOWN")]),
        ],
    );
}
