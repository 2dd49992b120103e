//! Care of the store: what an image was made by, what goes, what is counted.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::docker_registry::DockerRegistry;
use crate::session as fresh;
use crate::session::{Session, output_of};

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

/// What `system verify` says as JSON, and its exit status.
fn verify(session: &Session, more: &[&str]) -> (Value, i32) {
    let words = [&["system", "verify", "--format", "json"], more].concat();
    let outcome = session.run(&words);
    let shown = serde_json::from_str(&outcome.stdout);
    (
        shown.unwrap_or_else(|_| panic!("{outcome}")),
        outcome.status,
    )
}

/// Kind, images and state of what is broken.
fn broken(shown: &Value) -> Vec<(String, Vec<String>, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let row = |row: &Value| {
        let images = row["Images"].as_array().unwrap().iter().map(text);
        (text(&row["Kind"]), images.collect(), text(&row["State"]))
    };
    shown["Broken"]
        .as_array()
        .unwrap()
        .iter()
        .map(row)
        .collect()
}

fn blob(session: &Session, digest: &Value) -> PathBuf {
    let hex = digest.as_str().unwrap().trim_start_matches("sha256:");
    session.root().join("v1/images/blobs/sha256").join(hex)
}

/// Changes one byte of a file.
fn change(path: &Path, at: usize) {
    let mut bytes = fs_err::read(path).unwrap();
    bytes[at] ^= 1;
    fs_err::write(path, bytes).unwrap();
}

/// A session with an image that came with compressed layers.
fn arrived() -> (Session, tempfile::TempDir) {
    let (session, root) = fresh();
    small(&session, "org/app:1");
    let layout = session.path("compressed");
    let store = session.root().join("v1/images");
    let from = format!("oci:{}:docker.io/org/app:1", store.display());
    let to = format!("oci:{}:1", layout.display());
    output_of(
        "skopeo",
        &[
            "copy",
            "-q",
            "--dest-compress",
            "--dest-compress-format",
            "gzip",
            &from,
            &to,
        ],
    );
    session.ok(&["system", "prune", "--all"]);
    session.ok(&["image", "import", "oci:compressed", "--tag", "came:1"]);
    (session, root)
}

#[test]
fn a_whole_store_verifies() {
    let (session, _root) = arrived();
    small(&session, "org/app:1");
    let (shown, status) = verify(&session, &[]);
    assert_eq!((broken(&shown), status), (vec![], 0));
    assert_eq!(shown["Images"], 2);
    assert_eq!(shown["RootFileSystems"], 1);
    let text = session.run(&["system", "verify"]).success();
    assert_eq!(text.stdout, "");
    assert!(text.stderr.starts_with("looked at 2 images, "), "{text}");
    let (shown, status) = verify(&session, &["--repair"]);
    assert_eq!((broken(&shown), status), (vec![], 0));
}

#[test]
fn a_changed_layer_is_found_and_fetched_again() {
    let (session, _root) = arrived();
    let layer = session.json(&["image", "inspect", "came:1"])["Layers"][0]["Digest"].clone();
    change(&blob(&session, &layer), 40);
    let found = |state: &str| {
        vec![(
            "blob".to_owned(),
            vec!["came:1".to_owned()],
            state.to_owned(),
        )]
    };
    for _ in 0..2 {
        let (shown, status) = verify(&session, &[]);
        assert_eq!((broken(&shown), status), (found("found"), 1));
    }
    let text = session.run(&["system", "verify"]);
    assert!(text.stdout.contains("hurts came:1"), "{text}");
    assert!(text.stderr.contains("system verify --repair"), "{text}");
    let (shown, status) = verify(&session, &["--repair"]);
    assert_eq!((broken(&shown), status), (found("missing"), 1));
    let (shown, status) = verify(&session, &[]);
    assert_eq!((broken(&shown), status), (found("found"), 1));
    session.ok(&["image", "import", "oci:compressed", "--tag", "came:1"]);
    assert_eq!(verify(&session, &[]).1, 0);
}

#[test]
fn a_pull_brings_back_only_what_was_broken() {
    let server = DockerRegistry::start();
    let name = server.image("app:1");
    let (session, _root) = fresh();
    small(&session, &name);
    session.ok(&["push", &name]);
    session.ok(&["system", "prune", "--all"]);
    session.ok(&["pull", &name]);
    let inspected = session.json(&["image", "inspect", &name]);
    for broken in [
        &inspected["Layers"][1]["Digest"],
        &inspected["ConfigDigest"],
        &inspected["Digest"],
    ] {
        change(&blob(&session, broken), 40);
        let (shown, status) = verify(&session, &["--repair"]);
        assert_eq!(status, 1, "{shown}");
        assert_eq!(shown["Broken"][0]["Digest"], *broken, "{shown}");
        assert_eq!(shown["Broken"][0]["Images"][0], name, "{shown}");
        assert_eq!(shown["Broken"].as_array().unwrap().len(), 1, "{shown}");
        session.ok(&["pull", &name]);
        let (shown, status) = verify(&session, &[]);
        assert_eq!(status, 0, "{shown}");
        assert_eq!(session.json(&["image", "inspect", &name]), inspected);
    }
}

#[test]
fn what_was_pulled_is_mended_from_its_registry() {
    let server = DockerRegistry::start();
    let name = server.image("app:1");
    let (session, _root) = fresh();
    small(&session, &name);
    session.ok(&["push", &name]);
    session.ok(&["system", "prune", "--all"]);
    session.ok(&["pull", &name]);
    let whole = session.json(&["image", "inspect", &name]);
    // The registry has another image under this name by now, and here is one of no registry.
    let (other, _other) = fresh();
    other.write("context/file", "other");
    other
        .build("FROM scratch\nCOPY file /\n", &["-t", &name])
        .success();
    other.ok(&["push", &name]);
    session.write("context/file", "mine");
    session
        .build("FROM scratch\nCOPY file /\n", &["-t", "mine:1"])
        .success();
    let mine = session.json(&["image", "inspect", "mine:1"]);
    for broken in [
        &whole["Layers"][0]["Digest"],
        &whole["Layers"][1]["Digest"],
        &whole["ConfigDigest"],
        &whole["Digest"],
    ] {
        change(&blob(&session, broken), 40);
        let (shown, status) = verify(&session, &["--repair", "--pull"]);
        assert_eq!(status, 0, "{shown}");
        assert_eq!(shown["Broken"][0]["Digest"], *broken, "{shown}");
        assert_eq!(shown["Broken"][0]["State"], "mended", "{shown}");
        assert_eq!(verify(&session, &[]).1, 0);
        assert_eq!(session.json(&["image", "inspect", &name]), whole);
    }
    // What cannot be fetched is told, and hinders nothing else.
    change(&blob(&session, &mine["Layers"][0]["Digest"]), 40);
    change(&blob(&session, &whole["Digest"]), 40);
    let (shown, status) = verify(&session, &["--repair", "--pull"]);
    let states: Vec<String> = broken(&shown).into_iter().map(|row| row.2).collect();
    assert_eq!(status, 1, "{shown}");
    assert!(states.contains(&"missing".to_owned()), "{shown}");
    assert!(states.contains(&"mended".to_owned()), "{shown}");
    assert_eq!(session.json(&["image", "inspect", &name]), whole);
    change(&blob(&session, &whole["Digest"]), 40);
    drop(server);
    let outcome = session.run(&["system", "verify", "--repair", "--pull"]);
    assert_eq!(outcome.status, 1, "{outcome}");
    let expected = format!("`{name}` cannot be fetched: ");
    assert!(outcome.stderr.contains(&expected), "{outcome}");
    let failed = session.run(&["system", "verify", "--pull"]);
    assert!(failed.stderr.contains("--repair"), "{failed}");
}

#[test]
fn what_can_be_made_again_is_mended() {
    let (session, _root) = arrived();
    small(&session, "org/app:1");
    let store = session.root().join("v1");
    let first = |directory: &str, extension: &str| {
        let mut files: Vec<PathBuf> = fs_err::read_dir(store.join(directory))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|found| found == extension))
            .collect();
        files.sort();
        files.remove(0)
    };
    change(&first("rootfs", "img"), 1024 + 0x10);
    fs_err::write(first("cache", "json"), "{").unwrap();
    fs_err::write(first("layers", "json"), "{").unwrap();
    let (shown, status) = verify(&session, &[]);
    let kinds = |shown: &Value| {
        broken(shown)
            .into_iter()
            .map(|row| row.0)
            .collect::<Vec<_>>()
    };
    let expected = ["root-file-system", "layer-record", "build-cache"];
    assert_eq!(
        (kinds(&shown), status),
        (expected.map(str::to_owned).to_vec(), 1)
    );
    let (shown, status) = verify(&session, &["--repair"]);
    assert_eq!(status, 0, "{shown}");
    assert!(
        broken(&shown).iter().all(|row| row.2 == "mended"),
        "{shown}"
    );
    let (shown, status) = verify(&session, &[]);
    assert_eq!((broken(&shown), status), (vec![], 0));
    // The image is as good as before.
    session
        .build(
            "FROM came:1\nCOPY --from=came:1 /other /more\n",
            &["-t", "above"],
        )
        .success();
    session.ok(&[
        "image",
        "export",
        "came:1",
        "--type",
        "rootfs-tar",
        "-o",
        "out.tar",
    ]);
}

#[test]
fn documents_and_the_list_of_images_are_looked_at() {
    let (session, _root) = fresh();
    small(&session, "org/app:1");
    session.ok(&["tag", "org/app:1", "org/app:2"]);
    let inspected = session.json(&["image", "inspect", "org/app:1"]);
    fs_err::remove_file(blob(&session, &inspected["ConfigDigest"])).unwrap();
    let (shown, status) = verify(&session, &[]);
    assert_eq!(status, 1);
    let images = vec!["org/app:1".to_owned(), "org/app:2".to_owned()];
    assert_eq!(
        broken(&shown)[0],
        ("blob".to_owned(), images, "found".to_owned())
    );
    // Others can be listed all the same.
    session.write("context/file", "other");
    session
        .build("FROM scratch\nCOPY file /\n", &["-t", "whole"])
        .success();
    let listed = session.run(&["images"]).success();
    assert!(
        listed.stdout.contains("whole") && listed.stderr.contains("`org/app:1`"),
        "{listed}"
    );
    fs_err::write(session.root().join("v1/images/index.json"), "{").unwrap();
    let (shown, status) = verify(&session, &["--repair"]);
    assert_eq!((broken(&shown)[0].0.as_str(), status), ("index", 1));
    assert_eq!(shown["Broken"][0]["State"], "left");
}

/// Many commands that make, name, take away and remove at once: none fails, and what is left is
/// whole.
#[test]
fn many_at_once_leave_what_is_whole() {
    let (session, _root) = arrived();
    for number in 0..3 {
        let text = format!("FROM scratch\nCOPY file /dir/file-{number}\nCOPY file /again\n");
        session.write(&format!("made-{number}/Dockerfile"), text);
        session.write(&format!("made-{number}/file"), format!("content {number}"));
    }
    let commands = |number: usize| -> Vec<Vec<String>> {
        let own = number % 3;
        let lines = [
            format!("build -t made:{number} made-{own}"),
            format!("build made-{own}"),
            format!("image import oci:compressed --tag in:{number}"),
            "image prune".to_owned(),
            format!("tag made:{number} other:{number}"),
            "images".to_owned(),
            "system df".to_owned(),
            format!("image rm made:{number}"),
            "purge".to_owned(),
            "build cache prune".to_owned(),
            format!("history in:{number}"),
            format!("image export in:{number} --type oci-archive -o out-{number}.tar"),
            "system prune".to_owned(),
            "system verify".to_owned(),
        ];
        let words = |line: &String| line.split(' ').map(str::to_owned).collect();
        lines.iter().map(words).collect()
    };
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (session, commands) = (&session, &commands);
            scope.spawn(move || {
                for words in commands(number) {
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    session.run(&words).success();
                }
            });
        }
    });
    let (shown, status) = verify(&session, &[]);
    assert_eq!((broken(&shown), status), (vec![], 0));
    assert_eq!(shown["Images"], 1 + 8 + 8);
    for number in 0..8 {
        for image in [format!("in:{number}"), format!("other:{number}")] {
            session.ok(&[
                "image",
                "export",
                &image,
                "--type",
                "rootfs-tar",
                "-o",
                "out.tar",
            ]);
        }
    }
    session.ok(&["system", "prune", "--all"]);
    let left = fs_err::read_dir(session.root().join("v1/images/blobs/sha256")).unwrap();
    assert_eq!(left.count(), 0);
}
