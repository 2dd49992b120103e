//! "Lexing, directives".

use firebuild_dockerfile::{Command, ErrorKind, InstructionKind, detect_syntax, parse};

use crate::{bad, good, last, refused, shown};

/// The text of the first `RUN`.
fn run(text: &str) -> String {
    let dockerfile = good(text);
    let mut runs = dockerfile.instructions.iter();
    runs.find_map(|instruction| match &instruction.kind {
        InstructionKind::Run(run) => match &run.command {
            Command::Shell(text) => Some(text.clone()),
            Command::Exec(_) => None,
        },
        _ => None,
    })
    .unwrap()
}

#[test]
fn directives_stand_at_the_top() {
    for (top, escape) in [
        ("# escape=`", '`'),
        ("#escape = ` ", '`'),
        ("# ESCAPE=`", '`'),
        ("  # escape=`", '`'),
        ("# syntax=docker/dockerfile:1\n# escape=`", '`'),
        ("# check=skip=all\n# escape=`", '`'),
        ("\u{FEFF}# escape=`", '`'),
        ("# escape=\\", '\\'),
        ("\n# escape=`", '\\'),
        ("# a comment\n# escape=`", '\\'),
        ("# unknown=x\n# escape=`", '\\'),
        ("#\n# escape=`", '\\'),
        // A name begins with a letter and has letters and digits, and there is a value.
        ("# syntax=\n# escape=`", '\\'),
        ("# 1a=b\n# escape=`", '\\'),
        ("# es cape=b\n# escape=`", '\\'),
        ("# escape`\n# escape=`", '\\'),
        ("#\tescape\t=\t`\t", '`'),
        ("#escape=`\r", '`'),
        ("# check=skip=all\n# Syntax=a\n# eScApE=`", '`'),
        ("ARG A\n# escape=`", '\\'),
    ] {
        let dockerfile = good(&format!("{top}\nFROM scratch\n"));
        assert_eq!(dockerfile.directives.escape, escape, "{top}");
    }
}

#[test]
fn directives_can_be_wrong() {
    for (top, message) in [
        (
            "# escape=`\n# escape=`",
            "only one escape parser directive can be used",
        ),
        (
            "# syntax=a\n# syntax=b",
            "only one syntax parser directive can be used",
        ),
        (
            "# check=skip=A\n# check=skip=B",
            "only one check parser directive can be used",
        ),
        ("# escape=x", "invalid escape token `x`"),
        ("# escape=``", "invalid escape token ````"),
        ("# check=skip", "invalid check option `skip`"),
        ("# check=error=maybe", "invalid check option `error=maybe`"),
        ("# check=warn=A", "invalid check option `warn=A`"),
    ] {
        assert_eq!(
            bad(&format!("{top}\nFROM scratch")).to_string(),
            message,
            "{top}"
        );
    }
}

#[test]
fn check_directives_are_read() {
    let top = "# check=skip=A, B;error=true;experimental=all\nFROM scratch";
    let check = good(top).directives.check.unwrap();
    assert_eq!(check.skip.into_iter().collect::<Vec<_>>(), ["A", "B"]);
    assert!(check.error && check.experimental_all && !check.skip_all);
    let check = good("# check=skip=all\nFROM scratch").directives.check;
    assert!(check.unwrap().skips("Anything"));
    let above = last("# check=skip=A\nRUN a").check.unwrap();
    assert!(above.skips("A") && !above.skips("B"));
    assert_eq!(last("# check=skip=A\n\nRUN a").check, None);
}

#[test]
fn syntax_is_found_in_every_form() {
    for (text, syntax) in [
        ("# syntax=a/b:1\nFROM x", Some("a/b:1")),
        ("#syntax = a/b:1 x \n", Some("a/b:1 x")),
        ("\u{FEFF}# syntax=a", Some("a")),
        ("#!/usr/bin/env x\n# syntax=a", Some("a")),
        ("# escape=`\n# syntax=a", Some("a")),
        ("//syntax=a\n", Some("a")),
        ("#!/x\n// syntax=a\n", Some("a")),
        (r#"{"x": [1, {"syntax": "b"}], "syntax": "a"}"#, Some("a")),
        (r#"{"syntax": 1}"#, None),
        (r#"{"syntax": "a""#, None),
        ("\n# syntax=a", None),
        ("# x\n# syntax=a", None),
        ("FROM x", None),
        ("", None),
    ] {
        let found = detect_syntax(text.as_bytes());
        assert_eq!(found.map(|word| word.text).as_deref(), syntax, "{text}");
    }
    let found = good("# syntax=a/b:1 \nFROM scratch")
        .directives
        .syntax
        .unwrap();
    assert_eq!((found.span.start.column, found.span.range()), (10, 9..14));
}

#[test]
fn lines_have_a_limit() {
    let fits = format!("FROM scratch\nRUN {}", "x".repeat(65_531));
    good(&fits);
    good(&format!("{fits}\nRUN y"));
    let error = bad(&format!("{fits}x\nRUN y"));
    assert_eq!(error.line(), 2);
    assert_eq!(
        error.to_string(),
        "dockerfile line greater than max allowed size of 65535"
    );
    let long = "x".repeat(65_536);
    for text in [
        format!("FROM scratch\n#{long}"),
        format!("FROM scratch\nRUN <<E\n{long}\nE"),
        format!("FROM scratch\nRUN a \\\n {long}"),
        format!("FROM scratch\nRUN a \\\n# {long}\n b"),
        format!("{long}\nFROM scratch"),
    ] {
        assert_eq!(bad(&text).kind, ErrorKind::LineTooLong);
    }
}

#[test]
fn a_file_needs_instructions() {
    for text in ["", "\n\n", "# a\n", "# syntax=a", "\u{FEFF}"] {
        assert_eq!(
            bad(text).to_string(),
            "file with no instructions",
            "{text:?}"
        );
    }
    assert_eq!(bad("ARG A").kind, ErrorKind::NoStages);
}

#[test]
fn lines_continue() {
    for (text, command) in [
        ("RUN a \\\n  b", "a   b"),
        ("RUN a\\\nb", "ab"),
        ("RUN a \\ \t\n b", "a  b"),
        ("RUN a \\\r\n b\r\n", "a  b"),
        ("RUN a \\\n# comment\n  # another \\\n b", "a  b"),
        ("RUN a \\\n\n  \n b", "a  b"),
        ("RUN a \\", "a"),
        ("RUN a \\\n", "a"),
        ("RUN a \\\n\\\n\\\nb", "a b"),
        ("RUN \\\na", "a"),
        ("  RUN a", "a"),
        ("RUN a # not a comment", "a # not a comment"),
        ("RUN a \\ b", "a \\ b"),
        ("\\\nRUN a", "a"),
        // What is skipped: comments in whatever place, blanks before the end, the end itself.
        ("RUN a \\\n#\n#\n b", "a  b"),
        ("RUN a \\\n # x \\\n b", "a  b"),
        ("RUN a \\\n  # x", "a"),
        ("RUN a \\\t\n\tb", "a \tb"),
        ("RUN a#b \\\n c#d", "a#b  c#d"),
    ] {
        assert_eq!(run(&format!("FROM scratch\n{text}")), command, "{text:?}");
    }
    let two = good("FROM scratch\nRUN a \\\\\nRUN b");
    assert_eq!(two.instructions.len(), 3, "two escapes do not continue");
    assert_eq!(run("# escape=`\nFROM scratch\nRUN a `\n b \\"), "a  b \\");
}

#[test]
fn instructions_keep_their_text_and_place() {
    let dockerfile = good("FROM scratch\n\n  run a \\\n # x\n  b\nCMD []");
    let run = &dockerfile.instructions[1];
    assert_eq!(run.original, "run a   b");
    assert_eq!(run.keyword, "run");
    let place = (
        run.span.start.line,
        run.span.start.column,
        run.span.end.line,
    );
    assert_eq!(place, (3, 3, 5));
    let json = serde_json::to_value(run).unwrap();
    assert_eq!(json["line"], 3);
    assert_eq!(json["end_line"], 5);
    assert_eq!(json["instruction"], "RUN");
    assert_eq!(json["command"]["shell"], "a   b");
}

#[test]
fn flags_are_read() {
    for (text, fields) in [
        (
            "COPY --from=a --link b c",
            r#"{"destination":"c","from":"a","link":true,"sources":[{"path":"b"}]}"#,
        ),
        (
            r#"COPY --chown="a b" --chmod='6'44 c d"#,
            r#"{"chmod":"644","chown":"a b","destination":"d","sources":[{"path":"c"}]}"#,
        ),
        (
            r"COPY --chown=a\ b c d",
            r#"{"chown":"a b","destination":"d","sources":[{"path":"c"}]}"#,
        ),
        (
            "COPY --exclude=a --exclude=b c d",
            r#"{"destination":"d","exclude":["a","b"],"sources":[{"path":"c"}]}"#,
        ),
        (
            "COPY --link=false --parents=TRUE a b",
            r#"{"destination":"b","parents":true,"sources":[{"path":"a"}]}"#,
        ),
        (
            "COPY --from= a b",
            r#"{"destination":"b","sources":[{"path":"a"}]}"#,
        ),
        (
            "COPY -- --a b",
            r#"{"destination":"b","sources":[{"path":"--a"}]}"#,
        ),
        ("RUN -- --mount=x", r#"{"command":{"shell":"--mount=x"}}"#),
        ("RUN a --mount=x", r#"{"command":{"shell":"a --mount=x"}}"#),
        ("RUN -x", r#"{"command":{"shell":"-x"}}"#),
    ] {
        assert_eq!(shown(text), fields, "{text}");
    }
}

#[test]
fn flags_can_be_wrong() {
    for (text, marked, message) in [
        (
            "COPY --form=a b c",
            "--form",
            "unknown flag `--form` of COPY; did you mean `--from`?",
        ),
        (
            "COPY --unpack a b",
            "--unpack",
            "unknown flag `--unpack` of COPY",
        ),
        ("WORKDIR --x /", "--x", "unknown flag `--x` of WORKDIR"),
        ("ENV --x a=b", "--x", "unknown flag `--x` of ENV"),
        (
            "COPY --from=a --from=b c d",
            "--from",
            "duplicate flag `--from`",
        ),
        (
            "COPY --link --link c d",
            "--link",
            "duplicate flag `--link`",
        ),
        (
            "COPY --from c d",
            "--from",
            "missing a value on flag `--from`",
        ),
        (
            "COPY --link= c d",
            "--link",
            "missing a value on flag `--link`",
        ),
        (
            "COPY --link=yes c d",
            "yes",
            "flag `--link` is true or false, not `yes`",
        ),
        (
            "RUN --network='x' y",
            "x",
            "invalid value `x` of flag `--network`",
        ),
    ] {
        let (line, _, found, error) = refused(text);
        assert_eq!(
            (line, found.as_str(), error.as_str()),
            (2, marked, message),
            "{text}"
        );
    }
}

#[test]
fn json_form_is_told_from_shell_form() {
    for (text, fields) in [
        (r#"RUN ["a", "b c"]"#, r#"{"command":{"exec":["a","b c"]}}"#),
        ("CMD []", r#"{"command":{"exec":[]}}"#),
        ("RUN ['a']", r#"{"command":{"shell":"['a']"}}"#),
        (r#"RUN ["a""#, r#"{"command":{"shell":"[\"a\""}}"#),
        (r#"RUN ["a"] b"#, r#"{"command":{"shell":"[\"a\"] b"}}"#),
        ("RUN [ -f a ]", r#"{"command":{"shell":"[ -f a ]"}}"#),
        (
            r#"ENTRYPOINT [ "\u0041", "\\" ]"#,
            r#"{"command":{"exec":["A","\\"]}}"#,
        ),
        (r#"VOLUME ["/a b"]"#, r#"{"json":true,"paths":["/a b"]}"#),
        ("VOLUME /a /b", r#"{"paths":["/a","/b"]}"#),
        (
            r#"COPY ["a b", "c"]"#,
            r#"{"destination":"c","json":true,"sources":[{"path":"a b"}]}"#,
        ),
        (
            r#"ADD ["a b", "c"]"#,
            r#"{"destination":"c","json":true,"sources":[{"path":"a b"}]}"#,
        ),
        (r#"SHELL ["a", "-c"]"#, r#"{"shell":["a","-c"]}"#),
        (
            r#"HEALTHCHECK CMD ["a"]"#,
            r#"{"command":{"exec":["a"]},"interval_ns":0,"retries":0,"start_interval_ns":0,"start_period_ns":0,"timeout_ns":0,"type":"CMD"}"#,
        ),
    ] {
        assert_eq!(shown(text), fields, "{text}");
    }
    for text in [
        r#"RUN ["a", 1]"#,
        r#"CMD ["a", 1]"#,
        r#"ENTRYPOINT ["a", 1]"#,
        r#"SHELL ["a", 1]"#,
        r#"ADD ["a", 1]"#,
        r#"COPY ["a", 1]"#,
        r#"VOLUME ["a", 1]"#,
        r#"HEALTHCHECK CMD ["a", 1]"#,
    ] {
        let (_, column, marked, message) = refused(text);
        assert_eq!(
            (column as usize, marked.as_str()),
            (text.len() - 1, "1"),
            "{text}"
        );
        assert_eq!(
            message,
            "when using JSON array syntax, arrays must be comprised of strings only"
        );
    }
}

#[test]
fn words_may_be_in_any_case() {
    let dockerfile = good("from scratch As X\nRun a\nonbuild copy a b");
    let names: Vec<_> = dockerfile
        .instructions
        .iter()
        .map(|i| i.kind.name())
        .collect();
    assert_eq!(names, ["FROM", "RUN", "ONBUILD"]);
    let originals: Vec<_> = dockerfile
        .instructions
        .iter()
        .map(|i| &i.original)
        .collect();
    assert_eq!(
        originals,
        ["from scratch As X", "Run a", "onbuild copy a b"]
    );
}

#[test]
fn comments_describe_what_is_below_them() {
    let text = "# syntax=a\n# base where all begins\nARG base=x other\n\
                # lost\n\n# more\n#build the program\nFROM scratch AS build\n\
                #\n#  run \u{e9} \nRUN a";
    let dockerfile = good(text);
    let InstructionKind::Arg(arg) = &dockerfile.instructions[0].kind else {
        panic!();
    };
    let description = arg.arguments[0].description.as_deref();
    assert_eq!(description, Some("where all begins"));
    assert_eq!(arg.arguments[1].description, None);
    let InstructionKind::From(from) = &dockerfile.instructions[1].kind else {
        panic!();
    };
    assert_eq!(from.description.as_deref(), Some("the program"));
    assert_eq!(
        dockerfile.instructions[1].comments,
        ["more", "build the program"]
    );
    assert_eq!(dockerfile.instructions[2].comments, ["run \u{e9}"]);
}

#[test]
fn encodings_are_checked() {
    good(&String::from_utf8_lossy(b"# \xff\nFROM scratch"));
    assert!(
        parse(b"# caf\xe9\nFROM scratch\nRUN a \\\n# \xe9\n b").is_ok(),
        "in comments"
    );
    let error = parse(b"FROM scratch\nRUN caf\xe9").unwrap_err();
    assert_eq!(
        (error.kind, error.span.start.line, error.span.start.column),
        (ErrorKind::NotUtf8, 2, 8)
    );
    let error = parse(b"FROM scratch\nCOPY <<E /\n\xff\nE").unwrap_err();
    assert_eq!((error.kind, error.span.start.line), (ErrorKind::NotUtf8, 3));
    assert_eq!(parse(b"\xff\xfeF\0").unwrap_err().kind, ErrorKind::Utf16);
}
