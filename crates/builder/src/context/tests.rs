//! Contexts with everything in them, that change, and that are seen again.

use std::os::unix::fs::symlink;
use std::time::Duration;

use firebuild_core::tree::Tree;
use firebuild_oci::Identity;

use super::*;
use crate::copy::{self, Exclude};
use crate::fingerprint;

struct Place {
    directory: tempfile::TempDir,
    context: PathBuf,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let context = directory.path().join("context");
        fs_err::create_dir(&context).unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        Self {
            directory,
            context,
            store,
        }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.context.join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    }

    /// Makes files look as if they had been there for long. Their change time is the present.
    fn settle() {
        std::thread::sleep(Duration::from_millis(60));
    }

    fn scan(&self, ignore: &str) -> Files {
        let ignore = Patterns::parse(ignore.as_bytes()).unwrap();
        scan(&self.store, &self.context, &ignore).unwrap()
    }

    fn fingerprint(files: &Files, word: &str) -> std::io::Result<Digest> {
        let found = copy::matches(&files.tree, word.as_bytes(), &Exclude::default()).unwrap();
        fingerprint::of(&found, &files.sources)
    }

    fn kept(&self) -> Known {
        let top = fs_err::canonicalize(&self.context).unwrap();
        let key = Digest::of(top.as_os_str().as_bytes());
        let bytes = self.store.remembered(Remembered::Context, &key).unwrap();
        known::decode(&bytes.unwrap_or_default())
    }

    /// The paths whose digests a scan found in the store.
    fn remembered(&self) -> Vec<String> {
        let files = self.scan("");
        let digests = files.digests.unwrap();
        let known = digests
            .files
            .iter()
            .filter(|file| file.known_digest().is_some());
        let path =
            |file: &Arc<HostFile>| file.path().strip_prefix(&digests.top).unwrap().to_owned();
        let mut paths: Vec<String> = known
            .map(|file| path(file).to_string_lossy().into_owned())
            .collect();
        paths.sort();
        paths
    }
}

fn paths(tree: &Tree) -> Vec<String> {
    let mut paths = Vec::new();
    tree.walk(&mut |path, _| paths.push(String::from_utf8_lossy(path).into_owned()));
    paths.remove(0);
    paths
}

#[test]
fn what_is_ignored_is_not_there() {
    let place = Place::new();
    for path in [
        "a/b/c",
        "a/d",
        "node_modules/x/y",
        "node_modules/keep/z",
        "top",
    ] {
        place.write(path, path);
    }
    for (ignore, expected) in [
        (
            "",
            &[
                "a",
                "a/b",
                "a/b/c",
                "a/d",
                "node_modules",
                "node_modules/keep",
                "node_modules/keep/z",
                "node_modules/x",
                "node_modules/x/y",
                "top",
            ][..],
        ),
        ("*", &[]),
        ("node_modules", &["a", "a/b", "a/b/c", "a/d", "top"]),
        (
            "node_modules\n!node_modules/keep",
            &[
                "a",
                "a/b",
                "a/b/c",
                "a/d",
                "node_modules",
                "node_modules/keep",
                "node_modules/keep/z",
                "top",
            ],
        ),
        ("*\n!a/b/c", &["a", "a/b", "a/b/c"]),
        (
            "**\n!**/z",
            &["node_modules", "node_modules/keep", "node_modules/keep/z"],
        ),
        ("*\n!a\na/b", &["a", "a/d"]),
        ("*\n!none/x", &[]),
        (
            "**/[^az]",
            &[
                "node_modules",
                "node_modules/keep",
                "node_modules/keep/z",
                "top",
                "a",
            ],
        ),
    ] {
        let mut expected: Vec<&str> = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(paths(&place.scan(ignore).tree), expected, "{ignore:?}");
    }
}

#[test]
fn directories_that_are_ignored_are_not_entered() {
    let place = Place::new();
    for path in ["kept/x", "ignored/a/b/c/d", "ignored/e/f"] {
        place.write(path, "");
    }
    for (ignore, entered) in [
        ("", 7),
        ("ignored", 2),
        ("*", 1),
        // It might have been there.
        ("ignored\n!ignored/x", 3),
        ("ignored\n!ignored/a/b/x", 5),
        ("ignored\n!**/f", 7),
    ] {
        let patterns = Patterns::parse(ignore.as_bytes()).unwrap();
        let walked = walk::walk(&place.context, &patterns).unwrap();
        assert_eq!(walked.len(), entered, "{ignore:?}");
    }
}

#[test]
fn everything_that_a_directory_can_hold_is_found() {
    let place = Place::new();
    place.write("dir/file", "text");
    fs_err::hard_link(place.context.join("dir/file"), place.context.join("hard")).unwrap();
    symlink("..", place.context.join("dir/up")).unwrap();
    symlink("loop", place.context.join("loop")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(place.context.join("socket")).unwrap();
    let mkfifo = std::process::Command::new("mkfifo")
        .arg(place.context.join("fifo"))
        .status();
    assert!(mkfifo.unwrap().success());
    xattr::set(place.context.join("dir/file"), "user.x", b"y").unwrap();
    let files = place.scan("");
    let tree = &files.tree;
    assert_eq!(
        paths(tree),
        [
            "dir", "dir/file", "dir/up", "fifo", "hard", "loop", "socket"
        ]
    );
    assert_eq!(tree.lookup(b"hard"), tree.lookup(b"dir/file"));
    let node = |path: &[u8]| tree.node(tree.lookup(path).unwrap());
    assert!(matches!(node(b"fifo").kind, tree::Kind::Fifo));
    assert!(matches!(node(b"socket").kind, tree::Kind::Socket));
    assert_eq!(
        node(b"dir/file").metadata.xattrs[&b"user.x"[..]].as_ref(),
        b"y"
    );
}

#[test]
fn a_file_is_read_once_for_as_long_as_it_stays() {
    let place = Place::new();
    for path in ["a", "dir/b", "dir/c"] {
        place.write(path, path);
    }
    Place::settle();
    let files = place.scan("");
    let first = Place::fingerprint(&files, "dir").unwrap();
    drop(files);
    assert_eq!(place.remembered(), ["dir/b", "dir/c"]);
    // Only what is asked for is read, and what is known stays known.
    Place::fingerprint(&place.scan(""), "a").unwrap();
    assert_eq!(place.remembered(), ["a", "dir/b", "dir/c"]);
    assert_eq!(Place::fingerprint(&place.scan(""), "dir").unwrap(), first);

    // The same bytes in a touched file are the same copy.
    place.write("dir/b", "dir/b");
    assert_eq!(place.remembered(), ["a", "dir/c"]);
    assert_eq!(Place::fingerprint(&place.scan(""), "dir").unwrap(), first);
    place.write("dir/b", "dir/d");
    assert_ne!(Place::fingerprint(&place.scan(""), "dir").unwrap(), first);

    // Another file of the same size and time.
    let times = fs_err::metadata(place.context.join("dir/c"))
        .unwrap()
        .modified()
        .unwrap();
    place.write("new", "dir/x");
    let new = fs_err::File::open(place.context.join("new")).unwrap();
    new.file().set_modified(times).unwrap();
    fs_err::rename(place.context.join("new"), place.context.join("dir/c")).unwrap();
    assert_eq!(place.remembered(), ["a"]);
}

#[test]
fn a_file_that_is_too_young_is_read_again() {
    let identity = |seconds, nanoseconds| Identity {
        size: 1,
        mtime: (1, 1),
        ctime: (seconds, nanoseconds),
        inode: 1,
        device: 1,
    };
    let second = 1_000_000_000;
    for (identity, read, settled) in [
        (identity(10, 0), 10 * second, false),
        (identity(10, 0), 10 * second + 40_000_000, false),
        (identity(10, 0), 10 * second + 60_000_000, true),
        (identity(11, 0), 10 * second, false),
        // No fractions of seconds: a coarse clock.
        (
            Identity {
                mtime: (10, 0),
                ..identity(10, 0)
            },
            11 * second,
            false,
        ),
        (
            Identity {
                mtime: (10, 0),
                ..identity(10, 0)
            },
            13 * second,
            true,
        ),
        (
            Identity {
                mtime: (20, 1),
                ..identity(10, 0)
            },
            13 * second,
            false,
        ),
    ] {
        assert_eq!(
            known::is_settled(&identity, read),
            settled,
            "{identity:?} {read}"
        );
    }
    // What was written just before is not kept, so that a second change in the same tick of the
    // clock, which no time shows, is seen.
    let place = Place::new();
    place.write("young", "1");
    Place::fingerprint(&place.scan(""), "young").unwrap();
    assert!(place.kept().is_empty());
}

#[test]
fn what_was_kept_and_is_damaged_does_not_matter() {
    let place = Place::new();
    place.write("file", "text");
    Place::settle();
    Place::fingerprint(&place.scan(""), "file").unwrap();
    let directory = place.store.path().join("contexts");
    let kept = fs_err::read_dir(&directory)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let good = fs_err::read(&kept).unwrap();
    assert_eq!(known::decode(&good).len(), 1);
    let mut flipped = good.clone();
    flipped[40] ^= 1;
    let mut longer = good.clone();
    longer.push(0);
    for bad in [
        &b""[..],
        b"nonsense",
        &good[..good.len() - 1],
        &flipped,
        &longer,
    ] {
        fs_err::write(&kept, bad).unwrap();
        assert!(place.remembered().is_empty());
        Place::fingerprint(&place.scan(""), "file").unwrap();
        assert_eq!(fs_err::read(&kept).unwrap(), good);
    }
    assert!(place.directory.path().exists());
}

#[test]
fn a_file_that_changes_between_scan_and_copy_is_named() {
    type Change = fn(&Path);
    let changes: [(Change, &str); 4] = [
        (
            |file| fs_err::write(file, "longer").unwrap(),
            "changed while it was read",
        ),
        (|file| fs_err::remove_file(file).unwrap(), "No such file"),
        (
            |file| {
                fs_err::remove_file(file).unwrap();
                fs_err::create_dir(file).unwrap();
            },
            "is not a regular file",
        ),
        (
            |file| {
                fs_err::remove_file(file).unwrap();
                symlink("/etc/passwd", file).unwrap();
            },
            "symbolic links",
        ),
    ];
    for (change, expected) in changes {
        let place = Place::new();
        place.write("file", "text");
        let file = place.context.join("file");
        assert!(Place::fingerprint(&place.scan(""), "file").is_ok());
        let files = place.scan("");
        change(&file);
        let error = Place::fingerprint(&files, "file").unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains(&*file.to_string_lossy()), "{error}");
    }
}

#[test]
fn a_file_that_changes_between_fingerprint_and_layer_is_not_written() {
    let place = Place::new();
    place.write("file", "text");
    let write = |files: &Files| {
        let tree = files.tree.clone();
        firebuild_oci::Changes::whole(tree).write(&files.sources, Vec::new())
    };
    let files = place.scan("");
    Place::fingerprint(&files, "file").unwrap();
    assert!(write(&files).is_ok());
    place.write("file", "news");
    let error = write(&files).unwrap_err();
    let error = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.contains("changed while it was read"), "{error}");

    // Even where no time shows it: the bytes are not those that the fingerprint was made of.
    let files = place.scan("");
    for host in &files.digests.as_ref().unwrap().files {
        host.set_digest(Digest::of(b"text"));
    }
    let error = write(&files).unwrap_err();
    let error = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.contains("changed while it was read"), "{error}");
}
