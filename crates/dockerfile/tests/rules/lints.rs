//! The warnings that the text alone gives.

use crate::good;

fn rules(text: &str) -> Vec<(&'static str, u32)> {
    let warnings = good(text).warnings;
    warnings
        .iter()
        .map(|warning| (warning.rule, warning.span.start.line))
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
        (
            "from a\nrun x\nRUN y",
            vec![("ConsistentInstructionCasing", 3)],
        ),
        ("FROM a\nRun x", vec![("ConsistentInstructionCasing", 2)]),
        ("FROM a\nMAINTAINER x", vec![("MaintainerDeprecated", 2)]),
        (
            "FROM a\nENV a b\nLABEL a b",
            vec![("LegacyKeyValueFormat", 2), ("LegacyKeyValueFormat", 3)],
        ),
        ("FROM a\nCMD x", vec![("JSONArgsRecommended", 2)]),
        ("FROM a\nSHELL [\"x\"]\nCMD x", vec![]),
        (
            "FROM a\nSHELL [\"x\"]\nFROM b\nCMD x",
            vec![("JSONArgsRecommended", 4)],
        ),
        (
            "FROM a\nCMD []\nCMD []\nFROM b\nCMD []",
            vec![("MultipleInstructionsDisallowed", 2)],
        ),
        (
            "FROM a\nHEALTHCHECK NONE\nHEALTHCHECK NONE",
            vec![("MultipleInstructionsDisallowed", 2)],
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
    for (text, expected) in [
        ("# check=skip=all\nFROM a as B\nCMD x", vec![]),
        (
            "# check=skip=FromAsCasing\nFROM a as B",
            vec![("StageNameCasing", 2)],
        ),
        (
            "FROM a\n# check=skip=JSONArgsRecommended\nCMD x\nENV a b",
            vec![("LegacyKeyValueFormat", 4)],
        ),
        ("FROM a\n# check=skip=all\nRUN x \\\n\n y", vec![]),
    ] {
        assert_eq!(rules(text), expected, "{text}");
    }
}
