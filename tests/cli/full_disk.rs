//! A file system without space: an error that says so, and a store that is still good.

use std::io::Write as _;
use std::path::Path;

use crate::docker_registry::DockerRegistry;
use crate::session::{Session, output_of};

/// A small file system that is unmounted at the end.
struct Small(tempfile::TempDir);

impl Small {
    fn new(size: &str) -> Self {
        let small = Self(tempfile::tempdir().unwrap());
        let options = format!("size={size}");
        let directory = small.path().to_str().unwrap();
        output_of(
            "mount",
            &["-t", "tmpfs", "-o", &options, "firebuild-test", directory],
        );
        small
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.path())
            .status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[test]
fn what_does_not_fit_leaves_everything_else() {
    let small = Small::new("4m");
    let session = Session::at(&small.path().join("root"));
    session.write("context/little", "little");
    session.write("context/large", vec![1; 6 << 20]);
    session
        .build("FROM scratch\nCOPY little /\n", &["-t", "little"])
        .success();
    let before = session.ok(&["images"]);
    let shown = session
        .build("FROM scratch\nCOPY large /\n", &["-t", "large"])
        .failure();
    assert!(shown.contains("no space left"), "{shown}");
    assert_eq!(session.ok(&["images"]), before);
    let copied = session.build("FROM scratch\nCOPY little /more\n", &["-t", "more"]);
    copied.success();
    session.json(&["image", "inspect", "little"]);
    session.ok(&["purge"]);
    let left = fs_err::read_dir(small.path().join("root/v1/tmp")).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

/// Leaves so many KiB of a file system.
fn fill(small: &Path, left: u64) -> fs_err::File {
    let path = small.join("filler");
    let mut file = fs_err::File::create(path).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(left << 10)).unwrap();
    file
}

/// A command on a store whose file system gets full, at one point of it after the other: it says so, the
/// store stays good, and the same command succeeds when there is room. What it makes goes again with
/// `undo`. Returns how often it failed.
fn at_many_points(small: &Path, session: &Session, command: &[&str], undo: &[&str]) -> usize {
    let mut failed = 0;
    for left in [0, 8, 40, 100, 250, 500, 1000, 1700, 2500, 3500, 4500, 6000] {
        let file = fill(small, left);
        let outcome = session.run(command);
        let in_vain = outcome.status != 0;
        if in_vain {
            let said = outcome.stderr;
            let errors = said.lines().filter(|line| line.starts_with("error: "));
            assert_eq!(errors.count(), 1, "{left}: {said}");
            assert!(
                said.contains("no space left on its file system ("),
                "{left}: {said}"
            );
            assert!(said.contains("cannot "), "{left}: {said}");
            failed += 1;
        }
        session.ok(&["system", "verify"]);
        drop(file);
        fs_err::remove_file(small.join("filler")).unwrap();
        if in_vain {
            session.run(command).success();
        }
        session.ok(&["system", "verify"]);
        let half_made = fs_err::read_dir(session.root().join("v1/tmp")).unwrap();
        assert_eq!(half_made.count(), 0, "{left}");
        session.ok(undo);
    }
    failed
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn it_may_get_full_at_any_point_of_anything() {
    let small = Small::new("9m");
    let session = Session::at(&small.path().join("root"));
    session.write("context/large", noise(1 << 20));
    session.write("context/Dockerfile", "FROM scratch\nCOPY large /\n");
    let prune = ["system", "prune", "--all"];
    // Once there is a store, it keeps a little room for itself.
    session.ok(&["images"]);
    let build = ["build", "-t", "a:1", "context"];
    let failed = at_many_points(small.path(), &session, &build, &prune);
    assert!((2..12).contains(&failed), "build: {failed}");

    let elsewhere = tempfile::tempdir().unwrap();
    let other = Session::at(elsewhere.path());
    let registry = DockerRegistry::start();
    let name = registry.image("app:1");
    other.write("context/large", noise(1 << 20));
    other
        .build("FROM scratch\nCOPY large /\n", &["-t", &name])
        .success();
    other.ok(&["push", &name]);
    let archive = session.path("image.tar");
    let archive = archive.to_str().unwrap();
    other.ok(&[
        "image",
        "export",
        &name,
        "--type",
        "oci-archive",
        "-o",
        archive,
    ]);

    let pull = ["pull", name.as_str()];
    let failed = at_many_points(small.path(), &session, &pull, &prune);
    assert!((2..12).contains(&failed), "pull: {failed}");
    let from = format!("oci-archive:{archive}");
    let import = ["image", "import", from.as_str(), "--tag", "a:2"];
    let failed = at_many_points(small.path(), &session, &import, &prune);
    assert!((2..12).contains(&failed), "import: {failed}");
}

#[test]
fn an_export_that_does_not_fit_leaves_no_file() {
    let small = Small::new("2m");
    let root = tempfile::tempdir().unwrap();
    let session = Session::at(root.path());
    session.write("context/large", noise(1 << 20));
    session
        .build("FROM scratch\nCOPY large /\n", &["-t", "a:1"])
        .success();
    for kind in [
        "oci-archive",
        "docker-archive",
        "rootfs-tar",
        "ext4",
        "oci-dir",
    ] {
        for left in [0, 20, 600] {
            let file = fill(small.path(), left);
            let output = small.path().join("out");
            let output = output.to_str().unwrap();
            let export = ["image", "export", "a:1", "--type", kind, "-o", output];
            let said = session.run(&export).failure();
            assert!(
                said.to_lowercase().contains("no space left"),
                "{kind}: {said}"
            );
            let names = fs_err::read_dir(small.path()).unwrap();
            assert_eq!(names.count(), 1, "{kind}: only the filler is there");
            drop(file);
            fs_err::remove_file(small.path().join("filler")).unwrap();
            session.ok(&export);
            let removed = fs_err::remove_file(output).or_else(|_| fs_err::remove_dir_all(output));
            removed.unwrap();
        }
    }
}

#[test]
fn a_full_disk_can_be_looked_at_and_made_emptier() {
    let small = Small::new("4m");
    let session = Session::at(&small.path().join("root"));
    session.write("context/little", "little");
    let text = "FROM scratch\nCOPY little /\n";
    session.build(text, &["-t", "little"]).success();
    session.build(&format!("{text}ENV A=b\n"), &[]).success();
    let filler = small.path().join("filler");
    let mut file = fs_err::File::create(&filler).unwrap();
    // The last byte is refused.
    while file.write_all(&[1; 512]).is_ok() {}
    session.ok(&["system", "verify"]);
    session.ok(&["system", "df"]);
    let done = session.run(&["image", "prune"]).success();
    assert!(done.stderr.starts_with("removed 1 image"), "{done}");
    let done = session.run(&["system", "prune", "--all"]).success();
    assert_eq!(done.stdout, "little:latest\n");
    session.ok(&["system", "verify", "--repair"]);
    drop(file);
    fs_err::remove_file(&filler).unwrap();
    session.build(text, &["-t", "little"]).success();
    session.ok(&["system", "verify"]);
}
