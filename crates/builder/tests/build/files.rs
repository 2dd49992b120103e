//! Copies from the context, from stages and from the Dockerfile itself; what the cache makes of
//! them. No VM.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use firebuild_builder::NoCache;
use firebuild_oci::{export_rootfs_tar, find_image};

use crate::place::{Place, Told, name};

/// The lines of `tar`'s listing of the last image: mode, owner, size, name.
pub(crate) fn listing(place: &Place) -> Vec<String> {
    let image = find_image(&place.host.store, &name()).unwrap();
    let path = place.root().join("image.tar");
    let output = fs_err::File::create(&path).unwrap();
    export_rootfs_tar(&place.host.store, &image, output).unwrap();
    let listed = std::process::Command::new("tar")
        .args(["--numeric-owner", "--utc", "-tvf"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(listed.status.success());
    let text = String::from_utf8(listed.stdout).unwrap();
    let lines = text.lines().map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        [&words[..3], &words[5..]].concat().join(" ")
    });
    lines.collect()
}

pub(crate) fn built(place: &Place, text: &str) -> Told {
    let told = place.build(text);
    assert!(told.result.is_ok(), "{:?}", told.result);
    told
}

/// Which steps had their result in the cache.
pub(crate) fn cached(told: &Told) -> Vec<&str> {
    let events = told.events.iter();
    events
        .filter_map(|event| event.strip_suffix(" cached"))
        .collect()
}

#[test]
fn the_context_is_what_the_ignore_file_leaves() {
    let place = Place::new();
    for path in [
        "keep",
        "secret/a",
        "secret/deep/public",
        "logs/x.log",
        "logs/y",
    ] {
        place.write(path, "text");
    }
    place.write(
        ".dockerignore",
        "secret\n!secret/deep/public\n**/*.log\n.dockerignore\n",
    );
    let context = place.root().join("context");
    fs_err::hard_link(context.join("keep"), context.join("same")).unwrap();
    symlink("loop", context.join("loop")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(context.join("socket")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(context.join("fifo"))
        .status();
    assert!(made.unwrap().success());
    built(&place, "FROM scratch\nCOPY . /c/\n");
    let expected = [
        "drwxr-xr-x 0/0 0 c/",
        "prw-r--r-- 0/0 0 c/fifo",
        "-rw-r--r-- 0/0 4 c/keep",
        "drwxr-xr-x 0/0 0 c/logs/",
        "-rw-r--r-- 0/0 4 c/logs/y",
        "lrwxrwxrwx 0/0 0 c/loop -> loop",
        "hrw-r--r-- 0/0 0 c/same link to c/keep",
        "drwxr-xr-x 0/0 0 c/secret/",
        "drwxr-xr-x 0/0 0 c/secret/deep/",
        "-rw-r--r-- 0/0 4 c/secret/deep/public",
    ];
    let listed = listing(&place);
    let listed: Vec<&str> = listed
        .iter()
        .map(String::as_str)
        .filter(|line| !line.ends_with(" ./"))
        .collect();
    assert_eq!(listed, expected);
    let error = place_failure(&place, "FROM scratch\nCOPY loop /\n");
    assert!(error.contains("loop"), "{error}");
    let error = place_failure(&place, "FROM scratch\nCOPY secret/a /\n");
    assert!(error.ends_with("`secret/a` not found"), "{error}");
}

/// As [`Place::failure`], where the name belongs to an image that is there already.
pub(crate) fn place_failure(place: &Place, text: &str) -> String {
    place.host.store.tags().remove(&name()).unwrap();
    place.failure(text)
}

#[test]
fn what_is_not_there_is_named() {
    let place = Place::new();
    place.write("a", "text");
    let error = place.failure("FROM scratch\nCOPY a /x/\nCOPY missing /\n");
    assert!(error.ends_with("`missing` not found"), "{error}");
    fs_err::remove_dir_all(place.root().join("context")).unwrap();
    let error = place.failure("FROM scratch\nCOPY a /y/\n");
    assert!(
        error.contains("cannot read the build context <- "),
        "{error}"
    );
    assert!(error.contains("/context"), "{error}");
    assert_eq!(place.cached(), 1);
}

#[test]
fn only_what_reads_a_changed_file_is_done_again() {
    let mut place = Place::new();
    place.write("a", "one");
    place.write("b", "one");
    let text = "FROM scratch\nCOPY a /\nWORKDIR /w\nCOPY b .\n";
    built(&place, text);
    // A touched file is the same file.
    let file = fs_err::File::options()
        .append(true)
        .open(place.root().join("context/a"))
        .unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(
        cached(&built(&place, text)),
        ["stage-0 2", "stage-0 3", "stage-0 4"]
    );
    place.write("b", "two");
    assert_eq!(cached(&built(&place, text)), ["stage-0 2", "stage-0 3"]);
    // Another mode is another file.
    let path = place.root().join("context/a");
    fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(fs_err::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert!(cached(&built(&place, text)).is_empty());
    // Another Dockerfile with the same beginning shares its layers.
    let other = "FROM scratch AS base\nCOPY ./a /\nENV X=1\nWORKDIR /w\n";
    assert_eq!(cached(&built(&place, other)), ["base 2", "base 4"]);
    place.no_cache = NoCache::All;
    assert!(cached(&built(&place, text)).is_empty());
}

#[test]
fn directories_stages_and_texts_are_copied_as_they_should() {
    let place = Place::new();
    place.write("etc/passwd", "app:x:7:8::/home/app:/bin/sh\n");
    place.write("bin/tool", "#!");
    let tool = place.root().join("context/bin/tool");
    fs_err::set_permissions(tool, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let text = "FROM scratch AS files\nCOPY bin /opt/\nFROM scratch\nCOPY etc /etc/\nUSER app\n\
                WORKDIR /srv/app\nCOPY --from=files --chown=app /opt/ /usr/\n\
                COPY --chown=5 <<a <<b /texts/\nhello\na\nb\nUSER 9\nWORKDIR rel\n";
    built(&place, text);
    let listed = listing(&place);
    for expected in [
        "-rw-r--r-- 0/0 29 etc/passwd",
        "drwxr-xr-x 7/8 0 srv/",
        "drwxr-xr-x 7/8 0 srv/app/",
        "-rwsr-xr-x 7/8 2 usr/tool",
        "drwxr-xr-x 5/5 0 texts/",
        "-rw-r--r-- 5/5 6 texts/a",
        "-rw-r--r-- 5/5 0 texts/b",
        "drwxr-xr-x 9/9 0 srv/app/rel/",
    ] {
        assert!(
            listed.iter().any(|line| line == expected),
            "{expected} is not in {listed:#?}"
        );
    }
    assert!(
        place_failure(&place, "FROM scratch\nUSER nobody\nWORKDIR /x\n")
            .ends_with("no user `nobody` in the image's /etc/passwd")
    );
}
