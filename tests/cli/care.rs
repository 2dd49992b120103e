//! Care of the store: what an image was made by, what goes, what is counted.

use serde_json::Value;

use crate::session as fresh;
use crate::session::Session;

const SMALL: &str = "FROM scratch\nENV A=b\nCOPY file /dir/file\nCOPY file /other\nLABEL long=0123456789012345678901234567890123456789012345678901234567890123456789\n";

fn small(session: &Session, name: &str) -> String {
    session.write("context/file", "content");
    session.build(SMALL, &["-t", name]).success().stdout
}

fn row<'a>(usage: &'a Value, kind: &str) -> &'a Value {
    let rows = usage.as_array().unwrap();
    rows.iter().find(|row| row["Type"] == kind).unwrap()
}

#[test]
fn history_tells_every_step_whole() {
    let (session, _root) = fresh();
    small(&session, "org/app:1");
    let steps = session.json(&["history", "org/app:1", "--format", "json"]);
    let inspected = session.json(&["image", "inspect", "org/app:1"]);
    let steps = steps.as_array().unwrap();
    let empty: Vec<bool> = steps
        .iter()
        .map(|step| step["EmptyLayer"].as_bool().unwrap())
        .collect();
    assert_eq!(empty, [true, false, false, true]);
    let label = steps[0]["CreatedBy"].as_str().unwrap();
    assert!(label.ends_with("0123456789"), "{label}");
    assert_eq!(steps[1]["Digest"], inspected["Layers"][1]["Digest"]);
    assert_eq!(steps[2]["Size"], inspected["Layers"][0]["Size"]);
    assert_eq!(
        steps[2]["DiffId"],
        inspected["Config"]["rootfs"]["diff_ids"][0]
    );
    assert_eq!(steps[3]["Size"], 0);
    let text = session.ok(&["image", "history", "org/app:1"]);
    assert_eq!(text.lines().count(), 5, "{text}");
    assert!(text.contains('…'), "{text}");
    let text = session.ok(&["image", "history", "--no-trunc", "org/app:1"]);
    assert!(text.contains(label), "{text}");
    let failed = session.run(&["history", "org/app:2"]).failure();
    assert!(failed.contains("org/app:2"), "{failed}");
}

#[test]
fn images_without_a_name_go_and_with_all_the_others() {
    let (session, _root) = fresh();
    small(&session, "org/app:1");
    session.write("context/file", "other");
    let nameless = session.build("FROM scratch\nCOPY file /\n", &[]).success();
    let count = |session: &Session| {
        let index = fs_err::read(session.root().join("v1/images/index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        index["manifests"].as_array().unwrap().len()
    };
    assert_eq!(count(&session), 2);
    let dry = session.run(&["image", "prune", "--dry-run"]).success();
    assert_eq!(dry.stdout, nameless.stdout);
    assert!(dry.stderr.starts_with("would remove 1 image,"), "{dry}");
    assert_eq!(count(&session), 2);
    let done = session.run(&["image", "prune"]).success();
    assert_eq!(done.stdout, nameless.stdout);
    assert!(done.stderr.starts_with("removed 1 image,"), "{done}");
    assert_eq!(count(&session), 1);
    let done = session.run(&["image", "prune", "--all"]).success();
    assert_eq!(done.stdout, "org/app:1\n");
    assert_eq!(count(&session), 0);
    let done = session.run(&["image", "prune", "-a"]).success();
    assert!(
        done.stderr.starts_with("removed 0 images\nfreed 0 B"),
        "{done}"
    );
}

#[test]
fn what_is_counted_is_what_goes() {
    let (session, _root) = fresh();
    small(&session, "org/app:1");
    let usage = session.json(&["system", "df", "--format", "json"]);
    assert_eq!(row(&usage, "images")["Count"], 1);
    assert_eq!(row(&usage, "build-cache")["Count"], 2);
    assert_eq!(row(&usage, "microvms")["Size"], 0);
    assert!(row(&usage, "images")["Reclaimable"].as_u64() > Some(0));
    let text = session.ok(&["system", "df"]);
    assert!(text.lines().last().unwrap().starts_with("all"), "{text}");
    // Without `--all` only what no image has goes.
    session.ok(&["image", "tag", "org/app:1", "org/app:2"]);
    let done = session.run(&["system", "prune"]).success();
    assert_eq!(done.stdout, "");
    session.ok(&["image", "inspect", "org/app:1"]);
    session.ok(&["system", "prune", "--all", "--dry-run"]);
    session.ok(&["image", "inspect", "org/app:1"]);
    let done = session.run(&["system", "prune", "--all"]).success();
    assert_eq!(done.stdout, "org/app:1\norg/app:2\n");
    let usage = session.json(&["system", "df", "--format", "json"]);
    for kind in ["images", "root-file-systems", "build-cache", "downloads"] {
        assert_eq!(row(&usage, kind)["Count"], 0, "{kind}");
    }
    let blobs = fs_err::read_dir(session.root().join("v1/images/blobs/sha256")).unwrap();
    assert_eq!(blobs.count(), 0);
}
