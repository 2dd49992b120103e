//! What the format cannot hold is refused by name, before the output is touched.

use std::io::Read;

use firebuild_core::ByteSize;
use firebuild_core::tree::{Content, Device, Kind, NodeId, Segment, Timestamp};
use firebuild_disk::ext4::{self, Options};
use firebuild_disk::{Error, XattrProblem};

use crate::sample::{Sample, noise};

/// The error for a sample, after which the output must be as it was.
fn refused(sample: &Sample, options: &Options) -> Error {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("image");
    fs_err::write(&path, "precious").unwrap();
    let mut file = fs_err::File::options()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap()
        .into_file();
    let error = ext4::write(&sample.tree, &sample.bytes, &file, options).unwrap_err();
    let mut left = String::new();
    file.read_to_string(&mut left).unwrap();
    assert_eq!(left, "precious");
    error
}

/// A sample with one entry `d/x`, and the entry.
fn with(kind: Kind) -> (Sample, NodeId) {
    let mut sample = Sample::default();
    let root = sample.root();
    let directory = sample.directory(root, "d");
    let id = sample.add(directory, "x", kind);
    (sample, id)
}

fn refused_kind(kind: Kind) -> String {
    refused(&with(kind).0, &Options::default()).to_string()
}

#[test]
fn names_the_entry() {
    let device = |major, minor| Kind::BlockDevice(Device { major, minor });
    let symlink = |target: &[u8]| Kind::Symlink(target.into());
    let long = Content::whole(0, 0, 17 << 40);
    let cases = [
        (symlink(b""), "symbolic link `d/x` has 0 bytes"),
        (symlink(&[b'x'; 4096]), "symbolic link `d/x` has 4096 bytes"),
        (symlink(b"a\0b"), "symbolic link `d/x` has 3 bytes"),
        (device(4096, 0), "device `d/x` has the number 4096:0"),
        (device(0, 1 << 20), "device `d/x` has the number 0:1048576"),
        (Kind::File(long), "`d/x` is 18691697672192 bytes long"),
    ];
    for (kind, expected) in cases {
        let text = refused_kind(kind);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn segments_that_do_not_fit_together() {
    let segment = |start, offset, length| Segment {
        start,
        offset,
        length,
    };
    let cases = [
        vec![segment(0, 0, 0)],
        vec![segment(0, 0, 101)],
        vec![segment(u64::MAX, 0, 2)],
        vec![segment(0, u64::MAX, 2)],
        vec![segment(10, 0, 10), segment(19, 0, 1)],
        vec![segment(10, 0, 10), segment(0, 0, 1)],
    ];
    for segments in cases {
        let content = Content {
            source: 0,
            length: 100,
            segments: segments.clone().into(),
        };
        let text = refused_kind(Kind::File(content));
        assert!(text.contains("content of `d/x`"), "{segments:?}: {text}");
    }
}

#[test]
fn owners_modes_and_times() {
    let changes: [fn(&mut firebuild_core::tree::Metadata); 4] = [
        |metadata| metadata.uid = u32::MAX,
        |metadata| metadata.gid = u32::MAX,
        |metadata| metadata.mode = 0o10_000,
        |metadata| {
            metadata.mtime = Timestamp {
                seconds: 0,
                nanoseconds: 1_000_000_000,
            };
        },
    ];
    for change in changes {
        let (mut sample, id) = with(Kind::Fifo);
        change(sample.tree.metadata_mut(id));
        let error = refused(&sample, &Options::default());
        assert!(
            matches!(&error, Error::Metadata { path } if path == "d/x"),
            "{error}"
        );
    }
}

#[test]
fn extended_attributes() {
    let cases: [(&[u8], Vec<u8>, XattrProblem); 9] = [
        (b"x", vec![], XattrProblem::Namespace),
        (b"system.data", vec![], XattrProblem::Namespace),
        (b"com.apple.quarantine", vec![], XattrProblem::Namespace),
        (b"user.", vec![], XattrProblem::Name),
        (b"user.a\0b", vec![], XattrProblem::Name),
        (
            &[&b"user."[..], &[b'x'; 251]].concat(),
            vec![],
            XattrProblem::Name,
        ),
        (b"user.x", noise(65_537), XattrProblem::TooLong),
        (b"system.posix_acl_access", vec![1], XattrProblem::Acl),
        (
            b"system.posix_acl_accessory",
            vec![],
            XattrProblem::Namespace,
        ),
    ];
    for (name, value, expected) in cases {
        let (mut sample, id) = with(Kind::Fifo);
        let xattrs = &mut sample.tree.metadata_mut(id).xattrs;
        xattrs.insert(name.into(), value.into());
        match refused(&sample, &Options::default()) {
            Error::Xattr { path, problem, .. } => {
                assert_eq!((path.as_str(), problem), ("d/x", expected), "{name:?}");
            }
            error => panic!("{name:?}: {error}"),
        }
    }
    let (mut sample, id) = with(Kind::Fifo);
    for index in 0..20 {
        let name = format!("user.{index:0>200}").into_bytes();
        let xattrs = &mut sample.tree.metadata_mut(id).xattrs;
        xattrs.insert(name.into(), (*b"value").into());
    }
    let error = refused(&sample, &Options::default());
    assert!(
        matches!(&error, Error::TooManyXattrs { path } if path == "d/x"),
        "{error}"
    );
}

#[test]
fn more_links_than_are_counted() {
    let mut sample = Sample::default();
    let root = sample.root();
    let file = sample.file(root, "00000", b"");
    for index in 1..=65_000 {
        let name = format!("{index:05}");
        sample.tree.link(root, name.as_bytes(), file).unwrap();
    }
    let error = refused(&sample, &Options::default());
    assert!(
        matches!(&error, Error::TooManyLinks { path } if path == "65000"),
        "{error}"
    );
}

#[test]
fn sizes_that_are_too_large_or_small() {
    let sample = Sample::default();
    let refused = |options: Options| refused(&sample, &options);
    let huge = |size| Options {
        minimum_size: ByteSize(size),
        ..Options::default()
    };
    assert!(matches!(refused(huge(u64::MAX)), Error::TooLarge { .. }));
    assert!(matches!(
        refused(huge((1 << 44) + 1)),
        Error::TooLarge { .. }
    ));
    let free = |free_space, free_inodes| Options {
        free_space,
        free_inodes,
        ..Options::default()
    };
    assert!(matches!(
        refused(free(ByteSize(1 << 44), 0)),
        Error::TooLarge { .. }
    ));
    assert!(matches!(
        refused(free(ByteSize(u64::MAX), 0)),
        Error::TooLarge { .. }
    ));
    let inodes = refused(free(ByteSize(0), u32::MAX));
    assert!(matches!(
        inodes,
        Error::TooManyInodes { .. } | Error::TooLarge { .. }
    ));
    let journal = Options {
        journal: Some(ByteSize::mib(3)),
        ..Options::default()
    };
    assert!(matches!(refused(journal), Error::SmallJournal { .. }));
    let label = Options {
        label: "seventeen letters".into(),
        ..Options::default()
    };
    assert!(matches!(refused(label), Error::Label { .. }));
}

#[test]
fn content_that_cannot_be_read_is_named() {
    let mut sample = Sample::default();
    let root = sample.root();
    let directory = sample.directory(root, "d");
    let content = Content::whole(0, 5, 100);
    sample.add(directory, "x", Kind::File(content));
    let file = tempfile::tempfile().unwrap();
    let error = ext4::write(&sample.tree, &sample.bytes, &file, &Options::default());
    let error = error.unwrap_err();
    assert!(
        matches!(&error, Error::Read { path, .. } if path == "d/x"),
        "{error}"
    );
}
