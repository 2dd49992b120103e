//! The house: which crate may see which, and that every test file is part of a test.

#![allow(clippy::unwrap_used, reason = "a test's helpers may fail it")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// The crates by layer, lowest first: a crate sees only what is below it. `vminit`, the guest, sees
/// only what it shares with its host.
const LAYERS: [(&str, &[&str]); 12] = [
    ("firebuild-core", &[]),
    ("firebuild-protocol", &["firebuild-core"]),
    ("firebuild-dockerfile", &[]),
    ("firebuild-disk", &["firebuild-core"]),
    ("firebuild-store", &["firebuild-core"]),
    (
        "firebuild-plan",
        &["firebuild-core", "firebuild-dockerfile"],
    ),
    ("firebuild-oci", &["firebuild-core", "firebuild-store"]),
    ("firebuild-network", &["firebuild-core"]),
    ("firebuild-guest", &["firebuild-core", "firebuild-protocol"]),
    (
        "firebuild-machine",
        &[
            "firebuild-core",
            "firebuild-disk",
            "firebuild-network",
            "firebuild-protocol",
            "firebuild-store",
        ],
    ),
    (
        "firebuild-builder",
        &[
            "firebuild-core",
            "firebuild-disk",
            "firebuild-machine",
            "firebuild-network",
            "firebuild-oci",
            "firebuild-plan",
            "firebuild-protocol",
            "firebuild-store",
        ],
    ),
    (
        "firebuild",
        &[
            "firebuild-builder",
            "firebuild-core",
            "firebuild-dockerfile",
            "firebuild-machine",
            "firebuild-network",
            "firebuild-oci",
            "firebuild-plan",
            "firebuild-protocol",
            "firebuild-store",
        ],
    ),
];

fn metadata() -> serde_json::Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn arrows_go_down() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> = LAYERS
        .iter()
        .map(|(name, below)| (*name, below.iter().copied().collect()))
        .collect();
    let metadata = metadata();
    let mut seen = 0;
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let Some(allowed) = allowed.get(name) else {
            assert_eq!(name, "xtask", "a crate without a layer");
            continue;
        };
        seen += 1;
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = dependency["name"].as_str().unwrap();
            let for_tests = dependency["kind"].as_str() == Some("dev");
            if to.starts_with("firebuild") && !for_tests {
                assert!(allowed.contains(to), "`{name}` must not see `{to}`");
            }
        }
    }
    assert_eq!(seen, LAYERS.len());
}

/// A file in the folders of the integration tests that no `mod` names would never be run.
#[test]
fn no_test_file_is_forgotten() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for suite in ["cli", "vm"] {
        let folder = root.join("tests").join(suite);
        let main = fs_err::read_to_string(folder.join("main.rs")).unwrap();
        for entry in fs_err::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if path.extension().is_some_and(|extension| extension == "rs") && name != "main" {
                assert!(
                    main.contains(&format!("mod {name};")),
                    "`{}` is in no suite",
                    path.display()
                );
            }
        }
    }
}
