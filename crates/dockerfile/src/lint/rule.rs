//! The rules: BuildKit's, by its names, and one of our own. docs/checks.md describes each.

use std::fmt;

use serde::{Serialize, Serializer};

/// Something that a check looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    missing_docs,
    reason = "the names are BuildKit's, and each rule has a description"
)]
pub enum Rule {
    StageNameCasing,
    FromAsCasing,
    NoEmptyContinuation,
    ConsistentInstructionCasing,
    DuplicateStageName,
    ReservedStageName,
    JsonArgsRecommended,
    MaintainerDeprecated,
    UndefinedArgInFrom,
    WorkdirRelativePath,
    UndefinedVar,
    MultipleInstructionsDisallowed,
    LegacyKeyValueFormat,
    InvalidBaseImagePlatform,
    RedundantTargetPlatform,
    SecretsUsedInArgOrEnv,
    InvalidDefaultArgInFrom,
    FromPlatformFlagConstDisallowed,
    CopyIgnoredFile,
    InvalidDefinitionDescription,
    ExposeProtoCasing,
    ExposeInvalidFormat,
    InvalidCheckComment,
}

use Rule::{
    ConsistentInstructionCasing, CopyIgnoredFile, DuplicateStageName, ExposeInvalidFormat,
    ExposeProtoCasing, FromAsCasing, FromPlatformFlagConstDisallowed, InvalidBaseImagePlatform,
    InvalidCheckComment, InvalidDefaultArgInFrom, InvalidDefinitionDescription,
    JsonArgsRecommended, LegacyKeyValueFormat, MaintainerDeprecated,
    MultipleInstructionsDisallowed, NoEmptyContinuation, RedundantTargetPlatform,
    ReservedStageName, SecretsUsedInArgOrEnv, StageNameCasing, UndefinedArgInFrom, UndefinedVar,
    WorkdirRelativePath,
};

/// Each rule with its name and what it says, in one line.
const RULES: [(Rule, &str, &str); 23] = [
    (
        StageNameCasing,
        "StageNameCasing",
        "names of stages should be in lower case",
    ),
    (
        FromAsCasing,
        "FromAsCasing",
        "`AS` should be in the same case as its `FROM`",
    ),
    (
        NoEmptyContinuation,
        "NoEmptyContinuation",
        "an empty line inside a continued one is ignored now and may be an error one day",
    ),
    (
        ConsistentInstructionCasing,
        "ConsistentInstructionCasing",
        "all instructions of a file should be in the same case",
    ),
    (
        DuplicateStageName,
        "DuplicateStageName",
        "no two stages should have one name",
    ),
    (
        ReservedStageName,
        "ReservedStageName",
        "a stage cannot be used by a name that means something else",
    ),
    (
        JsonArgsRecommended,
        "JSONArgsRecommended",
        "CMD and ENTRYPOINT should be JSON arrays, so that signals reach the program and not a shell",
    ),
    (
        MaintainerDeprecated,
        "MaintainerDeprecated",
        "MAINTAINER is deprecated; a label names the author",
    ),
    (
        UndefinedArgInFrom,
        "UndefinedArgInFrom",
        "FROM sees only the arguments that are declared before the first stage",
    ),
    (
        WorkdirRelativePath,
        "WorkdirRelativePath",
        "a relative WORKDIR depends on the base image unless an absolute one stands before it",
    ),
    (
        UndefinedVar,
        "UndefinedVar",
        "variables should be set before they are used",
    ),
    (
        MultipleInstructionsDisallowed,
        "MultipleInstructionsDisallowed",
        "of several CMD, ENTRYPOINT or HEALTHCHECK in one stage only the last counts",
    ),
    (
        LegacyKeyValueFormat,
        "LegacyKeyValueFormat",
        "names and values should be joined by `=`, not by a blank",
    ),
    (
        InvalidBaseImagePlatform,
        "InvalidBaseImagePlatform",
        "the base image should be for the platform that is built for",
    ),
    (
        RedundantTargetPlatform,
        "RedundantTargetPlatform",
        "`--platform=$TARGETPLATFORM` is what FROM does anyway",
    ),
    (
        SecretsUsedInArgOrEnv,
        "SecretsUsedInArgOrEnv",
        "what ARG and ENV hold can be read in the image, so it should not be secret",
    ),
    (
        InvalidDefaultArgInFrom,
        "InvalidDefaultArgInFrom",
        "FROM should name an image also when no build argument is given",
    ),
    (
        FromPlatformFlagConstDisallowed,
        "FromPlatformFlagConstDisallowed",
        "FROM should not be tied to one platform",
    ),
    (
        CopyIgnoredFile,
        "CopyIgnoredFile",
        "what is copied should not be left out by the ignore file",
    ),
    (
        InvalidDefinitionDescription,
        "InvalidDefinitionDescription",
        "a comment right above a stage or an argument should begin with its name (experimental)",
    ),
    (
        ExposeProtoCasing,
        "ExposeProtoCasing",
        "the protocol of an exposed port should be in lower case",
    ),
    (
        ExposeInvalidFormat,
        "ExposeInvalidFormat",
        "EXPOSE names ports of the image only; addresses and ports of the host are ignored",
    ),
    (
        InvalidCheckComment,
        "InvalidCheckComment",
        "a `check=` comment above an instruction should hold options of checks (firebuild's own)",
    ),
];

impl Rule {
    /// All rules: BuildKit's in its order, then firebuild's own.
    pub fn all() -> impl Iterator<Item = Self> {
        RULES.iter().map(|(rule, _, _)| *rule)
    }

    /// The name that messages and `check=skip=` use.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().1
    }

    /// What the rule says, in one line: lower case, no full stop.
    #[must_use]
    pub fn description(self) -> &'static str {
        self.entry().2
    }

    /// The page that explains the rule.
    #[must_use]
    pub fn url(self) -> String {
        match self {
            InvalidCheckComment => concat!(
                env!("CARGO_PKG_REPOSITORY"),
                "/blob/main/docs/checks.md#invalidcheckcomment"
            )
            .to_owned(),
            _ => format!(
                "https://docs.docker.com/go/dockerfile/rule/{}/",
                kebab(self.name())
            ),
        }
    }

    /// True for a rule that is checked only if asked for: `check=experimental=…`.
    #[must_use]
    pub fn is_experimental(self) -> bool {
        self == InvalidDefinitionDescription
    }

    fn entry(self) -> &'static (Self, &'static str, &'static str) {
        // In the order of the variants, which a test holds.
        &RULES[self as usize]
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// `JSONArgsRecommended` as `json-args-recommended`.
fn kebab(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut kebab = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let next_lower = letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        let after_lower = at > 0 && letters[at - 1].is_lowercase();
        if letter.is_uppercase() && at > 0 && (next_lower || after_lower) {
            kebab.push('-');
        }
        kebab.push(letter.to_ascii_lowercase());
    }
    kebab
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_in_their_places() {
        for (at, rule) in Rule::all().enumerate() {
            assert_eq!(rule as usize, at, "{rule}");
            assert!(!rule.description().ends_with('.'), "{rule}");
        }
        assert_eq!(Rule::all().filter(|rule| rule.is_experimental()).count(), 1);
    }

    #[test]
    fn links_are_buildkits() {
        for (rule, end) in [
            (JsonArgsRecommended, "rule/json-args-recommended/"),
            (
                MultipleInstructionsDisallowed,
                "rule/multiple-instructions-disallowed/",
            ),
            (SecretsUsedInArgOrEnv, "rule/secrets-used-in-arg-or-env/"),
            (UndefinedVar, "rule/undefined-var/"),
            (InvalidCheckComment, "docs/checks.md#invalidcheckcomment"),
        ] {
            assert!(rule.url().ends_with(end), "{}", rule.url());
            assert!(rule.url().starts_with("https://"), "{}", rule.url());
        }
    }
}
