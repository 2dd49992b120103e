//! The examples are models: checks find nothing in them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::path::Path;

use firebuild_core::{ImageConfig, Platform, Reference};
use firebuild_dockerfile::parse;
use firebuild_plan::check::{Facts, check};
use firebuild_plan::ignore::Patterns;
use firebuild_plan::lower::{Bases, BoxError, Options};

/// Each base image sets what most do.
struct Usual;

impl Bases for Usual {
    fn config(&self, _: &Reference) -> Result<ImageConfig, BoxError> {
        Ok(ImageConfig::scratch(Platform::host()))
    }
}

#[test]
fn nothing_is_odd_in_the_examples() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut checked = 0;
    for entry in fs_err::read_dir(examples).unwrap() {
        let directory = entry.unwrap().path();
        let Ok(text) = fs_err::read(directory.join("Dockerfile")) else {
            continue;
        };
        let ignore = fs_err::read(directory.join(".dockerignore")).unwrap_or_default();
        let report = check(
            &parse(&text).unwrap(),
            &Facts {
                options: &Options::new(Platform::host()),
                bases: &Usual,
                ignore: &Patterns::parse(&ignore).unwrap(),
                all_stages: true,
            },
        );
        let warnings = report.unwrap().warnings;
        assert!(
            warnings.is_empty(),
            "{}: {warnings:#?}",
            directory.display()
        );
        checked += 1;
    }
    assert!(checked > 0);
}
