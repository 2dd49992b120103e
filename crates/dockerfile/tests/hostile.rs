//! The fuzz targets' invariants without a fuzzer: the corpus that is kept in `fuzz/corpus` and
//! what some random changes make of it, the same in every run. `cargo xtask fuzz` looks further.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeSet;
#[path = "../../../fuzz/harness.rs"]
mod harness;
#[path = "../../../fuzz/src/lib.rs"]
mod invariants;

/// So many changed inputs are tried for each target.
const CHANGED: u64 = 10_000;

fn hold(target: &str, invariant: fn(&[u8])) {
    harness::hold(target, invariant, CHANGED);
}

#[test]
fn parser() {
    hold("parser", invariants::parser);
}

#[test]
fn expander() {
    hold("expander", invariants::expander);
}

#[test]
fn ignore() {
    hold("ignore", invariants::ignore);
}

#[test]
fn glob() {
    hold("glob", invariants::glob);
}

#[test]
fn values() {
    hold("values", invariants::values);
}

#[test]
fn every_target_is_here() {
    let wanted: BTreeSet<&str> = [
        "parser", "expander", "ignore", "glob", "values", "layer", "ext4", "manifest",
    ]
    .into();
    let names = |path: &str| -> BTreeSet<String> {
        let entries = harness::directory(path).read_dir().unwrap();
        let names = entries.map(|entry| {
            let path = entry.unwrap().path();
            path.file_stem().unwrap().to_string_lossy().into_owned()
        });
        names.collect()
    };
    for path in ["fuzz_targets", "corpus", "dictionaries"] {
        assert!(names(path).iter().eq(wanted.iter()), "{path}");
    }
}
