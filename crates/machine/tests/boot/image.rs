//! A small root file system made of the host's own programs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const PROGRAMS: [&str; 24] = [
    "sh", "cat", "ls", "mkdir", "rm", "ln", "mv", "chmod", "chown", "touch", "id", "stat", "sleep",
    "mknod", "mkfifo", "env", "hostname", "readlink", "cp", "seq", "mount", "wc", "kill", "head",
];

/// The image, made once for all tests.
pub(crate) fn image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let tree = directory.path().join("tree");
        populate(&tree);
        let image = directory.path().join("image");
        let status = Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-b", "4096", "-d"])
            .args([&tree, &image])
            .arg("64M")
            .status()
            .unwrap();
        assert!(status.success());
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image.ext4");
        fs_err::rename(&image, &kept).unwrap();
        kept
    })
}

/// No `/proc`, `/sys`, `/dev` and no `/etc/hosts`; `/etc/resolv.conf` is a dangling link.
fn populate(tree: &Path) {
    for directory in [
        "bin", "etc", "tmp", "data", "data/old", "home/web", "usr/bin",
    ] {
        fs_err::create_dir_all(tree.join(directory)).unwrap();
    }
    let mut files = BTreeSet::new();
    for program in PROGRAMS {
        let output = Command::new("which").arg(program).output().unwrap();
        let path = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
        assert!(path.is_absolute(), "{program} is missing");
        fs_err::copy(&path, tree.join("bin").join(program)).unwrap();
        let output = Command::new("ldd").arg(&path).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let words = text
            .split_ascii_whitespace()
            .filter(|word| word.starts_with('/'));
        files.extend(words.map(str::to_owned));
    }
    for file in files {
        let target = tree.join(file.trim_start_matches('/'));
        fs_err::create_dir_all(target.parent().unwrap()).unwrap();
        fs_err::copy(&file, target).unwrap();
    }
    let passwd = "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/home/web:/bin/sh\n";
    fs_err::write(tree.join("etc/passwd"), passwd).unwrap();
    fs_err::write(
        tree.join("etc/group"),
        "root:x:0:\nweb:x:34:\nextra:x:50:web\n",
    )
    .unwrap();
    fs_err::write(tree.join("data/keep"), "kept").unwrap();
    fs_err::write(tree.join("data/gone"), "gone").unwrap();
    fs_err::write(tree.join("data/old/below"), "below").unwrap();
    std::os::unix::fs::symlink("/run/resolv/stub.conf", tree.join("etc/resolv.conf")).unwrap();
}
