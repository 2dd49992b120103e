//! From layers to file systems that the kernel mounts, one or several over each other, against what two
//! others make of the same layers: `umoci raw unpack`, and an overlay mount of the layers, each unpacked
//! on its own. Needs root.
//!
//! A case is a number, and the same layers each time. `FIREBUILD_TEST_CASES=1000..4000` tries others
//! than the few that every run tries; `FIREBUILD_TEST_LAYOUT=DIRECTORY:NAME` compares the image `NAME`
//! of an OCI image layout with what umoci makes of it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what fails in a test's own steps fails the test"
)]

mod archive;
mod judges;
mod model;
mod overlay;
mod random;
mod seen;
mod stack;

use std::ops::Range;
use std::path::Path;

use judges::Unpacked;
use model::Layer;
use seen::difference;

/// The cases of every run.
const CASES: Range<u64> = 0..40;

fn cases() -> Range<u64> {
    let Ok(given) = std::env::var("FIREBUILD_TEST_CASES") else {
        return CASES;
    };
    let (start, end) = given.split_once("..").unwrap();
    start.parse().unwrap()..end.parse().unwrap()
}

/// What differs between ours and the others; empty if nothing does.
fn compare(number: u64, layers: &[Layer], scratch: &Path) -> String {
    let unpacked = Unpacked::of(number, layers, scratch);
    let ours = &unpacked.ours;
    let mut text = difference(ours, &overlay::merged(layers, scratch), "overlay");
    let unlisted = model::unlisted(layers);
    let [ours, theirs] = [ours.clone(), unpacked.umoci].map(|mut listing| {
        for (path, seen) in &mut listing {
            // umoci changes the time of a directory that it puts something into later, and gives
            // directories that a layer does not list, and has something in, other metadata.
            seen.forget_time();
            if unlisted.contains(path) {
                seen.forget_metadata();
            }
        }
        listing
    });
    text.push_str(&difference(&ours, &theirs, "umoci"));
    text
}

#[test]
fn layers_are_merged_as_others_merge_them() {
    let scratch = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for number in cases() {
        // It is shown if a step of the test fails.
        println!("case {number}");
        let layers = stack::of_case(number);
        let place = scratch.path().join(number.to_string());
        fs_err::create_dir(&place).unwrap();
        let text = compare(number, &layers, &place);
        if !text.is_empty() {
            println!("{text}");
            wrong.push(format!("case {number}:\n{text}{}", model::shown(&layers)));
        }
        fs_err::remove_dir_all(place).unwrap();
    }
    assert!(wrong.is_empty(), "{} cases\n{}", wrong.len(), wrong[0]);
}

/// What generated layers must have so that the comparison means something.
#[test]
fn the_cases_have_everything() {
    let all: Vec<Vec<Layer>> = CASES.map(stack::of_case).collect();
    let text: String = all.iter().map(|layers| model::shown(layers)).collect();
    for word in model::WORDS {
        let count = text.matches(word).count();
        assert!(count >= 3, "{count} times `{word}`");
    }
}

#[test]
fn a_given_image_is_what_umoci_makes_of_it() {
    let scratch = tempfile::tempdir().unwrap();
    let layout = match std::env::var("FIREBUILD_TEST_LAYOUT") {
        Ok(given) => given,
        Err(_) => judges::of_this_host(scratch.path()),
    };
    let (ours, theirs) = judges::of_layout(&layout, scratch.path());
    assert!(ours.len() > 100, "{}", ours.len());
    let text = difference(&ours, &theirs, "umoci");
    assert!(text.is_empty(), "{text}");
}
