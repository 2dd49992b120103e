//! Images whose layers come compressed: they stay as they came, and everything works on them.

use std::path::PathBuf;

use crate::session as fresh;
use crate::session::{Session, output_of};

/// An image of two layers as layouts that are named like the compression of their layers.
fn layouts(session: &Session, formats: &[&str]) {
    session.write("context/file", "content");
    session.write("context/large", "much ".repeat(100_000));
    let text = "FROM scratch\nCOPY file large /dir/\nCOPY file /dir/other\nENV A=b\n";
    session.build(text, &["-t", "made:1"]).success();
    let words = [
        "image", "export", "made:1", "--type", "oci-dir", "-o", "plain",
    ];
    session.ok(&words);
    session.ok(&["image", "rm", "made:1"]);
    session.ok(&["build", "cache", "prune"]);
    for format in formats {
        let from = format!("oci:{}:1", session.path("plain").display());
        let to = format!("oci:{}:there", session.path(format).display());
        let compress = ["--dest-compress", "--dest-compress-format", format];
        output_of(
            "skopeo",
            &[&["copy"], &compress[..], &[&from, &to]].concat(),
        );
    }
}

fn import(session: &Session, layout: &str, name: &str) -> String {
    session.ok(&["image", "import", &format!("oci:{layout}"), "--tag", name])
}

/// The image's files as another tool unpacks them.
fn unpacked(session: &Session, image: &str, to: &str) -> PathBuf {
    let out = session.path(&format!("{to}-layout"));
    session.ok(&[
        "image",
        "export",
        image,
        "--type",
        "oci-dir",
        "-o",
        out.to_str().unwrap(),
    ]);
    let bundle = session.path(to);
    let image = format!("{}:latest", out.display());
    output_of(
        "umoci",
        &["unpack", "--image", &image, bundle.to_str().unwrap()],
    );
    bundle.join("rootfs")
}

fn blobs(session: &Session) -> Vec<String> {
    let directory = session.root().join("v1/images/blobs/sha256");
    let entries = fs_err::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn count(session: &Session, directory: &str) -> usize {
    fs_err::read_dir(session.root().join("v1").join(directory))
        .unwrap()
        .count()
}

#[test]
fn a_build_on_layers_that_came_compressed() {
    let (session, _root) = fresh();
    layouts(&session, &["gzip"]);
    let digest = import(&session, "gzip", "base");
    let inspected = session.json(&["image", "inspect", "base"]);
    assert_eq!(inspected["Digest"], digest.trim_end());
    assert!(
        inspected["Layers"][0]["MediaType"]
            .as_str()
            .unwrap()
            .ends_with("tar+gzip")
    );
    session.write("context/new", "new");
    let text = "FROM base\nCOPY --from=base /dir/file /again\nCOPY new /dir/new\n";
    session.build(text, &["-t", "built"]).success();
    let root = unpacked(&session, "built", "seen");
    for (path, content) in [
        ("again", "content"),
        ("dir/other", "content"),
        ("dir/new", "new"),
    ] {
        assert_eq!(fs_err::read_to_string(root.join(path)).unwrap(), content);
    }
    // Nothing of it was decompressed to a blob.
    let built = session.json(&["image", "inspect", "built"]);
    let diff_ids = built["Config"]["rootfs"]["diff_ids"].as_array().unwrap();
    let is_blob = |diff_id: &serde_json::Value| {
        blobs(&session).contains(&diff_id.as_str().unwrap().replace("sha256:", ""))
    };
    let plain: Vec<bool> = diff_ids.iter().map(is_blob).collect();
    assert_eq!(plain, [false, false, true, true]);
    // With the last image that has it, a layer goes with all that was kept of it.
    session.ok(&["image", "rm", "base"]);
    assert_eq!(count(&session, "layers"), 4);
    session.ok(&["image", "rm", "built"]);
    session.ok(&["build", "cache", "prune"]);
    assert_eq!(count(&session, "layers") + count(&session, "rootfs"), 0);
    assert_eq!(blobs(&session), Vec::<String>::new());
}

#[test]
fn what_is_built_depends_on_the_base_and_on_nothing_else_that_is_there() {
    let (session, _root) = fresh();
    layouts(&session, &["gzip"]);
    session.ok(&["image", "import", "oci:plain", "--tag", "base"]);
    let build = || {
        session
            .build("FROM base\nCOPY file /new\n", &["-t", "built"])
            .success()
            .stdout
    };
    let alone = build();
    // The same layers in another form.
    import(&session, "gzip", "other");
    assert_eq!(build(), alone);
    session.ok(&["image", "tag", "other", "base"]);
    let on_other = build();
    assert_ne!(on_other, alone);
    session.ok(&["image", "import", "oci:plain", "--tag", "more"]);
    assert_eq!(build(), on_other);
    let built = session.json(&["image", "inspect", "built"]);
    let form = |layer: usize| {
        built["Layers"][layer]["MediaType"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(
        form(0).ends_with("tar+gzip") && form(2).ends_with("tar"),
        "{built}"
    );
}

#[test]
fn layers_that_came_twice_are_read_as_long_as_one_is_there() {
    let (session, _root) = fresh();
    layouts(&session, &["gzip", "zstd"]);
    let one = import(&session, "gzip", "one");
    let other = import(&session, "zstd", "other");
    assert_ne!(one, other);
    assert_eq!(count(&session, "rootfs"), 1);
    session.ok(&["image", "rm", "other"]);
    let root = unpacked(&session, "one", "seen");
    assert_eq!(
        fs_err::read_to_string(root.join("dir/file")).unwrap(),
        "content"
    );
    // Also where their files' bytes are not there any more.
    let rootfs = fs_err::read_dir(session.root().join("v1/rootfs"))
        .unwrap()
        .next();
    fs_err::remove_file(rootfs.unwrap().unwrap().path()).unwrap();
    session
        .build(
            "FROM one\nCOPY --from=one /dir/file /again\n",
            &["-t", "built"],
        )
        .success();
    let root = unpacked(&session, "built", "again");
    assert_eq!(
        fs_err::read_to_string(root.join("again")).unwrap(),
        "content"
    );
    // What comes once more is what is there.
    assert_eq!(import(&session, "gzip", "one"), one);
}

#[test]
fn an_image_whose_layer_is_not_what_it_says_leaves_nothing() {
    let (session, _root) = fresh();
    layouts(&session, &["gzip"]);
    let blobs_of = session.path("gzip").join("blobs/sha256");
    let mut files: Vec<_> = fs_err::read_dir(blobs_of)
        .unwrap()
        .map(|entry| entry.unwrap())
        .collect();
    files.sort_by_key(|file| file.metadata().unwrap().len());
    let layer = files.last().unwrap().path();
    let mut bytes = fs_err::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs_err::write(&layer, bytes).unwrap();
    let failed = session
        .run(&["image", "import", "oci:gzip", "--tag", "x"])
        .failure();
    assert!(failed.contains("has the digest"), "{failed}");
    assert_eq!(blobs(&session), Vec::<String>::new());
    assert_eq!(
        count(&session, "layers") + count(&session, "rootfs") + count(&session, "tmp"),
        0
    );
}
