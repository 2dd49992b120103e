//! Each rule: what it finds, and what it lets pass; and docs/checks.md says the same.

use std::collections::BTreeMap;

use firebuild_core::Reference;
use firebuild_dockerfile::parse;

use super::*;
use crate::lower::{BoxError, NamedContext};
use firebuild_core::{ImageConfig, Platform};

mod documented;
mod froms;
mod lines;
mod options;

/// Some images: `known` sets variables, a directory and a trigger; `shell` has a shell.
struct Some;

impl Bases for Some {
    fn config(&self, image: &Reference) -> Result<ImageConfig, BoxError> {
        let mut config = ImageConfig::scratch(amd64());
        match image.familiar().trim_end_matches(":latest") {
            "known" => {
                config.config.env = vec!["KNOWN=1".to_owned()];
                config.config.working_dir = "/srv".to_owned();
                config.config.on_build = vec!["ENV TRIGGERED=1".to_owned(), "CMD x".to_owned()];
            }
            "shell" => config.config.shell = Option::Some(vec!["/bin/bash".to_owned()]),
            "example.org/only-for-arm64" => config.platform.architecture = "arm64".to_owned(),
            "example.org/for-amd64" => {}
            other => return Err(format!("no {other}").into()),
        }
        Ok(config)
    }
}

fn amd64() -> Platform {
    Platform {
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        variant: None,
    }
}

/// Everything of which a test may say something else than usual.
struct Case {
    ignore: &'static str,
    options: Options,
    all_stages: bool,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            ignore: "",
            options: Options::new(amd64()),
            all_stages: true,
        }
    }
}

impl Case {
    fn given(arguments: &[(&str, &str)]) -> Self {
        let mut case = Self::default();
        let pairs = arguments.iter();
        let pairs = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        case.options.build_args = pairs.collect();
        case
    }

    #[track_caller]
    fn report(&self, text: &str) -> Result<Report, CheckArgumentError> {
        let dockerfile = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}\n{error}"));
        let ignore = Patterns::parse(self.ignore.as_bytes()).unwrap();
        let facts = Facts {
            options: &self.options,
            bases: &Some,
            ignore: &ignore,
            all_stages: self.all_stages,
        };
        check(&dockerfile, &facts)
    }

    /// What is found: rule, line, and the text that is marked.
    #[track_caller]
    fn found(&self, text: &str) -> Vec<(&'static str, u32, String)> {
        let report = self.report(text).unwrap();
        let warnings = report.warnings.into_iter();
        let found = warnings.map(|warning| {
            let marked = text.get(warning.span.range()).unwrap_or("?").to_owned();
            (warning.rule.name(), warning.span.start.line, marked)
        });
        found.collect()
    }

    /// Of each text: what `rule` marks in it.
    #[track_caller]
    fn table(&self, rule: &str, cases: &[(&str, &[(u32, &str)])]) {
        for (text, wanted) in cases {
            let found = self.found(text);
            let found = found.into_iter().filter(|(name, _, _)| *name == rule);
            let found: Vec<(u32, String)> = found.map(|(_, line, marked)| (line, marked)).collect();
            let wanted: Vec<(u32, String)> = wanted
                .iter()
                .map(|(line, marked)| (*line, (*marked).to_owned()))
                .collect();
            assert_eq!(found, wanted, "{rule} in\n{text}");
        }
    }

    #[track_caller]
    fn message(&self, text: &str) -> String {
        let report = self.report(text).unwrap();
        let messages = report
            .warnings
            .iter()
            .map(|warning| warning.message.clone());
        messages.collect::<Vec<_>>().join("\n")
    }
}
