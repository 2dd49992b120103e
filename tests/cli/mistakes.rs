//! Mistakes in a Dockerfile: file, line, column, the line with a mark, what was expected. No mistake
//! leaves anything in the store.

use crate::session;

/// A Dockerfile, and what is said about it.
const MISTAKES: &[(&str, &str)] = &[
    (
        "FROM scratch\nRNU true\n",
        "\
error: unknown instruction `RNU`; did you mean `RUN`?
 --> context/Dockerfile:2:1
  |
2 | RNU true
  | ^^^ an instruction and a blank
",
    ),
    (
        "FROM scratch\nRUN --mount=type=cache,target=/ true\n",
        "\
error: a mount cannot cover the root directory
 --> context/Dockerfile:2:13
  |
2 | RUN --mount=type=cache,target=/ true
  |             ^^^^^^^^^^^^^^^^^^^
",
    ),
    (
        "FROM scratch\n\n# comment\nCOPY https://example.com/x /x\n",
        "\
error: the source of COPY can't be a URL; use ADD
 --> context/Dockerfile:4:6
  |
4 | COPY https://example.com/x /x
  |      ^^^^^^^^^^^^^^^^^^^^^
",
    ),
    (
        "FROM nosuch:1\nRUN true\n",
        "\
error: the base image is not available
 --> context/Dockerfile:1:6
  |
1 | FROM nosuch:1
  |      ^^^^^^^^
  |
  = note: caused by: image `nosuch:1` is not in the store; looked for `docker.io/library/nosuch:1`
  = hint: import it with `firebuild image import FILE --tag nosuch:1`, or build it with `firebuild build -t nosuch:1 …`
",
    ),
    (
        "FROM debian:bookworm-slim\n",
        "\
error: the base image is not available
 --> context/Dockerfile:1:6
  |
1 | FROM debian:bookworm-slim
  |      ^^^^^^^^^^^^^^^^^^^^
  |
  = note: caused by: image `debian:bookworm-slim` is not in the store; looked for `docker.io/library/debian:bookworm-slim`
  = hint: make it with `firebuild baseos --bootstrap debian:bookworm --tag debian:bookworm-slim`
",
    ),
    (
        "",
        "\
error: file with no instructions
 --> context/Dockerfile:1:1
  |
1 |
  | ^ FROM
",
    ),
    (
        "FROM scratch\nUSER\n",
        "\
error: USER requires exactly one argument
 --> context/Dockerfile:2:5
  |
2 | USER
  |     ^ USER[:GROUP] or UID[:GID]
",
    ),
    (
        "FROM scratch\nRUN --mount=type=bind,foo=1 true\n",
        "\
error: invalid `--mount`: unexpected key `foo`
 --> context/Dockerfile:2:23
  |
2 | RUN --mount=type=bind,foo=1 true
  |                       ^^^^^
",
    ),
    (
        "FROM scratch\nENV A=${x/a}\n",
        "\
error: syntax error: missing '/' in ${}
 --> context/Dockerfile:2:7
  |
2 | ENV A=${x/a}
  |       ^^^^^^
",
    ),
    (
        "FROM scratch\nEXPOSE 99999\n",
        "\
error: invalid port `99999`
 --> context/Dockerfile:2:8
  |
2 | EXPOSE 99999
  |        ^^^^^
",
    ),
    (
        "FROM scratch\nSTOPSIGNAL SIGFOO\n",
        "\
error: `SIGFOO` is not a signal
 --> context/Dockerfile:2:12
  |
2 | STOPSIGNAL SIGFOO
  |            ^^^^^^
",
    ),
    (
        "FROM scratch\nCOPY <<EOF /x\nfoo\n",
        "\
error: unterminated heredoc `EOF`
 --> context/Dockerfile:2:6
  |
2 | COPY <<EOF /x
  |      ^^^^^ a line `EOF` further down
  |
  = hint: end it with a line that holds only `EOF`, or quote `<<` if it opens none
",
    ),
];

#[test]
fn a_mistake_is_shown_where_it_is() {
    let (session, _root) = session();
    for (text, said) in MISTAKES {
        let shown = session.build(text, &["-t", "broken"]).failure();
        assert_eq!(shown, *said, "{text}");
    }
    assert_eq!(
        session.json(&["images", "--format", "json"]),
        serde_json::json!([])
    );
}

#[test]
fn what_cannot_be_copied_is_named() {
    let (session, _root) = session();
    let cases = [
        (
            "COPY nope /x",
            "error: stage `stage-0`: `nope` not found\n --> context/Dockerfile:2:6\n",
        ),
        (
            "COPY --from=nope a b",
            "error: stage `stage-0`: image `nope:latest` is not in the store; looked for `docker.io/library/nope:latest`\n --> context/Dockerfile:2:1\n",
        ),
    ];
    for (line, said) in cases {
        let shown = session
            .build(&format!("FROM scratch\n{line}\n"), &["-t", "broken"])
            .failure();
        assert!(shown.contains(said), "{shown}");
    }
    assert_eq!(session.ok(&["images"]).lines().count(), 1);
}

#[test]
fn the_dockerfile_is_looked_for_where_it_was_named() {
    let (session, _root) = session();
    let hint = "hint: name the Dockerfile with `-f FILE`; the last argument is the directory whose files it may copy\n";
    fs_err::create_dir(session.path("empty")).unwrap();
    assert_eq!(
        session.run(&["build", "empty"]).failure(),
        format!("error: there is no Dockerfile `empty/Dockerfile`\n{hint}")
    );
    session.write("context/other", "FROM scratch\nRNU true\n");
    let named = session.run(&["build", "-f", "context/other", "context"]);
    assert!(named.failure().contains(" --> context/other:2:1\n"));
    session.write("lower/dockerfile", "FROM scratch\nCOPY dockerfile /\n");
    session.run(&["build", "lower"]).success();
}

#[test]
fn names_that_would_be_overlooked_are_told() {
    let (session, _root) = session();
    let text = "FROM scratch AS front\nCOPY <<a /b\na\nFROM scratch\nCOPY --from=front / /\n";
    for (name, hint) in [
        ("frnt", "hint: did you mean `front`?\n"),
        ("elsewhere", "hint: its stages are `front`, `stage-1`\n"),
    ] {
        let argument = format!("--no-cache=stage-1,{name}");
        let said = session.build(text, &[&argument]).failure();
        let expected =
            format!("error: `--no-cache={name}`: the Dockerfile has no such stage\n{hint}");
        assert_eq!(said, expected);
    }
    for known in ["--no-cache=Front", "--no-cache=stage-1,front", "--no-cache"] {
        session.build(text, &[known]).success();
    }
    for name in ["scratch", "Context"] {
        let given = format!("{name}=context");
        let said = session.build(text, &["--build-context", &given]).stderr;
        let expected = format!("`{name}` cannot be the name of a named context");
        assert!(said.contains(&expected), "{said}");
    }
}

#[test]
fn what_a_command_cannot_do_without_is_missed_before_a_vm_starts() {
    let (session, _root) = session();
    for (mount, missing, hint) in [
        (
            "type=secret,id=key,required",
            "the build has no secret `key`",
            "give it with `--secret id=key,src=FILE` or `--secret id=key,env=NAME`",
        ),
        (
            "type=secret,env=KEY,id=key,required=true",
            "the build has no secret `key`",
            "give it with `--secret id=key,src=FILE` or `--secret id=key,env=NAME`",
        ),
        (
            "type=ssh,required",
            "the build has no SSH agent `default`",
            "give it with `--ssh default`",
        ),
    ] {
        let text = format!("FROM scratch\nCOPY <<a /b\na\nRUN --mount={mount} \\\n  x\n");
        let said = session.build(&text, &["-t", "broken"]).failure();
        let expected = format!("error: stage `stage-0`: {missing}\n --> context/Dockerfile:4:1\n");
        assert!(said.contains(&expected), "{said}");
        assert!(said.contains(&format!("= hint: {hint}")), "{said}");
        assert!(!said.contains("VM"), "{said}");
    }
    assert_eq!(session.ok(&["images"]).lines().count(), 1);
}
