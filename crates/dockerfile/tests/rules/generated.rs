//! Dockerfiles that are right, made of every instruction with every flag, heredocs of all kinds,
//! both escape characters and lines broken anywhere: each parses, and what is printed of it means
//! the same. What was made is counted, so that nothing of the grammar is left out.

use std::cell::RefCell;
use std::collections::BTreeSet;

use firebuild_dockerfile::InstructionKind;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use crate::good;
use crate::properties::round_trip;

/// The pieces of one instruction, in whose stead of blanks a line may be broken, and what follows
/// the line.
#[derive(Debug, Clone)]
struct Written {
    name: &'static str,
    pieces: Vec<String>,
    bodies: String,
}

fn written(name: &'static str, pieces: Vec<String>) -> Written {
    Written {
        name,
        pieces,
        bodies: String::new(),
    }
}

/// A word that is no flag, no comment and no end of a line.
fn word() -> impl Strategy<Value = String> {
    let part = select(vec![
        "a", "B", "/", ".", "é", "$x", "${y}", "${z:-d}", "'q r'", "\"s $t\"", "1", "-", "*",
    ]);
    prop::collection::vec(part, 1..4).prop_map(|parts| format!("w{}", parts.concat()))
}

/// A word without quotes, which mean nothing to some instructions.
fn bare() -> impl Strategy<Value = String> {
    word().prop_map(|word| word.replace(['\'', '"', ' '], "_"))
}

fn json() -> impl Strategy<Value = String> {
    let text = select(vec!["a", "b c", "\\\"", "\\n", "é", "", "$x", "'", "\\\\"]);
    let items = prop::collection::vec(text.prop_map(|text| format!("\"{text}\"")), 1..4);
    items.prop_map(|items| format!("[{}]", items.join(", ")))
}

/// Each of some flags, there or not.
fn flags(all: &[&'static str]) -> impl Strategy<Value = Vec<String>> + use<> {
    let all: Vec<String> = all.iter().map(|flag| format!("--{flag}")).collect();
    let count = all.len();
    prop::sample::subsequence(all, 0..=count)
}

const RUN_FLAGS: [&str; 11] = [
    "mount=type=bind,from=b,source=/s,target=/t,rw",
    "mount=type=cache,target=$x,id=i,sharing=locked,mode=0700,uid=1,gid=2",
    "mount=type=tmpfs,target=/t,size=1m",
    "mount=type=secret,id=s,env=E,required=true",
    "mount=type=ssh,id=a,target=/a",
    "mount='type=bind,\"target=/a,b\"'",
    "network=none",
    "security=insecure",
    "device=vendor/class=name,required",
    "device=\"x y\"",
    "mount=\"target=/with blank\"",
];
const COPY_FLAGS: [&str; 8] = [
    "from=stage",
    "chown=$u:g",
    "chmod=u=rwX,go=rX",
    "link",
    "parents=true",
    "exclude=*.o",
    "exclude=\"a b\"",
    "exclude='$x'",
];
const ADD_FLAGS: [&str; 8] = [
    "checksum=sha256:$x",
    "chown=1:2",
    "chmod=0755",
    "link=false",
    "keep-git-dir=true",
    "unpack=false",
    "exclude=a",
    "exclude=b\\ c",
];
const HEALTH_FLAGS: [&str; 5] = [
    "interval=1m30s",
    "timeout=1.5s",
    "start-period=2h",
    "start-interval=20ms",
    "retries=3",
];

/// Heredocs: their words, and their bodies.
fn heredocs() -> impl Strategy<Value = Vec<(String, String)>> {
    let form = select(vec![
        ("<<", "E", ""),
        ("<<-", "E", "\t"),
        ("<<", "'E'", ""),
        ("<<-", "\"E\"", "\t\t"),
        ("3<<", "E", ""),
        ("<<", "\"E\"", ""),
    ]);
    let line = select(vec![
        "a $x\n",
        "\n",
        "\ttab\n",
        "# no comment\n",
        "end \\\n",
        "'it\n",
        "EE\n",
        "é\n",
    ]);
    let body = prop::collection::vec(line, 0..4).prop_map(|lines| lines.concat());
    let one = (form, body).prop_map(|((open, name, indent), body)| {
        (format!("{open}{name}"), format!("\n{body}{indent}E"))
    });
    prop::collection::vec(one, 0..3)
}

fn with_heredocs(
    mut instruction: Written,
    heredocs: Vec<(String, String)>,
    last: &[String],
) -> Written {
    for (word, body) in heredocs {
        instruction.pieces.push(word);
        instruction.bodies.push_str(&body);
    }
    instruction.pieces.extend_from_slice(last);
    instruction
}

fn transfer(name: &'static str, all: &[&'static str]) -> impl Strategy<Value = Written> + use<> {
    let sources = prop::collection::vec(bare(), 1..3);
    let plain = (flags(all), sources, heredocs(), bare()).prop_map(
        move |(mut pieces, sources, heredocs, to)| {
            pieces.extend(sources);
            with_heredocs(written(name, pieces), heredocs, &[to])
        },
    );
    let list = (flags(all), bare(), bare()).prop_map(move |(mut pieces, from, to)| {
        pieces.push(format!("[\"{from} x\", \"{to}\"]"));
        written(name, pieces)
    });
    prop_oneof![3 => plain, 1 => list]
}

fn run() -> impl Strategy<Value = Written> {
    let shell = (flags(&RUN_FLAGS), word(), heredocs()).prop_map(|(mut pieces, word, heredocs)| {
        pieces.push(word);
        with_heredocs(written("RUN", pieces), heredocs, &[])
    });
    let exec = (flags(&RUN_FLAGS), json()).prop_map(|(mut pieces, json)| {
        pieces.push(json);
        written("RUN", pieces)
    });
    let only = heredocs().prop_map(|mut heredocs| {
        heredocs.truncate(1);
        let none = heredocs.is_empty();
        let rest = [String::from("true")];
        let last: &[String] = if none { &rest } else { &[] };
        with_heredocs(written("RUN", Vec::new()), heredocs, last)
    });
    prop_oneof![2 => shell, 1 => exec, 1 => only]
}

fn pairs(name: &'static str) -> impl Strategy<Value = Written> {
    let pair = (bare(), word()).prop_map(|(name, value)| format!("{name}={value}"));
    let new = prop::collection::vec(pair, 1..4).prop_map(move |pieces| written(name, pieces));
    let old = (bare(), word()).prop_map(move |(key, value)| written(name, vec![key, value]));
    prop_oneof![3 => new, 1 => old]
}

fn health() -> impl Strategy<Value = Written> {
    let command = prop_oneof![word(), json()];
    let check = (flags(&HEALTH_FLAGS), command).prop_map(|(mut pieces, command)| {
        pieces.extend(["CMD".to_owned(), command]);
        written("HEALTHCHECK", pieces)
    });
    let none = Just(written("HEALTHCHECK", vec!["NONE".to_owned()]));
    prop_oneof![4 => check, 1 => none]
}

fn from() -> impl Strategy<Value = Written> {
    let name = "[a-z][a-z0-9_.-]{0,4}";
    (
        flags(&["platform=$BUILDPLATFORM"]),
        bare(),
        any::<bool>(),
        name,
    )
        .prop_map(|(mut pieces, image, named, name)| {
            pieces.push(image);
            if named {
                pieces.extend(["AS".to_owned(), name]);
            }
            written("FROM", pieces)
        })
}

/// All but `FROM`, `MAINTAINER` and `ONBUILD`, which no trigger can be.
fn trigger() -> BoxedStrategy<Written> {
    let command = |name| prop_oneof![word(), json()].prop_map(move |it| written(name, vec![it]));
    let one = |name| bare().prop_map(move |it| written(name, vec![it]));
    let words =
        |name| prop::collection::vec(bare(), 1..3).prop_map(move |words| written(name, words));
    let argument = prop_oneof![
        bare(),
        (bare(), word()).prop_map(|(name, value)| format!("{name}={value}")),
    ];
    let arguments = prop::collection::vec(argument, 1..3);
    prop_oneof![
        3 => run(),
        3 => transfer("COPY", &COPY_FLAGS),
        3 => transfer("ADD", &ADD_FLAGS),
        2 => pairs("ENV"),
        2 => pairs("LABEL"),
        2 => health(),
        1 => arguments.prop_map(|pieces| written("ARG", pieces)),
        1 => command("CMD"),
        1 => command("ENTRYPOINT"),
        1 => json().prop_map(|json| written("SHELL", vec![json])),
        1 => one("USER"),
        1 => one("WORKDIR"),
        1 => one("STOPSIGNAL"),
        1 => words("EXPOSE"),
        1 => prop_oneof![
            words("VOLUME"),
            bare().prop_map(|it| written("VOLUME", vec![format!("[\"{it} x\"]")])),
        ],
    ]
    .boxed()
}

fn instruction() -> impl Strategy<Value = Written> {
    let onbuild = trigger().prop_map(|mut inner| {
        inner.pieces.insert(0, inner.name.to_owned());
        inner.name = "ONBUILD";
        inner
    });
    let maintainer = word().prop_map(|author| written("MAINTAINER", vec![author]));
    prop_oneof![12 => trigger(), 2 => onbuild, 1 => maintainer, 2 => from()]
}

/// What stands between two pieces: a blank, or a broken line with a comment in it perhaps.
fn gap() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        6 => select(vec![" ", "  ", "\t", " \t "]),
        1 => select(vec![" ^\n", " ^\n  ", " ^ \t\n# comment\n\t", " ^\r\n  # one\n# two\n "]),
    ]
}

/// A file: the instructions, the gaps for them, and its escape character.
fn file() -> impl Strategy<Value = (Vec<Written>, Vec<&'static str>, char)> {
    let instructions = prop::collection::vec(instruction(), 1..6);
    let gaps = prop::collection::vec(gap(), 16);
    (instructions, gaps, select(vec!['\\', '`']))
}

fn text(instructions: &[Written], gaps: &[&str], escape: char) -> String {
    let mut gaps = gaps.iter().cycle();
    let mut text = match escape {
        '`' => "# escape=`\nFROM scratch\n".to_owned(),
        _ => "FROM scratch\n".to_owned(),
    };
    for instruction in instructions {
        text.push_str(instruction.name);
        for piece in &instruction.pieces {
            let gap = gaps.next().copied().unwrap_or(" ");
            text.push_str(&gap.replace('^', &escape.to_string()));
            text.push_str(piece);
        }
        text.push_str(&instruction.bodies);
        text.push('\n');
    }
    text
}

#[test]
fn whatever_is_right_is_read_and_printed() {
    let seen: RefCell<BTreeSet<String>> = RefCell::default();
    let mut runner = TestRunner::new(Config::with_cases(1500));
    let done = runner.run(&file(), |(instructions, gaps, escape)| {
        let text = text(&instructions, &gaps, escape);
        let parsed = good(&text);
        let names = parsed.instructions.iter().skip(1).map(|i| i.kind.name());
        let wanted = instructions.iter().map(|instruction| instruction.name);
        prop_assert!(names.eq(wanted), "{}", text);
        for (instruction, wanted) in parsed.instructions.iter().skip(1).zip(&instructions) {
            let opened = wanted
                .pieces
                .iter()
                .filter(|piece| piece.contains("<<"))
                .count();
            prop_assert_eq!(instruction.kind.heredocs().len(), opened, "{}", text);
        }
        round_trip(&text)?;
        let mut seen = seen.borrow_mut();
        for instruction in parsed.instructions.iter().skip(1) {
            note(&instruction.kind, &mut seen);
        }
        for piece in instructions
            .iter()
            .flat_map(|instruction| &instruction.pieces)
        {
            if let Some(flag) = piece.strip_prefix("--") {
                seen.insert(flag.split('=').next().unwrap().to_owned());
            }
        }
        Ok(())
    });
    done.unwrap();
    let seen = seen.into_inner();
    for wanted in [
        "ADD",
        "ARG",
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "HEALTHCHECK",
        "LABEL",
        "MAINTAINER",
        "ONBUILD",
        "RUN",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
        "ONBUILD heredoc",
        "quoted heredoc",
        "tabbed heredoc",
        "mount",
        "network",
        "security",
        "device",
        "from",
        "chown",
        "chmod",
        "link",
        "parents",
        "exclude",
        "checksum",
        "keep-git-dir",
        "unpack",
        "platform",
        "interval",
        "timeout",
        "start-period",
        "start-interval",
        "retries",
    ] {
        assert!(seen.contains(wanted), "{wanted} was never made");
    }
}

fn note(kind: &InstructionKind, seen: &mut BTreeSet<String>) {
    seen.insert(kind.name().to_owned());
    for heredoc in kind.heredocs() {
        let trigger = matches!(kind, InstructionKind::Onbuild(_));
        for (is, name) in [
            (trigger, "ONBUILD heredoc"),
            (!heredoc.expand, "quoted heredoc"),
            (heredoc.strip_tabs, "tabbed heredoc"),
        ] {
            seen.extend(is.then(|| name.to_owned()));
        }
    }
}
