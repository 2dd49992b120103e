//! What holds of any Dockerfile that can be parsed: checks and lowering end without a panic, mark
//! places in the text, and say the same twice. The files are those of the parser's fuzz target, cut
//! off anywhere.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use firebuild_core::{ImageConfig, Platform, Reference};
use firebuild_dockerfile::parse;
use firebuild_plan::check::{Facts, check};
use firebuild_plan::ignore::Patterns;
use firebuild_plan::lower::{Bases, BoxError, Options, lower, outline};

/// An image is here if its name has an `a` in it.
struct Some;

impl Bases for Some {
    fn config(&self, image: &Reference) -> Result<ImageConfig, BoxError> {
        match image.familiar().contains('a') {
            true => Ok(ImageConfig::scratch(Platform::host())),
            false => Err("it is not here".into()),
        }
    }
}

fn hold(text: &[u8]) {
    let Ok(file) = parse(text) else {
        return;
    };
    let mut options = Options::new(Platform::host());
    options.build_args.insert("a".to_owned(), "1".to_owned());
    let ignore = Patterns::parse(b"*.log\nb").unwrap();
    for all_stages in [true, false] {
        let facts = Facts {
            options: &options,
            bases: &Some,
            ignore: &ignore,
            all_stages,
        };
        let report = check(&file, &facts).unwrap();
        assert_eq!(report, check(&file, &facts).unwrap());
        for warning in &report.warnings {
            assert!(text.get(warning.span.range()).is_some(), "{warning:?}");
            assert!(warning.span.start.line > 0, "{warning:?}");
        }
        let places = report.warnings.iter().map(|warning| warning.span.start);
        assert!(places.is_sorted());
    }
    if let Err(error) = outline(&file, &options) {
        assert!(text.get(error.span.range()).is_some(), "{error:?}");
    }
    match lower(&file, &options, &Some) {
        Ok(plan) => drop(serde_json::to_string(&plan).unwrap()),
        Err(error) => assert!(text.get(error.span.range()).is_some(), "{error:?}"),
    }
}

#[test]
fn whatever_is_parsed_can_be_checked_and_lowered() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/parser");
    let mut files = 0;
    for entry in std::path::Path::new(corpus).read_dir().unwrap() {
        let text = fs_err::read(entry.unwrap().path()).unwrap();
        files += 1;
        for end in 0..=text.len() {
            hold(&text[..end]);
            hold(&[b"FROM a\n", &text[end..]].concat());
        }
    }
    assert!(files >= 10);
}
