//! Empty disks, which Linux then writes to.

use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use firebuild_core::ByteSize;
use firebuild_disk::ext4::{self, Options};
use fs_err as fs;

use crate::judge::Image;
use crate::sample::{Sample, noise};

fn empty(size: ByteSize, options: &Options) -> Image {
    let image = Image::with(|file| ext4::write_empty(file, size, options).unwrap());
    image.check();
    image
}

#[test]
fn an_empty_disk_takes_linux_s_writes() {
    let start = Instant::now();
    let image = Image::with(|file| {
        ext4::write_empty(file, ByteSize::mib(10 << 10), &Options::default()).unwrap()
    });
    assert!(start.elapsed().as_millis() < 500);
    image.check();
    {
        let mount = image.mount("rw");
        for index in 0..300 {
            fs::create_dir(mount.path().join(format!("{index}"))).unwrap();
            fs::write(mount.path().join(format!("{index}/file")), noise(100_000)).unwrap();
        }
    }
    image.check();
}

#[test]
fn an_empty_disk_takes_little_space_and_stays_so() {
    let image = empty(ByteSize::mib(10 << 10), &Options::default());
    let taken = || fs::metadata(image.path()).unwrap().blocks() * 512;
    assert!(taken() < 1 << 20, "{}", taken());
    drop(image.mount("rw,init_itable=0"));
    assert!(taken() < 2 << 20, "{}", taken());
    assert!(!image.debugfs("features").contains("needs_recovery"));
    assert!(image.debugfs("features").contains("has_journal"));
}

#[test]
fn disks_of_many_sizes() {
    let journal = |size| Options {
        journal: Some(ByteSize::mib(size)),
        ..Options::default()
    };
    let cases = [
        (0, Options::default()),
        (16, Options::default()),
        (500, journal(300)),
        (3000, journal(1 << 10)),
        (1 << 20, Options::default()),
    ];
    for (size, options) in cases {
        let image = empty(ByteSize::mib(size), &options);
        assert!(image.summary.size >= ByteSize::mib(size));
        let mount = image.mount("rw");
        fs::write(mount.path().join("file"), noise(100_000)).unwrap();
        drop(mount);
        image.check();
    }
}

#[test]
fn a_disk_can_grow() {
    let image = empty(ByteSize::mib(200), &Options::default());
    let file = fs::OpenOptions::new()
        .write(true)
        .open(image.path())
        .unwrap();
    file.set_len(3 << 30).unwrap();
    assert!(image.run(&["resize2fs"]).status.success());
    image.check();
}

#[test]
fn linux_adds_to_what_is_full() {
    let mut sample = Sample::default();
    let root = sample.root();
    let directory = sample.directory(root, "d");
    for index in 0..3000 {
        sample.file(directory, format!("{index}"), b"1");
    }
    let options = Options {
        free_space: ByteSize::mib(64),
        free_inodes: 5000,
        journal: Some(ByteSize::mib(4)),
        ..Options::default()
    };
    let image = Image::of(&sample.tree, &sample.bytes, &options);
    {
        let mount = image.mount("rw");
        for index in 0..5000 {
            fs::write(mount.path().join(format!("d/new {index}")), b"2").unwrap();
        }
        for index in 0..3000 {
            fs::remove_file(mount.path().join(format!("d/{index}"))).unwrap();
        }
        fs::write(mount.path().join("large"), noise(32 << 20)).unwrap();
    }
    image.check();
}
