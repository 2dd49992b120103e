//! A file system without space: an error that says so, and a store that is still good.

use std::io::Write as _;
use std::path::Path;

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
