//! What holds for any input.

use firebuild_dockerfile::dockerignore::Patterns;
use firebuild_dockerfile::{
    Dockerfile, Expander, Word, detect_syntax, glob, parse, parse_trigger, source,
};
use proptest::prelude::*;
use serde_json::Value;

/// Pieces that Dockerfiles are made of, so that random texts get past the first line.
const PIECES: [&str; 64] = [
    "RUN ",
    "COPY ",
    "ADD ",
    "FROM ",
    "ENV ",
    "LABEL ",
    "ARG ",
    "CMD ",
    "EXPOSE ",
    "VOLUME ",
    "HEALTHCHECK ",
    "ONBUILD ",
    "SHELL ",
    "USER ",
    "WORKDIR ",
    "STOPSIGNAL ",
    "MAINTAINER ",
    "ENTRYPOINT ",
    "\n",
    "\n",
    "\n",
    "\\\n",
    "\\\n",
    "`\n",
    "# ",
    "# escape=`\n",
    "# syntax=a\n",
    "# check=skip=all\n",
    "--",
    "--from=",
    "--mount=",
    "--link ",
    "--chown=",
    "--chmod=644 ",
    "--platform=",
    "--interval=",
    "type=cache,target=/a ",
    "<<E ",
    "<<-'E' ",
    "<<\"F\" ",
    "\nE\n",
    "\tE\n",
    "\nF\n",
    "[\"a\", \"b\"]",
    "[1]",
    "[",
    "]",
    "'",
    "\"",
    "\\",
    "`",
    "$a",
    "${b:-c}",
    "a=b ",
    "=",
    "a ",
    "b/c ",
    "AS ",
    "NONE",
    "\t",
    "\r",
    "\u{a0}",
    "é",
    "\u{FEFF}",
];

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => prop::sample::select(PIECES.to_vec()).prop_map(str::to_owned),
        1 => "[ -~]{0,4}",
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// A line that is likely to be right.
fn instruction() -> impl Strategy<Value = String> {
    let word = "[a-z$/{}\\.'\"-]{1,6}";
    prop_oneof![
        (word, word).prop_map(|(a, b)| format!("RUN {a} {b}")),
        (word, word).prop_map(|(a, b)| format!("RUN --mount=type=cache,target=/x <<E {a}\n{b}\nE")),
        "[ -~é]{1,12}".prop_map(|text| format!("RUN {text}")),
        "[ -~é]{1,12}".prop_map(|text| format!("ENV a={text}")),
        "[ -~é]{1,12}".prop_map(|text| format!("ENV a {text}")),
        "[ -~é]{1,12}".prop_map(|text| format!("ARG a b={text}")),
        "[ -~é]{1,12}".prop_map(|text| format!("WORKDIR {text}")),
        "[ -~é]{1,12}".prop_map(|text| format!("# {text}\nUSER a")),
        (word, word).prop_map(|(a, b)| format!("COPY --chown=\"{a} x\" --exclude={a} {a} {b}")),
        (word, word)
            .prop_map(|(a, b)| format!("ONBUILD ADD --chmod=7 {a} <<-\"E\" {b}\n\t{a}\n\tE")),
        any::<Vec<String>>().prop_map(|words| format!("CMD {}", Value::from(words))),
        "[a-z é]{1,5}".prop_map(|word| format!("VOLUME {}", Value::from(vec![word]))),
        (0..100_000_u64).prop_map(|time| format!("HEALTHCHECK --interval={time}ms CMD a b")),
        word.prop_map(|word| format!("EXPOSE {word} 80")),
        (word, "[a-z][a-z0-9]{0,3}").prop_map(|(a, b)| format!("FROM --platform=x {a} AS {b}")),
    ]
}

/// What the instructions say, without the places where they say it.
fn meaning(dockerfile: &Dockerfile) -> Value {
    let instructions = dockerfile.instructions.iter();
    let all = instructions.map(|instruction| {
        let mut value = serde_json::to_value(instruction).unwrap();
        strip_places(&mut value);
        value
    });
    all.collect()
}

fn strip_places(value: &mut Value) {
    if let Value::Object(fields) = value {
        for name in ["line", "end_line", "original", "expression"] {
            fields.remove(name);
        }
        fields.values_mut().for_each(strip_places);
    }
}

pub(crate) fn round_trip(text: &str) -> Result<(), TestCaseError> {
    let Ok(first) = parse(text.as_bytes()) else {
        return Ok(());
    };
    let printed = first.to_string();
    let second = parse(printed.as_bytes());
    let second = second.map_err(|error| {
        TestCaseError::fail(format!("{error} at {:?} in\n{printed}", error.span.start))
    })?;
    prop_assert_eq!(meaning(&first), meaning(&second), "{}", printed);
    prop_assert_eq!(printed, second.to_string());
    Ok(())
}

/// Words that only look like JSON when other blanks stand between them.
#[test]
fn almost_json_stays_words() {
    for text in [
        "COPY [\"a\tb\", \"c\"]",
        "VOLUME [\"a\u{B}\",\u{C}\"b\"]",
        "ADD [ \"\r\", \"b\" ]",
    ] {
        round_trip(&format!("FROM scratch\n{text}\n")).unwrap();
    }
}

/// Every mark lies in the text, at characters' edges, and agrees with its line and column.
fn check_span(text: &str, span: firebuild_dockerfile::Span) -> Result<(), TestCaseError> {
    prop_assert!(text.get(span.range()).is_some(), "{:?}", span);
    let before = &text[..span.start.offset];
    let line = before.matches('\n').count() + 1;
    let last = before.rsplit('\n').next().unwrap_or_default();
    let column = last.trim_start_matches('\u{FEFF}').chars().count() + 1;
    prop_assert_eq!(span.start.line as usize, line);
    if !text.contains('\u{FEFF}') {
        prop_assert_eq!(span.start.column as usize, column);
    }
    Ok(())
}

/// `.dockerignore` in the most obvious way: recursion over pattern and path.
fn naive_match(pattern: &[char], path: &[char], start: bool) -> bool {
    let deep = |rest: &[char]| -> bool {
        let rest = rest.strip_prefix(&['/']).unwrap_or(rest);
        if rest.is_empty() {
            return true;
        }
        naive_match(rest, path, false)
            || (0..path.len())
                .any(|at| path[at] == '/' && naive_match(rest, &path[at + 1..], false))
    };
    match pattern {
        [] => path.is_empty(),
        // `**x`, and nothing else special in it, is a suffix.
        ['*', '*', rest @ ..]
            if start && !rest.starts_with(&['/']) && !rest.iter().any(|c| "*?[\\".contains(*c)) =>
        {
            path.ends_with(rest)
        }
        ['*', '*', rest @ ..] => deep(rest),
        ['*', rest @ ..] => {
            let limit = path.iter().position(|c| *c == '/').unwrap_or(path.len());
            (0..=limit).any(|at| naive_match(rest, &path[at..], false))
        }
        ['?', rest @ ..] => {
            path.first().is_some_and(|c| *c != '/') && naive_match(rest, &path[1..], false)
        }
        [literal, rest @ ..] => {
            path.first() == Some(literal) && naive_match(rest, &path[1..], false)
        }
    }
}

fn naive_excluded(patterns: &[(bool, String)], path: &str) -> bool {
    let mut excluded = false;
    for (negated, pattern) in patterns {
        let pattern: Vec<char> = pattern.chars().collect();
        let parts: Vec<&str> = path.split('/').collect();
        let matched = (1..=parts.len()).any(|count| {
            let path: Vec<char> = parts[..count].join("/").chars().collect();
            naive_match(&pattern, &path, true)
        });
        if matched {
            excluded = !negated;
        }
    }
    excluded
}

/// A clean relative pattern of a small alphabet.
fn ignore_pattern() -> impl Strategy<Value = (bool, String)> {
    let part = prop::sample::select(vec![
        "a", "b", "ab", "*", "?", "a*", "*b", "**", "**a", "a**", "a**b",
    ]);
    let parts = prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"));
    (any::<bool>(), parts)
}

fn ignore_path() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab]{1,2}", 1..5).prop_map(|parts| parts.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn bytes_never_panic(bytes: Vec<u8>) {
        let _ = parse(&bytes);
        let _ = detect_syntax(&bytes);
        let _ = Patterns::parse(&bytes).map(|patterns| patterns.excluded(&bytes));
        let _ = glob::Pattern::parse(&bytes).map(|pattern| pattern.matches(&bytes));
    }

    #[test]
    fn texts_never_panic(text in pieces()) {
        let whole = format!("FROM scratch\n{text}");
        for text in [&text, &whole] {
            match parse(text.as_bytes()) {
                Ok(dockerfile) => {
                    for instruction in &dockerfile.instructions {
                        check_span(text, instruction.span)?;
                        check_span(text, instruction.keyword.span)?;
                    }
                }
                Err(error) => check_span(text, error.span)?,
            }
            let _ = parse_trigger(text);
            let _ = source::classify(text);
        }
    }

    #[test]
    fn printing_keeps_the_meaning_of_pieces(text in pieces()) {
        round_trip(&format!("FROM scratch\n{text}"))?;
    }

    #[test]
    fn printing_keeps_the_meaning(lines in prop::collection::vec(instruction(), 1..5), tick: bool) {
        let top = if tick { "# escape=`\n" } else { "" };
        round_trip(&format!("{top}FROM scratch\n{}", lines.join("\n")))?;
    }

    #[test]
    fn the_expander_never_panics(text in "[a-z${}:#%/\\\\'\"?*+ -]{0,40}", value in "[a-z*?/\\\\]{0,8}") {
        let environment = vec![("a", value.as_str()), ("b", "")];
        let word = Word { text: text.clone(), ..Word::default() };
        for escape in ['\\', '`'] {
            let expander = Expander::new(escape);
            let one = expander.word(&word, &environment);
            let many = expander.words(&word, &environment);
            prop_assert_eq!(one.is_ok(), many.is_ok());
            if let Err(error) = one {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }

    #[test]
    fn plain_text_expands_to_itself(text in "[^$'\"\\\\]*") {
        let word = Word { text: text.clone(), ..Word::default() };
        let expansion = Expander::default().word(&word, &()).unwrap();
        prop_assert_eq!(&expansion.value, &text);
        let words = Expander::default().words(&word, &()).unwrap();
        let split: Vec<&str> = text.split_whitespace().collect();
        if !text.contains("<<") {
            prop_assert_eq!(words.value, split);
        }
    }

    #[test]
    fn ignoring_agrees_with_a_naive_matcher(
        patterns in prop::collection::vec(ignore_pattern(), 1..4),
        paths in prop::collection::vec(ignore_path(), 8),
    ) {
        let lines = patterns.iter().map(|(negated, pattern)| {
            format!("{}{pattern}\n", if *negated { "!" } else { "" })
        });
        let text: String = lines.collect();
        let parsed = Patterns::parse(text.as_bytes()).unwrap();
        for path in &paths {
            let excluded = parsed.excluded(path.as_bytes());
            prop_assert_eq!(excluded, naive_excluded(&patterns, path), "{:?} {}", text, path);
            // A walker that skips what is excluded, unless told to enter, misses nothing.
            let parts: Vec<&str> = path.split('/').collect();
            for count in 1..parts.len() {
                let directory = parts[..count].join("/");
                if !excluded && parsed.excluded(directory.as_bytes()) {
                    prop_assert!(parsed.could_reinclude_below(directory.as_bytes()), "{:?} {}", text, path);
                }
            }
        }
    }
}
