//! What is checked, and what is made of it.

use super::*;

const ODD: &str = "FROM scratch as B\nCMD x\n";

fn names(report: &Report) -> Vec<&'static str> {
    report.rules().into_iter().map(Rule::name).collect()
}

#[test]
fn rules_are_turned_off_and_on() {
    let all = ["StageNameCasing", "FromAsCasing", "JSONArgsRecommended"];
    for (top, left) in [
        ("", &all[..]),
        ("# check=skip=all", &[]),
        (
            "# check=skip=FromAsCasing",
            &["StageNameCasing", "JSONArgsRecommended"],
        ),
        (
            "# check=skip=FromAsCasing,JSONArgsRecommended ; error=true",
            &["StageNameCasing"],
        ),
        ("# check=error=true", &all[..]),
        ("# check=skip=Nothing", &all[..]),
    ] {
        let report = Case::default().report(&format!("{top}\n{ODD}")).unwrap();
        assert_eq!(names(&report), left, "{top}");
        assert_eq!(report.error, top.contains("error=true"), "{top}");
        assert_eq!(report.fails(), report.error, "{top}");
    }
}

#[test]
fn comments_above_an_instruction_are_for_it() {
    for (text, left) in [
        (
            "FROM a\n# check=skip=JSONArgsRecommended\nCMD x\nENV a b",
            &["LegacyKeyValueFormat"][..],
        ),
        ("FROM a\n# check=skip=all\nRUN x \\\n\n y", &[]),
        ("FROM a\n# check=skip=UndefinedVar\nCOPY <<E /\n$x\nE", &[]),
        (
            "FROM a\n# check=skip=all\n\nCMD x",
            &["JSONArgsRecommended"],
        ),
        (
            "# check=skip=JSONArgsRecommended\n# a\nFROM a\n# check=skip=UndefinedVar\nENV b=$c\nCMD x",
            &[],
        ),
        (
            "FROM a\n# check=experimental=all\n# other\nARG x",
            &["InvalidDefinitionDescription"],
        ),
    ] {
        let report = Case::default().report(text).unwrap();
        assert_eq!(names(&report), left, "{text}");
    }
}

#[test]
fn the_build_argument_overrides_the_comment() {
    for (value, left, error) in [
        ("skip=all", &[][..], false),
        (
            "error=true",
            &["StageNameCasing", "FromAsCasing", "JSONArgsRecommended"],
            true,
        ),
        (
            "skip=StageNameCasing;error=false",
            &["FromAsCasing", "JSONArgsRecommended"],
            false,
        ),
        (
            "",
            &["StageNameCasing", "FromAsCasing", "JSONArgsRecommended"],
            false,
        ),
    ] {
        let case = Case::given(&[(CHECK_ARGUMENT, value)]);
        let text = format!("# check=skip=FromAsCasing;error=true\n{ODD}");
        let report = case.report(&text).unwrap();
        assert_eq!(names(&report), left, "{value}");
        assert_eq!(report.error, error, "{value}");
    }
    let wrong = Case::given(&[(CHECK_ARGUMENT, "skipp=all")]).report(ODD);
    let message =
        "`skipp=all` of the build argument `BUILDKIT_DOCKERFILE_CHECK` is not a check option";
    assert_eq!(wrong.unwrap_err().to_string(), message);
}

#[test]
fn invalid_definition_description() {
    let case = Case::given(&[(CHECK_ARGUMENT, "experimental=InvalidDefinitionDescription")]);
    case.table(
        "InvalidDefinitionDescription",
        &[
            ("# a is this\nARG a\nFROM x", &[]),
            ("# this\nARG a\nFROM x", &[(2, "ARG")]),
            ("# this\n\nARG a\nFROM x", &[]),
            ("# this\n# a is that\nARG a\nFROM x", &[]),
            ("# a is that\n# this\nARG a\nFROM x", &[(3, "ARG")]),
            ("# b is that\nARG a b\nFROM x", &[]),
            ("# s is it\nFROM x AS s", &[]),
            ("# it\nFROM x AS s", &[(2, "FROM")]),
            ("# it\nFROM x", &[]),
            ("# it\nFROM x AS s\n# it\nRUN y", &[(2, "FROM")]),
        ],
    );
    // Off unless asked for, and not turned off with the others.
    let text = "# this\nARG a\nFROM x";
    let rule = "InvalidDefinitionDescription";
    Case::default().table(rule, &[(text, &[])]);
    let both = Case::given(&[(CHECK_ARGUMENT, "skip=StageNameCasing;experimental=all")]);
    both.table(rule, &[(text, &[(2, "ARG")])]);
}

#[test]
fn stages_that_are_not_needed_are_checked_only_if_all_are() {
    let text = "FROM scratch AS One\nENV a=$b\nFROM scratch AS two\nENV c=$d\nFROM scratch\nCOPY --from=two / /\n";
    let found = |all_stages, target: Option<&str>| {
        let mut case = Case {
            all_stages,
            ..Case::default()
        };
        case.options.target = target.map(str::to_owned);
        let found = case.found(text).into_iter();
        let found = found.map(|(_, _, marked)| marked);
        found.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(found(true, None), "One $b $d");
    assert_eq!(
        found(false, None),
        "One $d",
        "its name is seen while reading"
    );
    assert_eq!(found(true, Option::Some("one")), "One $b");
    assert_eq!(found(true, Option::Some("two")), "One $d");
    // What cannot be lowered is checked whole.
    assert_eq!(found(true, Option::Some("none")), "One $b $d");
}

#[test]
fn what_cannot_be_known_stops_nothing() {
    for text in [
        "FROM $a\nENV b=$c\n",
        "FROM a?b\nENV b=$c\n",
        "FROM ${a\nENV b=$c\n",
        "FROM a\nENV x=${y\nENV b=$c\n",
        "FROM a\nEXPOSE x\nUSER ${\nENV b=$c\n",
        "FROM later AS a\nFROM a AS later\nENV b=$c\n",
    ] {
        let found = Case::default().found(text);
        assert!(
            found
                .iter()
                .any(|(rule, _, marked)| (*rule, marked.as_str()) == ("UndefinedVar", "$c")),
            "{text}: {found:?}"
        );
    }
}

/// Each of these would take minutes or all memory if what a check costs were not bounded.
#[test]
fn hostile_files_cost_little() {
    const MANY: usize = 2000;
    let many = |line: &dyn Fn(usize) -> String| (0..MANY).map(line).collect::<String>();
    let variables = many(&|n| format!("ENV variable_{n:05}=1\n"));
    let unset = many(&|n| format!("USER $variable_x{n:04}\n"));
    let stages = many(&|n| format!("FROM base AS stage{n}\nUSER $unset\n"));
    let words = many(&|n| format!("$unset{n} \\\n"));
    let case = Case::default();
    let suggested = case
        .report(&format!("FROM scratch\n{variables}{unset}"))
        .unwrap();
    assert_eq!(suggested.warnings.len(), MANY);
    let copied = case
        .report(&format!("FROM scratch AS base\n{variables}{stages}"))
        .unwrap();
    assert!(copied.warnings.len() < MANY, "not all stages are checked");
    let told = case
        .report(&format!("FROM scratch\nCOPY {words} /\n"))
        .unwrap();
    assert_eq!(told.warnings.len(), MANY);
}
