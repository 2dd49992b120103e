//! Images by hand: names, in and out, judged by the tools that others use.

use serde_json::Value;

use crate::session as fresh;
use crate::session::{Session, output_of};

fn small(session: &Session, name: &str) -> String {
    session.write("context/file", "content");
    session
        .build(
            "FROM scratch\nENV A=b\nCOPY file /dir/file\nCMD [\"/dir/file\"]\n",
            &["-t", name],
        )
        .success()
        .stdout
}

fn names(session: &Session) -> Vec<String> {
    session
        .json(&["images", "--format", "json"])
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["Name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn names_come_and_go() {
    let (session, _root) = fresh();
    let digest = small(&session, "one:1");
    session.ok(&["tag", "one:1", "registry.example:5000/two"]);
    assert_eq!(
        names(&session),
        ["one:1", "registry.example:5000/two:latest"]
    );
    let inspected = session.json(&["image", "inspect", "registry.example:5000/two"]);
    assert_eq!(inspected["Digest"], digest.trim_end());
    assert_eq!(
        inspected["Config"]["config"]["Cmd"],
        serde_json::json!(["/dir/file"])
    );
    assert_eq!(session.ok(&["image", "rm", "one:1"]), "one:1\n");
    session.ok(&["image", "inspect", "registry.example:5000/two"]);
    session.ok(&["rmi", "registry.example:5000/two"]);
    assert_eq!(names(&session), Vec::<String>::new());
}

#[test]
fn digests_name_images_too() {
    let (session, _root) = fresh();
    let digest = small(&session, "one:1");
    let digest = digest.trim_end().trim_start_matches("sha256:");
    session.ok(&["tag", "one:1", "two:1"]);
    let quiet = session.ok(&["images", "-q"]);
    assert_eq!(quiet, format!("sha256:{digest}\n"));
    let shown = session.ok(&["images"]);
    assert!(shown.contains(&digest[..12]), "{shown}");
    let inspected = session.json(&["image", "inspect", &digest[..12]]);
    assert_eq!(inspected["Digest"], quiet.trim_end());
    let config = inspected["ConfigDigest"].as_str().unwrap();
    session.ok(&["tag", config, "three:1"]);
    let said = session.run(&["rmi", &digest[..12]]).failure();
    let expected = format!(
        "error: image `{}` has several names: one:1, two:1, three:1\n\
         hint: write the names that are to go, or `--force` for all\n",
        &digest[..12]
    );
    assert_eq!(said, expected);
    assert_eq!(session.ok(&["rmi", "three:1", "two:1"]), "three:1\ntwo:1\n");
    let said = session.run(&["rmi", "A", "ghost", "one:1"]);
    assert_eq!((said.status, &*said.stdout), (125, "one:1\n"), "{said}");
    assert!(said.stderr.contains("`A` does not name an image"), "{said}");
    let unnamed = session
        .build("FROM scratch\nCOPY file /f\n", &[])
        .success()
        .stdout;
    assert_eq!(session.ok(&["rmi", unnamed.trim_end()]), unnamed);
    let said = session.run(&["rmi", unnamed.trim_end()]).failure();
    assert!(said.starts_with("error: no image `sha256:"), "{said}");
    assert_eq!(session.ok(&["rmi", "-f", "ghost"]), "");
    small(&session, "one:1");
    session.ok(&["tag", "one:1", "two:1"]);
    assert_eq!(session.ok(&["rmi", "-f", digest]), "one:1\ntwo:1\n");
}

#[test]
fn other_tools_read_the_store_and_what_is_exported() {
    let (session, _root) = fresh();
    let digest = small(&session, "org/app:1");
    let out = session.path("layout");
    let out = out.to_str().unwrap();
    session.ok(&[
        "image",
        "export",
        "org/app:1",
        "--type",
        "oci-dir",
        "-o",
        out,
    ]);
    let store = session.root().join("v1/images");
    for layout in [out, store.to_str().unwrap()] {
        let index: Value =
            serde_json::from_slice(&fs_err::read(format!("{layout}/index.json")).unwrap()).unwrap();
        let name = index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"]
            .as_str()
            .unwrap();
        let image = format!("oci:{layout}:{name}");
        let seen: Value = serde_json::from_str(&output_of("skopeo", &["inspect", &image])).unwrap();
        assert_eq!(seen["Digest"], digest.trim_end(), "{layout}");
        assert_eq!(seen["Env"][1], "A=b");
    }
    let bundle = session.path("bundle");
    let index: Value =
        serde_json::from_slice(&fs_err::read(format!("{out}/index.json")).unwrap()).unwrap();
    let name = index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"].clone();
    let image = format!("{out}:{}", name.as_str().unwrap());
    output_of(
        "umoci",
        &["unpack", "--image", &image, bundle.to_str().unwrap()],
    );
    assert_eq!(
        fs_err::read_to_string(bundle.join("rootfs/dir/file")).unwrap(),
        "content"
    );
}

#[test]
fn what_goes_out_comes_in_the_same() {
    let (session, _root) = fresh();
    let digest = small(&session, "org/app:1");
    session.ok(&[
        "image",
        "export",
        "org/app:1",
        "--type",
        "oci-dir",
        "-o",
        "layout",
    ]);
    session.ok(&["image", "rm", "org/app:1"]);
    assert_eq!(
        session.ok(&["image", "import", "oci:layout", "--tag", "again"]),
        digest
    );
    let again = session.run(&[
        "image", "export", "again", "--type", "oci-dir", "-o", "layout",
    ]);
    assert!(again.failure().contains("`layout`"));
}

#[test]
fn an_archive_comes_in_by_file_or_pipe() {
    let (session, _root) = fresh();
    session.write("tree/etc/issue", "hello");
    let tree = session.path("tree");
    let archive = session.path("tree.tar.gz");
    output_of(
        "tar",
        &[
            "-czf",
            archive.to_str().unwrap(),
            "-C",
            tree.to_str().unwrap(),
            ".",
        ],
    );
    let by_file = session.ok(&["image", "import", "tree.tar.gz", "--tag", "file"]);
    let mut piped = session.command(&["image", "import", "-", "--tag", "pipe"]);
    piped.stdin(fs_err::File::open(&archive).unwrap().into_parts().0);
    let by_pipe = crate::session::Outcome::of(&mut piped).success().stdout;
    assert!(by_file.starts_with("sha256:") && by_pipe.starts_with("sha256:"));
    let layers = |name| session.json(&["image", "inspect", name])["Layers"].clone();
    assert_eq!(layers("file"), layers("pipe"));
}

#[test]
fn what_is_no_image_is_refused_and_leaves_nothing() {
    let (session, _root) = fresh();
    session.write("garbage", vec![0x5a; 100_000]);
    session.write("short", "too short");
    session.write("f", "x");
    let archive = session.path("escape.tar");
    let file = session.path("f");
    output_of(
        "tar",
        &[
            "-P",
            "--transform=s,.*,../../escape,",
            "-cf",
            archive.to_str().unwrap(),
            file.to_str().unwrap(),
        ],
    );
    let whole = session.path("whole.tar");
    output_of(
        "tar",
        &["-P", "-cf", whole.to_str().unwrap(), file.to_str().unwrap()],
    );
    let bytes = fs_err::read(&whole).unwrap();
    session.write("cut.tar", &bytes[..700]);
    fs_err::create_dir(session.path("empty")).unwrap();
    for source in [
        "garbage",
        "short",
        "escape.tar",
        "cut.tar",
        "missing",
        "oci:empty",
        "oci:missing",
    ] {
        let shown = session
            .run(&["image", "import", source, "--tag", "bad"])
            .failure();
        assert!(shown.starts_with("error: "), "{source}: {shown}");
        assert!(shown.lines().count() <= 4, "{source}: {shown}");
    }
    assert!(!session.path("../escape").exists());
    assert_eq!(names(&session), Vec::<String>::new());
    let blobs = session.root().join("v1/images/blobs/sha256");
    session.ok(&["purge"]);
    assert_eq!(fs_err::read_dir(blobs).map_or(0, Iterator::count), 0);
}
