//! The reader: of what is written here it gives the same tree, of what `mke2fs` writes what Linux
//! shows, and of anything else an error.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use firebuild_core::ByteSize;
use firebuild_core::tree::{Content, Kind, NodeId, Tree};
use firebuild_disk::ContentSource as _;
use firebuild_disk::ext4::{self, Options, ReadError, Summary};
use tempfile::TempDir;

use crate::judge::Image;
use crate::kernel;
use crate::sample::{Bytes, Sample, noise};

fn open(image: &Image) -> File {
    fs_err::File::open(image.path()).unwrap().into_parts().0
}

fn to_change(image: &Image) -> File {
    let mut options = File::options();
    options.read(true).write(true).open(image.path()).unwrap()
}

/// What is read has to be what was written.
pub(crate) fn compare(sample: &Sample, image: &Image) {
    let file = open(image);
    let found = ext4::read(&file, 7).unwrap();
    let paths = |tree: &Tree| {
        let mut paths = Vec::new();
        tree.walk(&mut |path, id| paths.push((path.to_vec(), id)));
        paths
    };
    let (expected, read) = (paths(&sample.tree), paths(&found));
    let names = |paths: &[(Vec<u8>, NodeId)]| -> Vec<Vec<u8>> {
        paths.iter().map(|(path, _)| path.clone()).collect()
    };
    assert_eq!(names(&read), names(&expected));
    let mut same: HashMap<NodeId, NodeId> = HashMap::new();
    for ((path, wanted), (_, got)) in expected.into_iter().zip(read) {
        let shown = String::from_utf8_lossy(&path);
        assert_eq!(*same.entry(wanted).or_insert(got), got, "{shown}");
        let (wanted, got) = (sample.tree.node(wanted), found.node(got));
        let mut metadata = wanted.metadata.clone();
        // A list without entries is none.
        metadata
            .xattrs
            .retain(|name, value| !name.starts_with(b"system.") || value.len() > 4);
        assert_eq!(got.metadata, metadata, "{shown}");
        match (&wanted.kind, &got.kind) {
            (Kind::File(wanted), Kind::File(got)) => {
                compare_content(&sample.bytes, wanted, &file, got);
            }
            (Kind::Directory(_), Kind::Directory(_)) => {}
            (wanted, got) => assert_eq!(got, wanted, "{shown}"),
        }
    }
}

/// What is written is where it was; what else is said to be there is zeros.
fn compare_content(bytes: &Bytes, wanted: &Content, file: &File, got: &Content) {
    assert_eq!((got.length, got.source), (wanted.length, 7));
    let mut left: Vec<(u64, Vec<u8>)> = Vec::new();
    for segment in &got.segments {
        let mut found = vec![0; usize::try_from(segment.length).unwrap()];
        file.read_exact_at(&mut found, segment.offset).unwrap();
        left.push((segment.start, found));
    }
    for segment in &wanted.segments {
        let mut expected = vec![0; usize::try_from(segment.length).unwrap()];
        bytes
            .read_exact_at(wanted.source, segment.offset, &mut expected)
            .unwrap();
        for (at, byte) in (segment.start..).zip(expected) {
            let run = left.partition_point(|(start, _)| *start <= at);
            let (start, found) = &mut left[run - 1];
            let found = &mut found[usize::try_from(at - *start).unwrap()];
            assert_eq!(*found, byte);
            *found = 0;
        }
    }
    assert!(
        left.iter()
            .all(|(_, found)| found.iter().all(|byte| *byte == 0))
    );
}

/// A directory of the host with some of everything.
fn host_files(root: &Path) {
    let write = |name: &str, bytes: &[u8]| {
        let path = root.join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, bytes).unwrap();
    };
    write("etc/small", b"hello\n");
    write("etc/empty", b"");
    // More than the numbers in an inode reach, with one block of them, and with two levels.
    write("large", &noise(3_000_000));
    for number in 0..700 {
        write(&format!("many/{number:0>60}"), b"");
    }
    fs_err::hard_link(root.join("large"), root.join("etc/again")).unwrap();
    fs_err::os::unix::fs::symlink("x".repeat(59), root.join("fast")).unwrap();
    fs_err::os::unix::fs::symlink("x".repeat(200), root.join("slow")).unwrap();
    let sparse = fs_err::File::create(root.join("sparse")).unwrap();
    let sparse = sparse.into_parts().0;
    sparse.write_all_at(b"middle", 9_000_000).unwrap();
    sparse.set_len(20_000_000).unwrap();
    let set = |name: &str, value: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(root.join("etc/small"), name, value, flags).unwrap();
    };
    set("user.some", b"value");
    set("trusted.long", &noise(700));
    for (kind, name, number) in [("c", "null", ["1", "3"]), ("b", "wide", ["259", "70000"])] {
        let path = root.join(name);
        let mut mknod = Command::new("mknod");
        mknod.arg(path).arg(kind).args(number);
        assert!(mknod.status().unwrap().success());
    }
}

fn made_by_mke2fs(options: &[&str]) -> Image {
    let files = TempDir::new().unwrap();
    host_files(files.path());
    let image = Image {
        folder: TempDir::new().unwrap(),
        summary: Summary {
            size: ByteSize::mib(64),
            used: ByteSize(0),
            inodes: 0,
            used_inodes: 0,
            uuid: [0; 16],
        },
    };
    let file = fs_err::File::create(image.path()).unwrap();
    file.set_len(image.summary.size.0).unwrap();
    let from = files.path().to_str().unwrap();
    let words = [&["mke2fs", "-q", "-F", "-d", from], options].concat();
    let output = image.run(&words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    image
}

#[test]
fn what_mke2fs_writes_is_what_linux_shows() {
    for options in [
        &["-t", "ext4"][..],
        &["-t", "ext4", "-b", "1024", "-I", "128"],
        &["-t", "ext4", "-b", "1024", "-O", "^64bit,^metadata_csum"],
        &[
            "-t",
            "ext4",
            "-O",
            "ea_inode,metadata_csum_seed,large_dir,mmp",
        ],
        &["-t", "ext3", "-b", "1024"],
        &["-t", "ext2", "-b", "2048", "-O", "^filetype"],
    ] {
        let image = made_by_mke2fs(options);
        // It is not part of the tree.
        let output = image.run(&["debugfs", "-w", "-R", "rmdir lost+found"]);
        assert!(output.status.success());
        let tree = ext4::read(&open(&image), 0).unwrap();
        let bytes = Bytes(fs_err::read(image.path()).unwrap());
        let mount = image.mount("ro");
        kernel::compare(&Sample { tree, bytes }, &mount);
    }
}

#[test]
fn lost_and_found_belongs_to_the_file_system() {
    let image = made_by_mke2fs(&["-t", "ext4"]);
    let tree = ext4::read(&open(&image), 0).unwrap();
    assert_eq!(tree.child(tree.root(), b"lost+found"), None);
    assert!(tree.lookup(b"etc/small").is_some());
}

#[test]
fn what_cannot_be_read_is_told() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("image");
    let read = |bytes: &[u8]| {
        fs_err::write(&path, bytes).unwrap();
        let file = fs_err::File::open(&path).unwrap();
        ext4::read(file.file(), 0).map(|_| ())
    };
    for bytes in [&b""[..], &[0; 100], &[0xff; 10_000]] {
        assert!(matches!(read(bytes), Err(ReadError::NotExt4)));
    }
    let image = made_by_mke2fs(&["-t", "ext4"]);
    let whole = fs_err::read(image.path()).unwrap();
    let cut = read(&whole[..whole.len() / 2]);
    assert!(matches!(cut, Err(ReadError::CutOff { .. })), "{cut:?}");
    let with = |feature: u32| {
        let mut bytes = whole[..100_000].to_vec();
        let old = u32::from_le_bytes(bytes[1024 + 0x60..][..4].try_into().unwrap());
        bytes[1024 + 0x60..][..4].copy_from_slice(&(old | feature).to_le_bytes());
        read(&bytes)
    };
    assert!(matches!(with(0x4), Err(ReadError::InUse)));
    assert!(matches!(with(0x1_8000), Err(ReadError::Features(0x1_8000))));
}

/// Whatever stands in the metadata, reading ends soon, with a tree or an error.
#[test]
fn any_damage_ends_well() {
    for options in [&["-t", "ext4"][..], &["-t", "ext2", "-b", "1024"]] {
        let image = made_by_mke2fs(options);
        let file = to_change(&image);
        let sound = fs_err::read(image.path()).unwrap();
        // What is not zeros, and no file's content.
        let tree = ext4::read(&file, 0).unwrap();
        let mut is_content = vec![false; sound.len()];
        tree.walk(&mut |_, id| {
            let Kind::File(content) = &tree.node(id).kind else {
                return;
            };
            for segment in &content.segments {
                let start = usize::try_from(segment.offset).unwrap();
                let length = usize::try_from(segment.length).unwrap();
                is_content[start..start + length].fill(true);
            }
        });
        let places: Vec<usize> = (0..sound.len())
            .filter(|at| sound[*at] != 0 && !is_content[*at])
            .collect();
        let mut errors = 0;
        for (number, at) in places.iter().step_by(1 + places.len() / 2500).enumerate() {
            let value = [0, 0xff, sound[*at] ^ 1, sound[*at] ^ 0x80][number % 4];
            file.write_all_at(&[value], *at as u64).unwrap();
            errors += usize::from(ext4::read(&file, 0).is_err());
            file.write_all_at(&[sound[*at]], *at as u64).unwrap();
        }
        assert!(errors > 0);
        ext4::read(&file, 0).unwrap();
    }
}

/// As many directories in each other as there are would be too deep for whoever walks the tree.
#[test]
fn what_no_layer_may_have_is_refused() {
    let mut sample = Sample::default();
    let mut at = sample.root();
    for _ in 0..3000 {
        at = sample.directory(at, "d");
    }
    let image = Image::of(&sample.tree, &sample.bytes, &Options::default());
    let found = ext4::read(&open(&image), 0);
    let expected = "it has a path of more than 4096 bytes, more than an image can have";
    assert_eq!(found.unwrap_err().to_string(), expected);
    // A directory of the size of the file system, which is a hole.
    let image = Image::of(&Sample::default().tree, &sample.bytes, &Options::default());
    let said = image.debugfs("imap <2>");
    let (_, place) = said.trim().rsplit_once("at block ").unwrap();
    let (block, offset) = place.split_once(", offset 0x").unwrap();
    let block: u64 = block.parse().unwrap();
    let inode = block * 4096 + u64::from_str_radix(offset, 16).unwrap();
    to_change(&image)
        .write_all_at(&[0xff; 4], inode + 4)
        .unwrap();
    let found = ext4::read(&open(&image), 0);
    assert!(matches!(found, Err(ReadError::TooMuch(_))), "{found:?}");
}

/// Files with the same blocks would let a small image be a large tree.
#[test]
fn a_tree_is_no_larger_than_its_image() {
    let mut sample = Sample::default();
    let root = sample.root();
    sample.file(root, "large", &noise(600_000));
    for number in 0..5 {
        sample.file(root, format!("small{number}"), b"x");
    }
    let image = Image::of(&sample.tree, &sample.bytes, &Options::default());
    let of = |name: &str| image.debugfs(&format!("imap {name}"));
    let place = |name: &str| {
        let said = of(name);
        let (_, at) = said.trim().rsplit_once("at block ").unwrap();
        let (block, offset) = at.split_once(", offset 0x").unwrap();
        let block: u64 = block.parse().unwrap();
        block * 4096 + u64::from_str_radix(offset, 16).unwrap()
    };
    let file = to_change(&image);
    let mut inode = [0; 256];
    file.read_exact_at(&mut inode, place("large")).unwrap();
    for number in 0..5 {
        let place = place(&format!("small{number}"));
        file.write_all_at(&inode, place).unwrap();
    }
    let found = ext4::read(&file, 0);
    assert!(matches!(found, Err(ReadError::TooMuch(_))), "{found:?}");
}
