//! "Heredocs".

use std::borrow::Cow;

use firebuild_dockerfile::{Expander, Heredoc, InstructionKind, Invocation, Source, parse_trigger};

use crate::{good, last, refused};

fn heredocs(text: &str) -> Vec<Heredoc> {
    last(text).kind.heredocs().into_iter().cloned().collect()
}

#[test]
fn heredocs_are_recognised() {
    // Name, expand, strip tabs, descriptor.
    for (word, expected) in [
        ("<<EOF", Some(("EOF", true, false, 0))),
        ("<<-EOF", Some(("EOF", true, true, 0))),
        ("3<<EOF", Some(("EOF", true, false, 3))),
        ("<< EOF", Some(("EOF", true, false, 0))),
        ("<<'EOF'", Some(("EOF", false, false, 0))),
        ("<<\"EOF\"", Some(("EOF", false, false, 0))),
        ("<<E'O'F", Some(("EOF", false, false, 0))),
        ("<<-'EOF'", Some(("EOF", false, true, 0))),
        ("<<$EOF", Some(("$EOF", true, false, 0))),
        ("<<'a b'", Some(("a b", false, false, 0))),
        ("<<<EOF", None),
        ("<<", None),
        ("<EOF", None),
        ("a<<EOF", None),
        ("'<<EOF'", None),
        ("\\<<EOF", None),
        ("'", None),
        ("\"it's <<EOF", None),
    ] {
        let delimiter = expected.map_or(String::new(), |(name, ..)| format!("\nbody\n{name}\n"));
        let found = heredocs(&format!("RUN cat {word}{delimiter}"));
        let found = found.first().map(|heredoc| {
            assert_eq!(heredoc.body, "body\n");
            let name = heredoc.name.as_str();
            (name, heredoc.expand, heredoc.strip_tabs, heredoc.descriptor)
        });
        assert_eq!(found, expected, "{word}");
    }
}

#[test]
fn several_may_follow_one_another() {
    let text = "COPY <<one 2<<-\"two\" a /b\n1\n\ntwo\none\n\t2\n\ttwo\nRUN x";
    let dockerfile = good(&format!("FROM scratch\n{text}"));
    let InstructionKind::Copy(copy) = &dockerfile.instructions[1].kind else {
        panic!();
    };
    let [
        Source::Heredoc(one),
        Source::Heredoc(two),
        Source::Path(path),
    ] = copy.sources.as_slice()
    else {
        panic!("{:?}", copy.sources);
    };
    assert_eq!(
        (one.body.as_str(), two.body.as_str()),
        ("1\n\ntwo\n", "\t2\n")
    );
    assert_eq!(two.content(), "2\n");
    assert_eq!(
        (path.text.as_str(), copy.destination.text.as_str()),
        ("a", "/b")
    );
    let span = dockerfile.instructions[1].span;
    assert_eq!((span.start.line, span.end.line), (2, 8));
    assert_eq!((one.body_span.start.line, one.body_span.end.line), (3, 6));
    assert_eq!(one.token.span.start.column, 6);
    assert_eq!(dockerfile.instructions[2].span.start.line, 9);
}

#[test]
fn bodies_stay_as_they_are() {
    for (text, body) in [
        (
            "RUN <<E\n  a \\\n# b\n\n\tc\r\nE\n",
            "  a \\\n# b\n\n\tc\r\n",
        ),
        ("RUN <<E\nE", ""),
        ("RUN <<E\r\na\r\nE\r\n", "a\r\n"),
        ("RUN <<E\n E\n\tE\nEE\nE", " E\n\tE\nEE\n"),
        ("RUN <<-E\n\t a\n\t\tE", "\t a\n"),
        ("RUN a \\\n <<E\nb\nE", "b\n"),
        // Only tabs are stripped before the delimiter, and only with a dash.
        ("RUN <<-E\n a\n \tE\n\tE", " a\n \tE\n"),
        ("RUN <<E\na\nE \nE", "a\nE \n"),
        ("RUN <<E\n<<F\nF\nE", "<<F\nF\n"),
        ("RUN <<''E\n$x\nE", "$x\n"),
    ] {
        assert_eq!(heredocs(text)[0].body, body, "{text:?}");
    }
    let stripped = &heredocs("RUN <<-E\n\t\ta\tb\n \tc\n\tE")[0];
    assert_eq!(stripped.content(), "a\tb\n \tc\n");
}

#[test]
fn only_three_instructions_have_them() {
    for text in [
        "CMD cat <<EOF",
        "ENV a <<EOF",
        r#"RUN ["cat", "<<EOF"]"#,
        r#"COPY ["<<EOF", "/"]"#,
        r#"ONBUILD RUN ["cat", "<<EOF"]"#,
        "ONBUILD CMD <<EOF",
    ] {
        assert_eq!(heredocs(text), [], "{text}");
    }
    let shell = "RUN ['<<EOF' <<E\na\nE";
    assert_eq!(heredocs(shell).len(), 1, "malformed JSON is shell form");
}

#[test]
fn heredocs_can_be_wrong() {
    for (text, line, marked, message) in [
        ("RUN <<EOF\na", 2, "<<EOF", "unterminated heredoc `EOF`"),
        ("RUN <<EOF\n EOF", 2, "<<EOF", "unterminated heredoc `EOF`"),
        ("RUN \\\n <<A <<B\nA", 3, "<<B", "unterminated heredoc `B`"),
        (
            "COPY a <<E\nE",
            2,
            "<<E",
            "COPY cannot accept a heredoc as a destination",
        ),
        (
            "ADD << E /\nE",
            2,
            "<< E",
            "heredoc `E` is not a source of ADD",
        ),
        (
            "COPY <<'a b' /\na b",
            2,
            "<<'a b'",
            "heredoc `a b` is not a source of COPY",
        ),
    ] {
        let (at, _, found, error) = refused(text);
        assert_eq!(
            (at, found.as_str(), error.as_str()),
            (line, marked, message),
            "{text}"
        );
    }
}

#[test]
fn run_hands_them_to_the_shell() {
    let shell = |text: &'static str| Invocation::Shell(Cow::Borrowed(text));
    let exec = ["a".to_owned()];
    for (text, invocation) in [
        ("RUN a", shell("a")),
        (r#"RUN ["a"]"#, Invocation::Exec(&exec)),
        ("RUN <<E\na\nb\nE", shell("a\nb\n")),
        ("RUN 3<<'E'\n$a\nE", shell("$a\n")),
        ("RUN <<-E\n\ta\n\tE", shell("a\n")),
        (
            "RUN <<-E\n#!/bin/x\n\ta\nE",
            Invocation::Script {
                name: "E",
                content: Cow::Borrowed("#!/bin/x\na\n"),
            },
        ),
        ("RUN cat <<E\n#!a\nE", shell("cat <<E\n#!a\nE")),
        (
            "RUN <<-A b <<C\n\td\n\tA\ne\nC",
            shell("<<-A b <<C\n\td\nA\ne\nC"),
        ),
    ] {
        let InstructionKind::Run(run) = last(text).kind else {
            panic!();
        };
        assert_eq!(run.invocation(), invocation, "{text}");
    }
}

#[test]
fn copied_bodies_are_expanded() {
    let environment = vec![("who", "x"), ("empty", "")];
    for (text, content) in [
        ("COPY <<E /\n$who ${who} ${no} ${no:-y}\nE", "x x  y\n"),
        ("COPY <<E /\n\"$who\" '$who' it's\nE", "\"x\" 'x' it's\n"),
        ("COPY <<E /\n\\$who \\a \\\\\nE", "$who a \\\n"),
        ("COPY <<'E' /\n\"$who\" \\$who\nE", "\"$who\" \\$who\n"),
        ("COPY <<-E /\n\t$who\n\tE", "x\n"),
    ] {
        let heredoc = heredocs(text).remove(0);
        let expanded = Expander::new('`').heredoc(&heredoc, &environment).unwrap();
        assert_eq!(expanded.value, content, "{text}");
    }
    let heredoc = heredocs("COPY <<E /\nab\ncd ${x:?no x}\nE").remove(0);
    let error = Expander::default().heredoc(&heredoc, &()).unwrap_err();
    assert_eq!((error.span.start.line, error.span.start.column), (4, 4));
    assert_eq!(error.to_string(), "x: no x");
}

#[test]
fn onbuild_keeps_them_inside() {
    let instruction = last("ONBUILD RUN --mount=target=/a cat <<A <<'B'\na\nA\nb\nB\nRUN x");
    assert_eq!(instruction.kind.name(), "RUN");
    let instruction = last("onbuild  run cat <<A <<'B'  \na\nA\nb\nB");
    let InstructionKind::Onbuild(onbuild) = &instruction.kind else {
        panic!();
    };
    assert_eq!(onbuild.expression, "run cat <<A <<'B'\na\nA\nb\nB");
    assert_eq!(onbuild.inner.original, "run cat <<A <<'B'");
    let names: Vec<_> = instruction
        .kind
        .heredocs()
        .iter()
        .map(|h| &h.name)
        .collect();
    assert_eq!(names, ["A", "B"]);
    let trigger = parse_trigger(&onbuild.expression).unwrap();
    assert_eq!(
        serde_json::to_value(&trigger.kind).unwrap(),
        serde_json::to_value(&onbuild.inner.kind).unwrap()
    );
}
