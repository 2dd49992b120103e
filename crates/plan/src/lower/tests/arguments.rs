//! What arguments are worth, and where.

use super::*;

/// A Dockerfile, what is given for `A`, and what the last RUN sees of it.
const ARGUMENTS: &[(&str, Option<&str>, Option<&str>)] = &[
    ("FROM scratch\nARG A\nRUN x", None, None),
    ("FROM scratch\nARG A=1\nRUN x", None, Some("1")),
    ("FROM scratch\nARG A=1\nRUN x", Some("2"), Some("2")),
    ("FROM scratch\nARG A=1\nRUN x", Some(""), Some("")),
    ("FROM scratch\nARG A\nRUN x", Some("2"), Some("2")),
    ("FROM scratch\nRUN x", Some("2"), None),
    ("FROM scratch\nARG A=1\nARG A=2\nRUN x", None, Some("2")),
    // Without a value, an argument takes none away.
    ("FROM scratch\nARG A=1\nARG A\nRUN x", None, Some("1")),
    ("FROM scratch AS p\nARG A=1\nFROM p\nRUN x", None, Some("1")),
    (
        "FROM scratch AS p\nARG A=1\nFROM p\nARG A\nRUN x",
        None,
        Some("1"),
    ),
    (
        "FROM scratch AS p\nARG A=1\nFROM p\nARG A=2\nRUN x",
        None,
        Some("2"),
    ),
    (
        "ARG A=0\nFROM scratch AS p\nARG A=1\nFROM p\nARG A\nRUN x",
        None,
        Some("0"),
    ),
    // Not inherited by what only copies.
    (
        "FROM scratch AS p\nARG A=1\nFROM scratch\nCOPY --from=p / /\nRUN x",
        None,
        None,
    ),
    // Global ones must be declared again.
    ("ARG A=1\nFROM scratch\nRUN x", None, None),
    ("ARG A=1\nFROM scratch\nRUN x", Some("2"), None),
    ("ARG A=1\nFROM scratch\nARG A\nRUN x", None, Some("1")),
    ("ARG A=1\nFROM scratch\nARG A\nRUN x", Some("2"), Some("2")),
    ("ARG A=1\nFROM scratch\nARG A=3\nRUN x", None, Some("3")),
    ("ARG A\nFROM scratch\nARG A\nRUN x", None, None),
    // Of ARG and ENV, the last.
    ("FROM scratch\nENV A=1\nARG A=2\nRUN x", None, Some("2")),
    (
        "FROM scratch\nENV A=1\nARG A=2\nRUN x",
        Some("3"),
        Some("3"),
    ),
    (
        "FROM scratch\nARG A=2\nENV A=1\nRUN x",
        Some("3"),
        Some("1"),
    ),
    ("FROM scratch\nENV A=1\nARG A\nRUN x", None, Some("1")),
    (
        "FROM scratch\nENV A=1\nARG A=2\nARG A\nRUN x",
        None,
        Some("2"),
    ),
    (
        "FROM scratch\nARG A=2\nENV A=1\nARG A\nRUN x",
        None,
        Some("1"),
    ),
    // A default that nobody needs is not read.
    (
        "FROM scratch\nARG A=${B:?missing}\nRUN x",
        Some("2"),
        Some("2"),
    ),
    (
        "ARG A=${B:?missing}\nFROM scratch\nARG A\nRUN x",
        Some("2"),
        Some("2"),
    ),
    (
        "FROM scratch\nARG B=1\nARG A=${B:+yes}${C-d}\nRUN x",
        None,
        Some("yesd"),
    ),
    (
        "FROM scratch\nARG A=1 B=$A\nARG A=2$B\nRUN x",
        None,
        Some("21"),
    ),
];

/// What a RUN at the end sees of `A`.
fn seen(text: &str, build_args: &[(&str, &str)]) -> Option<String> {
    let plan = lowered(text, &options(None, build_args)).unwrap();
    let run = runs(&plan).pop().unwrap();
    let mut variables = run.environment.iter().chain(&run.build_args).rev();
    let found = variables.find(|(name, _)| name == "A");
    found.map(|(_, value)| value.clone())
}

#[test]
fn an_argument_has_the_value_that_was_set_last() {
    for (text, given, expected) in ARGUMENTS {
        let given = given.map(|value| ("A", value));
        let found = seen(text, given.as_slice());
        assert_eq!(found.as_deref(), *expected, "{text} with {given:?}");
    }
    let image = plan("FROM scratch\nENV X=1\nARG X=2\nRUN a\n");
    assert_eq!(configured(&image).variable("X"), Some("1"));
}

#[test]
fn a_commands_history_counts_arguments_once_and_in_their_order() {
    let created = |text: &str, given: &[(&str, &str)]| {
        let plan = lowered(text, &options(None, given)).unwrap();
        plan.target().steps.last().unwrap().history.clone().unwrap()
    };
    for (text, expected) in [
        (
            "FROM scratch\nARG A=1\nARG B=2\nARG A=3\nRUN x",
            "RUN |2 A=3 B=2 /bin/sh -c x # buildkit",
        ),
        (
            "FROM scratch AS p\nARG A=1\nFROM p\nARG B\nARG A\nRUN x",
            "RUN |2 A=1 B= /bin/sh -c x # buildkit",
        ),
        (
            "FROM scratch\nENV A=1\nRUN x",
            "RUN /bin/sh -c x # buildkit",
        ),
        // What speaks to the builder, no process sees.
        (
            "FROM scratch\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nENV A=$BUILDKIT_SBOM_SCAN_STAGE\nRUN x",
            "RUN |1 BUILDKIT_SBOM_SCAN_STAGE=true /bin/sh -c x # buildkit",
        ),
    ] {
        assert_eq!(created(text, &[]), expected, "{text}");
    }
    let proxied = [
        ("HTTP_PROXY", "http://p.example"),
        ("no_proxy", "x"),
        ("UNKNOWN", "y"),
    ];
    let text = "FROM scratch\nRUN x";
    assert_eq!(created(text, &proxied), "RUN /bin/sh -c x # buildkit");
    let plan = lowered(text, &options(None, &proxied)).unwrap();
    assert_eq!(runs(&plan)[0].build_args, []);
    assert_eq!(runs(&plan)[0].environment.len(), 1);
}

#[test]
fn platforms_have_arguments() {
    let host = Platform::host();
    let (name, architecture) = (host.to_string(), host.architecture);
    let label = |stage: &str, given: &[(&str, &str)]| {
        let text = format!("{stage}\nLABEL l=$X-$TARGETARCH\n");
        let plan = lowered(&text, &options(None, given)).unwrap();
        configured(&plan).labels["l"].clone()
    };
    for (argument, value) in [
        ("TARGETPLATFORM", name.as_str()),
        ("BUILDPLATFORM", name.as_str()),
        ("TARGETOS", "linux"),
        ("BUILDOS", "linux"),
        ("BUILDARCH", architecture.as_str()),
        ("TARGETVARIANT", ""),
        ("BUILDVARIANT", ""),
        ("TARGETOSVERSION", ""),
        ("BUILDOSVERSION", ""),
    ] {
        let stage = format!("FROM scratch\nARG {argument}\nARG X=$${argument}");
        let stage = stage.replace("$$", "$");
        assert_eq!(label(&stage, &[]), format!("{value}-"), "{argument}");
        // Not without a declaration.
        let stage = format!("FROM scratch\nARG X=${argument}");
        assert_eq!(label(&stage, &[]), "-", "{argument}");
    }
    let stage = "FROM scratch\nARG TARGETARCH";
    assert_eq!(label(stage, &[]), format!("-{architecture}"));
    assert_eq!(label(stage, &[("TARGETARCH", "z80")]), "-z80");
    assert_eq!(label("ARG X=$BUILDOS\nFROM scratch\nARG X", &[]), "linux-");
}
