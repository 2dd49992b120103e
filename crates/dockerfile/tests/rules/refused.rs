//! Everything that is refused, with its place and its reason: a mistake of each kind.

use std::collections::BTreeSet;

use firebuild_dockerfile::{ErrorKind, MAX_SIZE, ParseError, parse, parse_trigger};

use crate::bad;

/// Text behind `FROM scratch`, the line and column of the mistake, and the message.
const REFUSED: &[(&str, u32, u32, &str)] = &[
    // Instructions.
    (
        "RNU a",
        2,
        1,
        "unknown instruction `RNU`; did you mean `RUN`?",
    ),
    ("\n\nnonsense", 4, 1, "unknown instruction `nonsense`"),
    (
        "RUN a \\\n b\nCMDX",
        4,
        1,
        "unknown instruction `CMDX`; did you mean `CMD`?",
    ),
    // Two escape characters do not continue a line, nor do three.
    ("RUN a\\\\\nb", 3, 1, "unknown instruction `b`"),
    ("RUN a\\\\\\\nb", 3, 1, "unknown instruction `b`"),
    ("}", 2, 1, "unknown instruction `}`"),
    // Missing or superfluous arguments.
    ("RUN", 2, 4, "RUN requires at least one argument"),
    (
        "RUN --network=none",
        2,
        19,
        "RUN requires at least one argument",
    ),
    ("CMD", 2, 4, "CMD requires at least one argument"),
    (
        "ENTRYPOINT ",
        2,
        11,
        "ENTRYPOINT requires at least one argument",
    ),
    ("SHELL", 2, 6, "SHELL requires at least one argument"),
    ("SHELL []", 2, 7, "SHELL requires at least one argument"),
    (
        "SHELL sh -c",
        2,
        7,
        "SHELL requires the arguments to be in JSON form",
    ),
    (
        "SHELL ['sh']",
        2,
        7,
        "SHELL requires the arguments to be in JSON form",
    ),
    ("EXPOSE", 2, 7, "EXPOSE requires at least one argument"),
    ("VOLUME", 2, 7, "VOLUME requires at least one argument"),
    (
        "VOLUME [\"\"]",
        2,
        10,
        "VOLUME specified can not be an empty string",
    ),
    ("ARG", 2, 4, "ARG requires at least one argument"),
    ("ENV", 2, 4, "ENV requires at least one argument"),
    ("LABEL", 2, 6, "LABEL requires at least one argument"),
    ("ONBUILD", 2, 8, "ONBUILD requires at least one argument"),
    (
        "HEALTHCHECK",
        2,
        12,
        "HEALTHCHECK requires at least one argument",
    ),
    ("WORKDIR", 2, 8, "WORKDIR requires exactly one argument"),
    ("USER", 2, 5, "USER requires exactly one argument"),
    (
        "STOPSIGNAL",
        2,
        11,
        "STOPSIGNAL requires exactly one argument",
    ),
    (
        "MAINTAINER",
        2,
        11,
        "MAINTAINER requires exactly one argument",
    ),
    (
        "COPY",
        2,
        5,
        "COPY requires at least two arguments, a source and the destination",
    ),
    (
        "COPY a",
        2,
        6,
        "COPY requires at least two arguments, a source and the destination",
    ),
    (
        "ADD [\"a\"]",
        2,
        5,
        "ADD requires at least two arguments, a source and the destination",
    ),
    // Names and values.
    (
        "ENV a",
        2,
        5,
        "ENV must have two arguments, a name and its value",
    ),
    (
        "LABEL a",
        2,
        7,
        "LABEL must have two arguments, a name and its value",
    ),
    ("ENV a=b c", 2, 9, "can't find = in `c`"),
    ("LABEL a=b \\\n  c", 3, 3, "can't find = in `c`"),
    ("ENV =a", 2, 5, "ENV names can not be blank"),
    ("LABEL a=b =c", 2, 11, "LABEL names can not be blank"),
    ("ARG =a", 2, 5, "ARG names can not be blank"),
    // Stages.
    ("FROM", 2, 5, "FROM requires either one or three arguments"),
    (
        "FROM a b",
        2,
        8,
        "FROM requires either one or three arguments",
    ),
    (
        "FROM a AS b c",
        2,
        8,
        "FROM requires either one or three arguments",
    ),
    (
        "FROM a IN b",
        2,
        8,
        "FROM requires either one or three arguments",
    ),
    (
        "FROM a AS B/c",
        2,
        11,
        "invalid name for build stage: `B/c`",
    ),
    ("FROM a AS 1", 2, 11, "invalid name for build stage: `1`"),
    // Flags.
    (
        "COPY --form=a b c",
        2,
        6,
        "unknown flag `--form` of COPY; did you mean `--from`?",
    ),
    ("ADD --from=a b c", 2, 5, "unknown flag `--from` of ADD"),
    ("ADD --parents b c", 2, 5, "unknown flag `--parents` of ADD"),
    (
        "COPY --checksum=a b c",
        2,
        6,
        "unknown flag `--checksum` of COPY",
    ),
    (
        "RUN --mont=a b",
        2,
        5,
        "unknown flag `--mont` of RUN; did you mean `--mount`?",
    ),
    ("FROM --x a", 2, 6, "unknown flag `--x` of FROM"),
    ("USER --x a", 2, 6, "unknown flag `--x` of USER"),
    ("CMD --x [\"a\"]", 2, 5, "unknown flag `--x` of CMD"),
    (
        "HEALTHCHECK --x CMD a",
        2,
        13,
        "unknown flag `--x` of HEALTHCHECK",
    ),
    ("COPY --link --link a b", 2, 13, "duplicate flag `--link`"),
    (
        "FROM --platform=a --platform=b c",
        2,
        19,
        "duplicate flag `--platform`",
    ),
    ("COPY --from a b", 2, 6, "missing a value on flag `--from`"),
    ("RUN --mount a", 2, 5, "missing a value on flag `--mount`"),
    (
        "COPY --exclude a b",
        2,
        6,
        "missing a value on flag `--exclude`",
    ),
    (
        "COPY --link=1 a b",
        2,
        13,
        "flag `--link` is true or false, not `1`",
    ),
    (
        "ADD --unpack=x a b",
        2,
        14,
        "flag `--unpack` is true or false, not `x`",
    ),
    (
        "ADD --keep-git-dir=no a b",
        2,
        20,
        "flag `--keep-git-dir` is true or false, not `no`",
    ),
    (
        "RUN --network=bridge a",
        2,
        15,
        "invalid value `bridge` of flag `--network`",
    ),
    (
        "RUN --security=none a",
        2,
        16,
        "invalid value `none` of flag `--security`",
    ),
    (
        "RUN --device= a",
        2,
        14,
        "invalid value `` of flag `--device`",
    ),
    (
        "HEALTHCHECK --retries=x CMD a",
        2,
        23,
        "invalid value `x` of flag `--retries`",
    ),
    (
        "HEALTHCHECK --retries=-1 CMD a",
        2,
        23,
        "invalid value `-1` of flag `--retries`",
    ),
    (
        "COPY --from=$a b c",
        2,
        13,
        "variable expansion is not supported for `--from`",
    ),
    (
        "COPY --chmod=9 b c",
        2,
        14,
        "invalid `--chmod`: `9` is not an octal number between 0 and 07777",
    ),
    (
        "COPY --chmod=77777 b c",
        2,
        14,
        "invalid `--chmod`: `77777` is not an octal number between 0 and 07777",
    ),
    (
        "ADD --chmod=u+q b c",
        2,
        13,
        "invalid `--chmod`: `u+q` is not a mode",
    ),
    // Mounts.
    (
        "RUN --mount=type=x a",
        2,
        13,
        "invalid `--mount`: invalid value `x` of key `type`",
    ),
    (
        "RUN --mount=type=cache,tagret=/a b",
        2,
        24,
        "invalid `--mount`: unexpected key `tagret`; did you mean `target`?",
    ),
    (
        "RUN --mount=type=bind,from b",
        2,
        23,
        "invalid `--mount`: key `from` must have a value",
    ),
    (
        "RUN --mount=type=secret b",
        2,
        13,
        "invalid `--mount`: a secret needs one of id, source and target",
    ),
    (
        "RUN --mount=from=$a,target=/b c",
        2,
        13,
        "invalid `--mount`: `from` doesn't support variable expansion, define an alias stage instead",
    ),
    (
        "RUN --mount=type=tmpfs,target=/a,mode=1 c",
        2,
        34,
        "invalid `--mount`: key `mode` does not go with a mount of type `tmpfs`",
    ),
    (
        "RUN --mount='target=\"/a' b",
        2,
        14,
        "invalid `--mount`: quotes in a comma-separated list do not match",
    ),
    // JSON.
    (
        "CMD [1]",
        2,
        6,
        "when using JSON array syntax, arrays must be comprised of strings only",
    ),
    (
        "RUN [\"a\", null]",
        2,
        11,
        "when using JSON array syntax, arrays must be comprised of strings only",
    ),
    (
        "COPY [\"a\", [\"b\"]]",
        2,
        12,
        "when using JSON array syntax, arrays must be comprised of strings only",
    ),
    (
        "VOLUME [{}]",
        2,
        9,
        "when using JSON array syntax, arrays must be comprised of strings only",
    ),
    (
        "HEALTHCHECK CMD [true]",
        2,
        18,
        "when using JSON array syntax, arrays must be comprised of strings only",
    ),
    // Heredocs.
    ("RUN <<E\na", 2, 5, "unterminated heredoc `E`"),
    (
        "COPY a <<E\nE",
        2,
        8,
        "COPY cannot accept a heredoc as a destination",
    ),
    (
        "COPY << E /\nE",
        2,
        6,
        "heredoc `E` is not a source of COPY",
    ),
    (
        "ADD <<'a b' /\na b",
        2,
        5,
        "heredoc `a b` is not a source of ADD",
    ),
    // Checks of health.
    (
        "HEALTHCHECK NONE a",
        2,
        18,
        "HEALTHCHECK NONE takes no arguments",
    ),
    (
        "HEALTHCHECK CMD",
        2,
        16,
        "missing command after HEALTHCHECK CMD",
    ),
    ("HEALTHCHECK a", 2, 13, "unknown type `a` in HEALTHCHECK"),
    (
        "HEALTHCHECK --interval=1 CMD a",
        2,
        24,
        "invalid value of flag `--interval`: `1` has no unit",
    ),
    (
        "HEALTHCHECK --timeout=1us CMD a",
        2,
        23,
        "invalid value of flag `--timeout`: `1us` is less than 1ms",
    ),
    // Triggers.
    (
        "ONBUILD ONBUILD RUN a",
        2,
        9,
        "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
    ),
    (
        "ONBUILD FROM a",
        2,
        9,
        "FROM isn't allowed as an ONBUILD trigger",
    ),
    (
        "ONBUILD MAINTAINER a",
        2,
        9,
        "MAINTAINER isn't allowed as an ONBUILD trigger",
    ),
    ("ONBUILD RUN", 2, 12, "RUN requires at least one argument"),
    (
        "ONBUILD COPY --from=$a b c",
        2,
        21,
        "variable expansion is not supported for `--from`",
    ),
];

/// Whole files.
const FILES: &[(&[u8], u32, u32, &str)] = &[
    (b"", 1, 1, "file with no instructions"),
    (b"# only a comment\n", 2, 1, "file with no instructions"),
    (b"ARG a=1\n", 2, 1, "dockerfile contains no stages to build"),
    (
        b"RUN a\nFROM b\n",
        1,
        1,
        "no build stage in current context: RUN before the first FROM",
    ),
    (
        b"# escape=`\n# escape=`\nFROM a",
        2,
        1,
        "only one escape parser directive can be used",
    ),
    (
        b"# Syntax=a\n#syntax=b\nFROM a",
        2,
        1,
        "only one syntax parser directive can be used",
    ),
    (b"# escape=x\nFROM a", 1, 10, "invalid escape token `x`"),
    (b"# check=skip\nFROM a", 1, 9, "invalid check option `skip`"),
    (
        b"# check=error=perhaps\nFROM a",
        1,
        9,
        "invalid check option `error=perhaps`",
    ),
    (b"FROM a\nRUN \xFF\n", 2, 5, "text is not UTF-8"),
    (b"\xFF\xFEF\0", 1, 1, "file is UTF-16, not UTF-8"),
];

fn errors() -> Vec<ParseError> {
    let mut errors = Vec::new();
    for (text, line, column, message) in REFUSED {
        let error = bad(&format!("FROM scratch\n{text}"));
        let found = (error.line(), error.column(), error.to_string());
        assert_eq!(found, (*line, *column, (*message).to_owned()), "{text}");
        errors.push(error);
    }
    for (text, line, column, message) in FILES {
        let error = parse(text).unwrap_err();
        let found = (error.line(), error.column(), error.to_string());
        let shown = text.escape_ascii();
        assert_eq!(found, (*line, *column, (*message).to_owned()), "{shown}");
        errors.push(error);
    }
    errors.push(bad(&format!("FROM a\nRUN {}", "x".repeat(65_536))));
    errors.push(parse(&vec![b'\n'; MAX_SIZE + 1]).unwrap_err());
    errors.push(parse_trigger("RUN a\nRUN b").unwrap_err());
    errors
}

/// The variants of `ErrorKind`, as the source has them.
fn variants() -> BTreeSet<&'static str> {
    let source = include_str!("../../src/error.rs");
    let body = source.split_once("pub enum ErrorKind {").unwrap().1;
    let body = body.split_once("\n}\n").unwrap().0;
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let named = lines.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    named
        .map(|line| line.split([' ', '(', ',']).next().unwrap())
        .collect()
}

#[test]
fn every_mistake_has_its_place_and_its_reason() {
    let name = |kind: &ErrorKind| -> String {
        let shown = format!("{kind:?}");
        let end = shown.find([' ', '(']).unwrap_or(shown.len());
        shown[..end].to_owned()
    };
    let seen: BTreeSet<String> = errors().iter().map(|error| name(&error.kind)).collect();
    let missing: Vec<&str> = variants()
        .into_iter()
        .filter(|variant| !seen.contains(*variant))
        .collect();
    // Words are split by the same quotes, so that none of them can be malformed on its own.
    assert_eq!(missing, ["HeredocDelimiter"]);
}
