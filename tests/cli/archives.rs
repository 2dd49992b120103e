//! Images as archives and as file systems: what other tools write we read, and the other way round.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::session as fresh;
use crate::session::{Outcome, Session, output_of};

/// An image of two layers.
fn made(session: &Session) -> String {
    session.write("context/file", "content");
    session.write("context/large", "much ".repeat(100_000));
    let text = "FROM scratch\nCOPY file large /dir/\nCOPY file /dir/other\nENV A=b\nCMD [\"/x\"]\n";
    session.build(text, &["-t", "org/made:1"]).success().stdout
}

fn export(session: &Session, image: &str, kind: &str, output: &str, more: &[&str]) -> Outcome {
    let words = ["image", "export", image, "--type", kind, "-o", output];
    session.run(&[&words[..], more].concat())
}

fn inspected(session: &Session, image: &str) -> Value {
    session.json(&["image", "inspect", image])
}

fn skopeo(image: &str) -> Value {
    serde_json::from_str(&output_of("skopeo", &["inspect", image])).unwrap()
}

#[test]
fn an_oci_archive_goes_out_and_comes_in_the_same() {
    let (session, _root) = fresh();
    let digest = made(&session);
    export(&session, "org/made:1", "oci-archive", "image.tar", &[]).success();
    export(&session, "org/made:1", "oci-archive", "again.tar", &[]).success();
    let archive = session.path("image.tar");
    let bytes = fs_err::read(&archive).unwrap();
    assert!(bytes == fs_err::read(session.path("again.tar")).unwrap());
    let seen = skopeo(&format!("oci-archive:{}:1", archive.display()));
    assert_eq!(seen["Digest"], digest.trim_end());
    session.ok(&["image", "rm", "org/made:1"]);
    session.ok(&["build", "cache", "prune"]);
    for source in ["oci-archive:image.tar", "oci-archive:image.tar:1"] {
        assert_eq!(
            session.ok(&["image", "import", source, "--tag", "back"]),
            digest
        );
        session.ok(&["image", "rm", "back"]);
    }
    let wrong = [
        "image",
        "import",
        "oci-archive:image.tar:2",
        "--tag",
        "back",
    ];
    let failed = session.run(&wrong).failure();
    assert!(failed.contains("no image `2`; it has `1`"), "{failed}");
}

#[test]
fn what_skopeo_writes_comes_in() {
    let (session, _root) = fresh();
    made(&session);
    export(&session, "org/made:1", "oci-dir", "layout", &[]).success();
    let from = format!("oci:{}:1", session.path("layout").display());
    let expected = inspected(&session, "org/made:1");
    for (kind, name) in [("oci-archive", "there"), ("docker-archive", "org/there:3")] {
        let to = format!("{kind}:{}:{name}", session.path(kind).display());
        output_of("skopeo", &["copy", &from, &to]);
        let source = format!("{kind}:{kind}:{name}");
        session.ok(&["image", "import", &source, "--tag", kind]);
        let found = inspected(&session, kind);
        assert_eq!(found["Config"], expected["Config"], "{kind}");
        // Through a pipe, and compressed.
        let mut gzip = Command::new("gzip");
        let gzip = gzip
            .arg("-c")
            .arg(session.path(kind))
            .stdout(Stdio::piped());
        let mut gzip = gzip.spawn().unwrap();
        let words = ["image", "import", &format!("{kind}:-"), "--tag", "piped"];
        let input = gzip.stdout.take().unwrap();
        Outcome::of(session.command(&words).stdin(input)).success();
        assert!(gzip.wait().unwrap().success());
        let piped = inspected(&session, "piped");
        assert_eq!(piped["Config"], expected["Config"], "{kind}");
    }
}

#[test]
fn skopeo_reads_what_is_for_docker() {
    let (session, _root) = fresh();
    made(&session);
    export(&session, "org/made:1", "docker-archive", "saved.tar", &[]).success();
    let archive = format!("docker-archive:{}", session.path("saved.tar").display());
    let seen = skopeo(&archive);
    let expected = inspected(&session, "org/made:1");
    assert_eq!(seen["Layers"], expected["Config"]["rootfs"]["diff_ids"]);
    assert_eq!(seen["Env"][1], "A=b");
    let listed = output_of(
        "tar",
        &[
            "-xOf",
            session.path("saved.tar").to_str().unwrap(),
            "manifest.json",
        ],
    );
    assert!(listed.contains(r#""RepoTags":["org/made:1"]"#), "{listed}");
    session.ok(&[
        "image",
        "import",
        "docker-archive:saved.tar:org/made:1",
        "--tag",
        "back",
    ]);
    assert_eq!(inspected(&session, "back")["Config"], expected["Config"]);
    let wrong = [
        "image",
        "import",
        "docker-archive:saved.tar:made:2",
        "--tag",
        "back",
    ];
    let failed = session.run(&wrong).failure();
    assert!(
        failed.contains("no image `made:2`; it has `org/made:1`"),
        "{failed}"
    );
}

#[test]
fn an_old_docker_archive_has_links_in_place_of_layers() {
    let (session, _root) = fresh();
    made(&session);
    export(&session, "org/made:1", "docker-archive", "saved.tar", &[]).success();
    let tree = session.path("old");
    fs_err::create_dir_all(&tree).unwrap();
    let (saved, into) = (session.path("saved.tar"), tree.to_str().unwrap());
    output_of("tar", &["-xf", saved.to_str().unwrap(), "-C", into]);
    let manifest = tree.join("manifest.json");
    let mut value: Value = serde_json::from_slice(&fs_err::read(&manifest).unwrap()).unwrap();
    for (number, layer) in value[0]["Layers"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .enumerate()
    {
        let directory = tree.join(format!("id{number}"));
        fs_err::create_dir(&directory).unwrap();
        let target = format!("../{}", layer.as_str().unwrap());
        fs_err::os::unix::fs::symlink(target, directory.join("layer.tar")).unwrap();
        *layer = format!("id{number}/layer.tar").into();
    }
    fs_err::write(&manifest, value.to_string()).unwrap();
    let old = session.path("old.tar");
    output_of("tar", &["-cf", old.to_str().unwrap(), "-C", into, "."]);
    session.ok(&["image", "import", "docker-archive:old.tar", "--tag", "old"]);
    assert_eq!(
        inspected(&session, "old")["Config"],
        inspected(&session, "org/made:1")["Config"]
    );
}

#[test]
fn archives_that_are_none_leave_nothing() {
    let (session, _root) = fresh();
    session.write("text", "x".repeat(2000));
    session.write("empty/x", "");
    let tree = session.path("empty");
    let archive = session.path("empty.tar");
    output_of(
        "tar",
        &[
            "-cf",
            archive.to_str().unwrap(),
            "-C",
            tree.to_str().unwrap(),
            "x",
        ],
    );
    for (source, expected) in [
        (
            "oci-archive:text",
            "`text` is not an archive that can be read",
        ),
        (
            "docker-archive:text",
            "`text` is not an archive that can be read",
        ),
        ("oci-archive:missing", "`missing`"),
        (
            "oci-archive:empty.tar",
            "`empty.tar` has no file `index.json`",
        ),
        (
            "docker-archive:empty.tar",
            "`empty.tar` has no file `manifest.json`",
        ),
    ] {
        let failed = session
            .run(&["image", "import", source, "--tag", "x"])
            .failure();
        assert!(failed.contains(expected), "{source}: {failed}");
    }
    assert_eq!(
        session.json(&["images", "--format", "json"]),
        serde_json::json!([])
    );
    let left = fs_err::read_dir(session.root().join("v1/tmp"))
        .unwrap()
        .count();
    assert_eq!(left, 0);
}

#[test]
fn a_file_system_to_use_elsewhere() {
    let (session, _root) = fresh();
    made(&session);
    export(&session, "org/made:1", "ext4", "small.img", &[]).success();
    let size = ["--filesystem-size-mbs", "100"];
    export(&session, "org/made:1", "ext4", "one.img", &size).success();
    export(&session, "org/made:1", "ext4", "other.img", &size).success();
    for image in ["small.img", "one.img"] {
        let path = session.path(image);
        let path = path.to_str().unwrap();
        output_of("e2fsck", &["-fn", path]);
        assert_eq!(
            output_of("debugfs", &["-R", "cat /dir/other", path]),
            "content"
        );
        let head = output_of("dumpe2fs", &["-h", path]);
        assert!(head.contains("has_journal"), "{head}");
    }
    let length = |name: &str| fs_err::metadata(session.path(name)).unwrap().len();
    assert!(length("small.img") < 8 << 20, "{}", length("small.img"));
    assert_eq!(length("one.img"), 100 << 20);
    let bytes = |name: &str| fs_err::read(session.path(name)).unwrap();
    assert!(bytes("one.img") == bytes("other.img"));
    // It grows.
    let one = session.path("one.img");
    output_of("resize2fs", &[one.to_str().unwrap(), "200M"]);
    output_of("e2fsck", &["-fn", one.to_str().unwrap()]);
    // With a tree of hashes, which a judge finds to be right.
    let verity = ["--verity", "--format", "json"];
    let told = export(&session, "org/made:1", "ext4", "sure.img", &verity)
        .success()
        .stdout;
    let told: Value = serde_json::from_str(&told).unwrap();
    let sure = session.path("sure.img");
    let (sure, hash) = (sure.to_str().unwrap(), told["RootHash"].as_str().unwrap());
    let offset = format!("--hash-offset={}", told["HashOffset"]);
    output_of("veritysetup", &["verify", sure, sure, hash, &offset]);
    output_of("e2fsck", &["-fn", sure]);
    let small = ["--filesystem-size-mbs", "1"];
    let failed = export(&session, "org/made:1", "ext4", "none.img", &small).failure();
    assert!(
        failed.contains("do not fit into 1 MiB") && failed.contains("hint: ask for"),
        "{failed}"
    );
    assert!(!session.path("none.img").exists());
    let other = export(&session, "org/made:1", "oci-archive", "x", &small).failure();
    assert!(other.contains("--type ext4"), "{other}");
}
