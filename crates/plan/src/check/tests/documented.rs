//! docs/checks.md: each rule is in it, in order, with what is bad and what is good.

use super::*;

/// The part of the page that is about a rule.
fn sections(page: &str) -> Vec<(&str, &str)> {
    let rules = page.split_once("\n# Rules\n").unwrap().1;
    let sections = rules.split("\n## ").skip(1);
    sections
        .map(|section| section.split_once('\n').unwrap())
        .collect()
}

/// The block of code behind a line.
fn block<'a>(section: &'a str, line: &str) -> Option<&'a str> {
    let behind = section.split_once(line)?.1;
    let block = behind.split_once("```")?.1.split_once('\n')?.1;
    Option::Some(block.split_once("```")?.0)
}

#[test]
fn every_rule_is_documented_with_examples_that_are_right() {
    let page = include_str!("../../../../../docs/checks.md");
    let sections = sections(page);
    let documented: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
    let rules: Vec<&str> = Rule::all().map(Rule::name).collect();
    assert_eq!(documented, rules);
    for (name, section) in sections {
        let ignore = block(section, "`.dockerignore`:\n").unwrap_or_default();
        let case = Case {
            ignore: String::leak(ignore.to_owned()),
            ..Case::default()
        };
        let found = |heading: &str| -> Vec<&str> {
            let text = block(section, heading).unwrap();
            let found = case.found(text).into_iter();
            found.map(|(rule, _, _)| rule).collect()
        };
        let bad = found("\nBad:\n");
        assert!(bad.contains(&name), "{name}: {bad:?}");
        let good = found("\nGood:\n");
        assert!(good.is_empty(), "{name}: {good:?}");
    }
}

#[test]
fn the_page_shows_what_json_looks_like() {
    let page = include_str!("../../../../../docs/checks.md");
    let shown: serde_json::Value =
        serde_json::from_str(block(page, "## As JSON\n").unwrap()).unwrap();
    let case = Case::given(&[]);
    let report = case
        .report("FROM scratch\nARG base=1\nWORKDIR /srv/$bse\n")
        .unwrap();
    let real = serde_json::to_value(&report).unwrap();
    for (name, value) in real.as_object().unwrap() {
        assert_eq!(&shown[name], value, "{name}");
    }
}
