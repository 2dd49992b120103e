//! `--storage-provider directory`: what is built is put there, and what is there is used.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use serde_json::{Value, json};

use crate::copies::listing;
use crate::session as fresh;
use crate::session::{Outcome, Session, output_of};

/// The words that choose `storage` of a session's directory.
fn storage(session: &Session) -> [String; 2] {
    let root = session.path("storage");
    let property = format!("rootfs-storage-root={}", root.display());
    [
        "--storage-provider=directory".to_owned(),
        format!("--storage-provider-property-string={property}"),
    ]
}

/// `firebuild` with a storage, by the environment.
fn with(session: &Session, storage: &Session, arguments: &[&str]) -> Command {
    let mut command = session.command(arguments);
    let property = format!("rootfs-storage-root={}", storage.path("storage").display());
    command
        .env("FIREBUILD_STORAGE_PROVIDER", "directory")
        .env("FIREBUILD_STORAGE_PROVIDER_PROPERTY_STRING", property);
    command
}

fn metadata(session: &Session, place: &str) -> Value {
    let path = session.path(&format!("storage/{place}/metadata.json"));
    serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap()
}

fn base(session: &Session) {
    session.write("base/file", "content");
    session.write(
        "base/Dockerfile",
        "FROM scratch\nCOPY --chown=5:6 file /dir/file\nENV a=b\nLABEL x=y\n",
    );
    let [provider, property] = storage(session);
    session.ok(&[
        "baseos",
        "--dockerfile",
        "base/Dockerfile",
        "--tag",
        "os:1",
        &provider,
        &property,
    ]);
}

/// Names and digests of what `images` lists.
fn names(session: &Session, storage: &Session) -> Vec<(Value, Value)> {
    let mut images = with(session, storage, &["images", "--format", "json"]);
    let images = Outcome::of(&mut images).success().stdout;
    let images: Value = serde_json::from_str(&images).unwrap();
    let images = images.as_array().unwrap().iter();
    images
        .map(|image| (image["Name"].clone(), image["Digest"].clone()))
        .collect()
}

/// `org/app:1.0` on a base of another host's storage.
fn build_on(session: &Session, storage: &Session) -> Outcome {
    session.write("app/file", "more");
    session.write(
        "app/Dockerfile",
        "FROM os:1\nARG TOKEN\nARG version\nCOPY file /more\nENTRYPOINT [\"/more\"]\nEXPOSE 80\nVOLUME /data\n",
    );
    let words = [
        "build",
        "-t",
        "org/app:1.0",
        "--build-arg=version=7",
        "--build-arg=TOKEN=hidden",
        "--filesystem-size-mbs=40",
        "app",
    ];
    Outcome::of(&mut with(session, storage, &words)).success()
}

const FILES: [&str; 3] = [
    "drwxr-xr-x 5/6 dir/",
    "-rw-r--r-- 5/6 dir/file",
    "-rw-r--r-- 0/0 more",
];

#[test]
fn what_is_built_is_kept() {
    let (session, _root) = fresh();
    base(&session);
    let rootfs = session.path("storage/_/os/1/rootfs");
    let found = fs_err::metadata(&rootfs).unwrap();
    assert_eq!(found.len(), 500 << 20);
    assert!(found.blocks() * 512 < 50 << 20, "{}", found.blocks());
    output_of("e2fsck", &["-fn", rootfs.to_str().unwrap()]);
    let told = metadata(&session, "_/os/1");
    assert_eq!(told["Type"], "baseos");
    assert_eq!(
        told["Image"],
        json!({"Org": "_", "Image": "os", "Version": "1"})
    );
    assert_eq!(told["Labels"], json!({"x": "y"}));
    let built = build_on(&session, &session);
    assert!(built.stderr.contains("kept `org/app:1.0` in `"), "{built}");
    let told = metadata(&session, "org/app/1.0");
    let expected = json!({"version": "7", "TOKEN": ""});
    assert_eq!(told["BuildConfig"]["BuildArgs"], expected);
    assert_eq!(told["EntrypointInfo"]["Env"]["a"], "b");
    assert_eq!(told["Parent"]["Image"]["Image"], "os");
    assert_eq!(told["Ports"], json!(["80/tcp"]));
    assert_eq!(told["Volumes"], json!(["/data"]));
    let rootfs = fs_err::metadata(session.path("storage/org/app/1.0/rootfs"));
    assert_eq!(rootfs.unwrap().len(), 40 << 20);
}

#[test]
fn what_is_kept_is_used_by_others() {
    let (session, _root) = fresh();
    base(&session);
    // Another host has only the storage.
    let (other, _other_root) = fresh();
    let digest = session.json(&["image", "inspect", "os:1"])["Digest"].clone();
    assert_eq!(names(&other, &session), [(json!("os:1"), digest)]);
    assert_eq!(other.json(&["images", "--format", "json"]), json!([]));
    let built = build_on(&other, &session);
    let took = "took `os:1` from its storage\n";
    assert!(built.stderr.contains(took), "{built}");
    assert_eq!(listing(&other, "org/app:1.0"), FILES);
    let again = build_on(&other, &session);
    assert!(!again.stderr.contains("took"), "{again}");
    assert_eq!(names(&session, &session).len(), 2);
    // Whatever becomes of the store, the storage has both.
    session.ok(&["rmi", "os:1"]);
    assert_eq!(names(&session, &session).len(), 2);
    let adopted = [
        "rootfs",
        "--docker-image",
        "org/app:1.0",
        "--tag",
        "org/two:1",
    ];
    Outcome::of(&mut with(&session, &session, &adopted)).success();
    assert_eq!(listing(&session, "org/two:1"), FILES);
    let inspected = session.json(&["image", "inspect", "org/two:1"]);
    let entrypoint = &inspected["Config"]["config"]["Entrypoint"];
    assert_eq!(entrypoint, &json!(["/more"]));
}

/// A base that took the name of what it was made from is not what it is made from again, even where
/// the storage has nothing else.
#[test]
fn a_base_is_not_made_from_what_is_kept() {
    let (session, _root) = fresh();
    base(&session);
    let (other, _other_root) = fresh();
    other.write("os/Dockerfile", "FROM os:1\nENV c=d\n");
    let words = ["baseos", "--dockerfile", "os/Dockerfile"];
    let said = Outcome::of(&mut with(&other, &session, &words)).failure();
    assert!(said.contains("image `os:1` is not in the store"), "{said}");
}

#[test]
fn what_is_broken_is_told_and_the_rest_is_shown() {
    let (session, _root) = fresh();
    base(&session);
    session.write("storage/org/broken/1/metadata.json", "{");
    session.write("storage/org/broken/1/rootfs", "");
    session.write("storage/file", "no directory");
    session.ok(&["rmi", "os:1"]);
    let shown = Outcome::of(&mut with(&session, &session, &["images"])).success();
    assert!(shown.stdout.contains("os:1"), "{shown}");
    assert!(shown.stderr.starts_with("warning: `"), "{shown}");
    assert!(
        shown
            .stderr
            .contains("org/broken/1/metadata.json` cannot be understood: "),
        "{shown}"
    );
    let run = Outcome::of(&mut with(
        &session,
        &session,
        &["run", "org/broken:1", "true"],
    ));
    assert!(run.failure().contains("cannot be understood"));
}

#[test]
fn what_is_chosen_wrongly_is_said() {
    let (session, _root) = fresh();
    let cases: [(&[&str], &str); 4] = [
        (
            &["images", "--storage-provider", "directory"],
            "error: the storage provider `directory` was not told which directories\nhint: give `--storage-provider-property-string rootfs-storage-root=DIR`, and `kernel-storage-root=DIR` for kernels\n",
        ),
        (
            &[
                "images",
                "--storage-provider-property-string",
                "rootfs-storage-root=/x",
            ],
            "error: the storage provider `store` has no property `rootfs-storage-root`\nhint: `--storage-provider directory` has some\n",
        ),
        (
            &[
                "images",
                "--storage-provider=directory",
                "--storage-provider-property-string",
                "root=/x",
            ],
            "error: the storage provider `directory` has no property `root`\nhint: it has `rootfs-storage-root` and `kernel-storage-root`\n",
        ),
        (
            &["images", "--storage-provider", "s3"],
            "error: invalid value 's3' for '--storage-provider <NAME>'\n  [possible values: store, directory]",
        ),
    ];
    for (arguments, said) in cases {
        let shown = session.run(arguments).failure();
        assert!(shown.starts_with(said), "{arguments:?}: {shown}");
    }
}
