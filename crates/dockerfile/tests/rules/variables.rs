//! "Variables".

use firebuild_dockerfile::{ExpandErrorKind, Expander, InstructionKind, MAX_WORD, Word};

use crate::last;

fn word(text: &str) -> Word {
    Word {
        text: text.to_owned(),
        ..Word::default()
    }
}

fn expand(text: &str, environment: &[(&str, &str)]) -> Result<String, String> {
    let expansion = Expander::default().word(&word(text), &environment.to_vec());
    expansion
        .map(|e| e.value)
        .map_err(|error| error.to_string())
}

const ENVIRONMENT: [(&str, &str); 9] = [
    ("x", "value"),
    ("empty", ""),
    ("path", "/usr/local/bin"),
    ("p", "*al"),
    ("needle", "al"),
    ("a_1", "one"),
    ("ünï", "ü"),
    ("stars", "a*b*c"),
    ("lines", "a\nb"),
];

#[test]
fn operators() {
    for (text, result) in [
        ("$x", "value"),
        ("${x}y", "valuey"),
        ("$a_1-", "one-"),
        ("${ünï}", "ü"),
        ("$unset|${unset}", "|"),
        ("${x:-d}${empty:-d}${unset:-d}", "valuedd"),
        ("${x-d}${empty-d}${unset-d}", "valued"),
        ("${x:+d}${empty:+d}${unset:+d}", "d"),
        ("${x+d}${empty+d}${unset+d}", "dd"),
        ("${x:?m}${x?m}${empty?m}", "valuevalue"),
        ("${unset:-${x}}${unset-${empty:-$x}}", "valuevalue"),
        ("${unset:-a b}", "a b"),
        ("${unset:-\"}\"}", "}"),
        ("${unset:-\\}}", "}"),
        ("${unset:-}", ""),
        ("${path#*/}", "usr/local/bin"),
        ("${path##*/}", "bin"),
        ("${path%/*}", "/usr/local"),
        ("${path%%/*}", ""),
        ("${x#v?l}", "ue"),
        ("${x#$p}", "ue"),
        ("${x#v${p}}", "ue"),
        ("${x##v$needle}", "ue"),
        ("${x%ue}", "val"),
        ("${x#}", "value"),
        ("${stars#a\\*}", "b*c"),
        ("${stars%\\**}", "a*b"),
        ("${unset#x}", ""),
        ("${path/\\//:}", ":usr/local/bin"),
        ("${path//\\//:}", ":usr:local:bin"),
        ("${x/l/L}", "vaLue"),
        ("${x//[lu]/L}", "value"),
        ("${path//\\/*/x}", "x"),
        ("${stars//\\*/}", "abc"),
        ("${x/$needle/$a_1}", "voneue"),
        ("${x//?/.}", "....."),
        ("${x//nothing/y}", "value"),
        ("${unset/x/y}", ""),
        ("${x//a/\\/}", "v\\/lue"),
        // Patterns: no classes, and neither wildcard matches the end of a line.
        ("${x#[v]}", "value"),
        ("${lines#*b}", "a\nb"),
        ("${lines//?/.}", ".\n."),
        ("${lines%*a}", "a\nb"),
        ("${stars#\\?}", "a*b*c"),
        ("${stars//\\\\/x}", "a*b*c"),
        ("${x#.}", "value"),
        ("${x/(a)/b}", "value"),
        // The longest and the shortest.
        ("${path%/*/*}", "/usr"),
        ("${path#/*/}", "local/bin"),
        ("${path##/*/}", "bin"),
        ("${path%%/*/*}", ""),
        ("${path/\\/*\\//-}", "-bin"),
        ("${unset:-${unset2:-${unset3-deep}}}", "deep"),
        ("${x:+${unset:-y}}", "y"),
        ("a${empty}b${unset}c", "abc"),
    ] {
        assert_eq!(expand(text, &ENVIRONMENT).as_deref(), Ok(result), "{text}");
    }
}

#[test]
fn errors() {
    for (text, message) in [
        ("${}", "syntax error: bad substitution"),
        ("${:x}", "syntax error: bad substitution"),
        ("${{x}}", "syntax error: bad substitution"),
        ("${", "syntax error: missing '}'"),
        ("${x", "syntax error: missing '}'"),
        ("${x:", "syntax error: missing '}'"),
        ("${x:-a", "syntax error: missing '}'"),
        ("${x/a/b", "syntax error: missing '}'"),
        ("${x/a", "syntax error: missing '/' in ${}"),
        ("${x/a}", "syntax error: missing '/' in ${}"),
        ("${x//\\/}", "syntax error: missing '/' in ${}"),
        ("${x:#a}", "unsupported modifier (:#) in substitution"),
        ("${x:%a}", "unsupported modifier (:%) in substitution"),
        ("${x:=a}", "unsupported modifier (:=) in substitution"),
        ("${x=a}", "unsupported modifier (=) in substitution"),
        ("${x^}", "unsupported modifier (^) in substitution"),
        ("${#x}", "unsupported modifier (x) in substitution"),
        ("${unset:?give $x}", "unset: give value"),
        ("${unset?}", "unset: is not allowed to be unset"),
        ("${empty:?}", "empty: is not allowed to be empty"),
        (
            "${x#\\x}",
            "invalid pattern (\\x) in substitution: invalid escape",
        ),
        (
            "'a",
            "unexpected end of statement while looking for matching single-quote",
        ),
        (
            "\"a",
            "unexpected end of statement while looking for matching double-quote",
        ),
    ] {
        assert_eq!(
            expand(text, &ENVIRONMENT),
            Err(message.to_owned()),
            "{text}"
        );
    }
}

#[test]
fn positional_and_special_parameters_are_empty() {
    for (text, result) in [
        ("\"$@$#q$1z$12y\"", "qzy"),
        ("$*$?$-$$$!$0|", "|"),
        ("$0a", "a"),
        ("$10a", "a"),
        ("$", "$"),
        ("$ a", "$ a"),
        ("a$.", "a$."),
    ] {
        assert_eq!(expand(text, &ENVIRONMENT).as_deref(), Ok(result), "{text}");
    }
}

#[test]
fn quotes_and_escapes() {
    for (text, result) in [
        ("'$x'", "$x"),
        ("'a\\'b", "a\\b"),
        ("\"$x '$x'\"", "value 'value'"),
        (r#""\"\$\\\a""#, r#""$\\a"#),
        (r"\$x\\\a", r"$x\a"),
        ("a\\", "a"),
        ("a' b'\" c\"", "a b c"),
        ("''\"\"", ""),
        ("a  b", "a  b"),
    ] {
        assert_eq!(expand(text, &ENVIRONMENT).as_deref(), Ok(result), "{text}");
    }
    let backtick = Expander::new('`');
    let expanded = backtick.word(&word(r#"`$x\$x"`$`"\a""#), &ENVIRONMENT.to_vec());
    assert_eq!(expanded.unwrap().value, r#"$x\value$"\a"#);
}

#[test]
fn only_words_are_split() {
    let environment = vec![("ports", " 80  81 "), ("one", "90")];
    for (text, words) in [
        ("$ports", vec!["80", "81"]),
        ("7$ports", vec!["7", "80", "81"]),
        ("\"$ports\"", vec![" 80  81 "]),
        ("$one/udp", vec!["90/udp"]),
        ("$unset", vec![]),
        ("''", vec![]),
        ("a\\ b c", vec!["a b", "c"]),
    ] {
        let expansion = Expander::default()
            .words(&word(text), &environment)
            .unwrap();
        assert_eq!(expansion.value, words, "{text}");
    }
    assert_eq!(expand("$ports", &environment).as_deref(), Ok(" 80  81 "));
}

#[test]
fn what_was_asked_for_is_known() {
    let text = "$x ${y:-$z} ${empty} $x ${x+$w} $1";
    let expansion = Expander::default().word(&word(text), &ENVIRONMENT.to_vec());
    let expansion = expansion.unwrap();
    assert!(expansion.used.iter().eq(["empty", "x"]));
    assert!(expansion.unset.iter().eq(["1", "w", "y", "z"]));
}

#[test]
fn errors_have_a_place() {
    for (text, line, column, width) in [
        ("WORKDIR /a/${b:?c}/d", 2, 12, 7),
        ("WORKDIR /é/${b", 2, 12, 3),
        ("ENV a=b c=\"d ${}\"", 2, 14, 3),
        ("USER \\\n a'", 3, 3, 1),
        ("ARG a=1 b=${a^}", 2, 11, 4),
    ] {
        let kind = last(text).kind;
        let words: Vec<&Word> = match &kind {
            InstructionKind::Workdir(workdir) => vec![&workdir.path],
            InstructionKind::User(user) => vec![&user.user],
            InstructionKind::Env(env) => env.assignments.iter().map(|pair| &pair.value).collect(),
            InstructionKind::Arg(arg) => {
                let arguments = arg.arguments.iter();
                arguments
                    .filter_map(|argument| argument.value.as_ref())
                    .collect()
            }
            other => panic!("{other:?}"),
        };
        let expanded = words
            .into_iter()
            .map(|word| Expander::default().word(word, &()));
        let error = expanded.filter_map(Result::err).next().unwrap();
        let start = error.span.start;
        let found = (
            start.line,
            start.column,
            error.span.end.column - start.column,
        );
        assert_eq!(found, (line, column, width), "{text}");
    }
}

#[test]
fn work_is_bounded() {
    let kind = |text: &str, environment: &[(&str, &str)]| {
        let expansion = Expander::default().word(&word(text), &environment.to_vec());
        expansion.unwrap_err().kind
    };
    let deep = format!("{}{}", "${a:-".repeat(100), "}".repeat(100));
    assert_eq!(kind(&deep, &[]), ExpandErrorKind::TooDeep);
    let long = "x".repeat(MAX_WORD / 2);
    let limit = MAX_WORD;
    let environment = [("l", long.as_str())];
    assert_eq!(
        kind("$l$l$l", &environment),
        ExpandErrorKind::TooLong { limit }
    );
    assert_eq!(
        kind("\"$l$l$l\"", &environment),
        ExpandErrorKind::TooLong { limit }
    );
    assert_eq!(
        kind("${l//x/yyy}", &environment),
        ExpandErrorKind::TooLong { limit }
    );
    let pattern = format!("${{l//{}y/}}", "*x".repeat(500));
    assert_eq!(kind(&pattern, &environment), ExpandErrorKind::TooExpensive);
    let wasteful = "${unset+$l}".repeat(1000);
    assert_eq!(kind(&wasteful, &environment), ExpandErrorKind::TooExpensive);
}
