//! The warnings that the text alone gives, before anything is turned off. Those that need to know
//! more, and each rule's own table, are where Dockerfiles are lowered.

use firebuild_dockerfile::CheckOptions;

use crate::good;

fn rules(text: &str) -> Vec<(&'static str, u32)> {
    let warnings = good(text).warnings;
    warnings
        .iter()
        .map(|warning| (warning.rule.name(), warning.span.start.line))
        .collect()
}

#[test]
fn oddities_are_found() {
    for (text, expected) in [
        ("FROM a AS b\nCMD [\"x\"]", vec![]),
        ("FROM a\nRUN x \\\n\n  y", vec![("NoEmptyContinuation", 3)]),
        ("FROM a as b", vec![("FromAsCasing", 1)]),
        ("from a as b", vec![]),
        ("FROM a AS Bb", vec![("StageNameCasing", 1)]),
        ("FROM a AS context", vec![("ReservedStageName", 1)]),
        ("FROM a AS b\nFROM c AS b", vec![("DuplicateStageName", 2)]),
        (
            "FROM a\nrun x\nRUN y",
            vec![("ConsistentInstructionCasing", 2)],
        ),
        ("FROM a\nMAINTAINER x", vec![("MaintainerDeprecated", 2)]),
        (
            "# b\nARG a\nFROM a",
            vec![("InvalidDefinitionDescription", 2)],
        ),
        (
            "FROM a\n# check=nonsense\nRUN x",
            vec![("InvalidCheckComment", 2)],
        ),
    ] {
        assert_eq!(rules(text), expected, "{text}");
    }
}

#[test]
fn checks_can_be_turned_off() {
    for (top, text, expected) in [
        ("skip=all", "FROM a as B", vec![]),
        ("skip=FromAsCasing", "FROM a as B", vec!["StageNameCasing"]),
        ("", "FROM a\n# check=skip=all\nRUN x \\\n\n y", vec![]),
        (
            "",
            "FROM a\n# check=skip=all\nRUN x\nRUN x \\\n\n y",
            vec!["NoEmptyContinuation"],
        ),
        ("", "# b\nARG a\nFROM a", vec![]),
        (
            "experimental=all;skip=all",
            "# b\nARG a\nFROM a as B",
            vec!["InvalidDefinitionDescription"],
        ),
    ] {
        let file = good(text);
        let options = CheckOptions::parse(top).unwrap();
        let left = file.asked_for(file.warnings.clone(), Some(&options));
        let left: Vec<&str> = left.iter().map(|warning| warning.rule.name()).collect();
        assert_eq!(left, expected, "{top} {text}");
    }
}
