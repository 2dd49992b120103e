//! The reader of layers against the writer, GNU tar, Python's `tarfile`, and hostile bytes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test's own steps fails the test"
)]

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;
use std::process::Command;

use firebuild_core::layer::{
    Entry, Item, LayerEntry, LayerError, LayerReader, LayerWriter, Limits,
};
use firebuild_core::tree::{Content, Device, Metadata, Timestamp};
use proptest::prelude::*;

/// An entry and, for a file, its logical bytes put together from the segments.
type Listed = (LayerEntry, Vec<u8>);

fn logical(layer: &[u8], content: &Content) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(content.length).unwrap()];
    for segment in &content.segments {
        let (start, offset, length) = (
            usize::try_from(segment.start).unwrap(),
            usize::try_from(segment.offset).unwrap(),
            usize::try_from(segment.length).unwrap(),
        );
        bytes[start..start + length].copy_from_slice(&layer[offset..offset + length]);
    }
    bytes
}

/// Reads a layer in both ways, by skipping and by seeking, which must agree.
fn listed(layer: &[u8]) -> Result<Vec<Listed>, LayerError> {
    let mut entries = Vec::new();
    let mut reader = LayerReader::new(layer);
    while let Some(entry) = reader.next_entry()? {
        entries.push(entry);
    }
    assert!(reader.next_entry()?.is_none());
    let mut seeking = LayerReader::seekable(Cursor::new(layer));
    for entry in &entries {
        assert_eq!(seeking.next_entry()?.as_ref(), Some(entry));
    }
    assert_eq!(seeking.next_entry()?, None);
    let with_bytes = entries.into_iter().map(|entry| {
        let bytes = match &entry.item {
            Item::File(content) => logical(layer, content),
            _ => Vec::new(),
        };
        (entry, bytes)
    });
    Ok(with_bytes.collect())
}

fn run(command: &mut Command) {
    let output = command.output().expect("the judge is installed");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A directory with every kind of entry that a plain archive of every form can hold.
fn sample(directory: &Path) {
    fs_err::create_dir(directory.join("d")).unwrap();
    fs_err::write(directory.join("d/file"), b"content").unwrap();
    fs_err::write(directory.join("empty"), b"").unwrap();
    fs_err::hard_link(directory.join("d/file"), directory.join("hard")).unwrap();
    fs_err::os::unix::fs::symlink("../d/file", directory.join("d/link")).unwrap();
    run(Command::new("mkfifo").arg(directory.join("fifo")));
    run(Command::new("chmod")
        .args(["4711"])
        .arg(directory.join("d/file")));
    run(Command::new("mknod")
        .arg(directory.join("null"))
        .args(["c", "1", "3"]));
}

fn archive(directory: &Path, options: &[&str]) -> Vec<u8> {
    let output = Command::new("tar")
        .args(["--create", "--sort=name", "--numeric-owner"])
        .args(options)
        .args(["--directory".as_ref(), directory.as_os_str()])
        .arg(".")
        .output()
        .expect("GNU tar is installed");
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

#[test]
fn reads_every_form_of_gnu_tar() {
    let directory = tempfile::tempdir().unwrap();
    sample(directory.path());
    for format in ["v7", "oldgnu", "gnu", "ustar", "pax"] {
        let form = format!("--format={format}");
        // The v7 form knows neither devices nor pipes.
        let mut options = vec![form.as_str()];
        if format == "v7" {
            options.extend(["--exclude=./fifo", "--exclude=./null"]);
        }
        let layer = archive(directory.path(), &options);
        let entries: BTreeMap<_, _> = listed(&layer)
            .unwrap()
            .into_iter()
            .map(|(entry, bytes)| {
                let path = String::from_utf8(entry.path.to_vec()).unwrap();
                (path, (entry, bytes))
            })
            .collect();
        let (file, bytes) = &entries["d/file"];
        assert_eq!(file.metadata.mode, 0o4711, "{format}");
        assert_eq!(bytes, b"content");
        assert_eq!(entries["d"].0.item, Item::Directory);
        assert_eq!(entries[""].0.item, Item::Directory);
        let link = Item::Symlink(b"../d/file".as_slice().into());
        assert_eq!(entries["d/link"].0.item, link);
        let hard = Item::HardLink(b"d/file".as_slice().into());
        assert_eq!(entries["hard"].0.item, hard);
        if format != "v7" {
            let null = Item::CharacterDevice(Device { major: 1, minor: 3 });
            assert_eq!(entries["null"].0.item, null);
            assert_eq!(entries["fifo"].0.item, Item::Fifo);
        }
    }
}

#[test]
fn reads_long_names_and_large_numbers() {
    let directory = tempfile::tempdir().unwrap();
    let deep = vec!["n".repeat(200); 6].join("/");
    fs_err::create_dir_all(directory.path().join(&deep)).unwrap();
    let link = format!("{deep}/{}", "l".repeat(255));
    fs_err::os::unix::fs::symlink("t".repeat(3000), directory.path().join(&link)).unwrap();
    for format in ["gnu", "pax"] {
        let form = format!("--format={format}");
        let options = [
            form.as_str(),
            "--owner=:4294967290",
            "--group=:3000000",
            "--mtime=1960-01-01 00:00:00.25Z",
        ];
        let layer = archive(directory.path(), &options);
        let entries = listed(&layer).unwrap();
        let (last, _) = entries.last().unwrap();
        assert_eq!(last.path.as_ref(), link.as_bytes(), "{format}");
        let target = Item::Symlink("t".repeat(3000).into_bytes().into());
        assert_eq!(last.item, target);
        assert_eq!(
            (last.metadata.uid, last.metadata.gid),
            (4_294_967_290, 3_000_000)
        );
        let nanoseconds = if format == "pax" { 250_000_000 } else { 0 };
        let mtime = Timestamp {
            seconds: -315_619_200,
            nanoseconds,
        };
        assert_eq!(last.metadata.mtime, mtime, "{format}");
    }
}

#[test]
fn reads_every_form_of_sparse_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("holes");
    let file = fs_err::File::create(&path).unwrap();
    let mut expected = vec![0; 3_000_000];
    // More runs than the header of the old form holds, so that blocks of the map follow it.
    for at in (0..2_000_000).step_by(65536) {
        use std::os::unix::fs::FileExt;
        file.file().write_all_at(b"data", at).unwrap();
        let at = usize::try_from(at).unwrap();
        expected[at..at + 4].copy_from_slice(b"data");
    }
    file.set_len(3_000_000).unwrap();
    for (form, version) in [
        ("gnu", "1.0"),
        ("oldgnu", "1.0"),
        ("pax", "0.0"),
        ("pax", "0.1"),
        ("pax", "1.0"),
    ] {
        let options = [
            "--sparse",
            &format!("--format={form}"),
            &format!("--sparse-version={version}"),
        ];
        let layer = archive(directory.path(), &options);
        assert!(layer.len() < 1_000_000, "tar found no holes");
        let entries = listed(&layer).unwrap();
        let (entry, bytes) = entries.last().unwrap();
        assert_eq!(entry.path.as_ref(), b"holes", "{form} {version}");
        assert!(*bytes == expected, "{form} {version}");
        let Item::File(content) = &entry.item else {
            panic!("{entry:?}");
        };
        assert!(content.segments.len() > 20);
    }
}

#[test]
fn gives_the_stored_bytes_of_an_entry() {
    let mut writer = LayerWriter::new(Vec::new());
    let metadata = Metadata::root_owned(0o644);
    for name in ["a", "b", "c"] {
        let bytes = name.repeat(1000);
        writer
            .file(name.as_bytes(), &metadata, 1000, &mut bytes.as_bytes())
            .unwrap();
    }
    let layer = writer.finish().unwrap();
    let mut reader = LayerReader::new(layer.as_slice());
    reader.next_entry().unwrap().unwrap();
    reader.next_entry().unwrap().unwrap();
    let mut half = [0; 500];
    reader.read_exact(&mut half).unwrap();
    assert_eq!(half, [b'b'; 500]);
    reader.next_entry().unwrap().unwrap();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "c".repeat(1000));
    assert!(!reader.ended());
    assert_eq!(reader.next_entry().unwrap(), None);
    assert!(reader.ended());
}

/// Python's own writer, with a global header, an attribute and a contiguous file.
const PYTHON: &str = r#"
import sys, tarfile, io
out = tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.PAX_FORMAT,
                   pax_headers={"uid": "4000000000", "comment": "global"})
info = tarfile.TarInfo("first"); info.size = 3
info.pax_headers = {"SCHILY.xattr.user.x": "a\nb", "mtime": "5.5"}
out.addfile(info, io.BytesIO(b"abc"))
info = tarfile.TarInfo("second"); info.type = tarfile.CONTTYPE; info.size = 3
info.pax_headers = {"uid": "7"}
out.addfile(info, io.BytesIO(b"xyz"))
out.close()
"#;

#[test]
fn reads_pythons_global_headers() {
    let output = Command::new("python3")
        .args(["-c", PYTHON])
        .output()
        .expect("python3 is installed");
    assert!(output.status.success(), "{output:?}");
    let entries = listed(&output.stdout).unwrap();
    let (first, second) = (&entries[0], &entries[1]);
    assert_eq!(first.0.metadata.uid, 4_000_000_000);
    assert_eq!(first.0.metadata.xattrs[&b"user.x"[..]].as_ref(), b"a\nb");
    assert_eq!(first.0.metadata.mtime.nanoseconds, 500_000_000);
    assert_eq!(
        (second.0.metadata.uid, second.1.as_slice()),
        (7, &b"xyz"[..])
    );
}

#[test]
fn what_is_no_layer_is_refused() {
    let mut writer = LayerWriter::new(Vec::new());
    writer
        .file(b"f", &Metadata::root_owned(0o644), 600, &mut &[7; 600][..])
        .unwrap();
    let good = writer.finish().unwrap();
    assert!(listed(&good).is_ok());
    for length in [1, 511, 513, 1100, 1535] {
        let error = listed(&good[..length]).unwrap_err();
        assert!(matches!(error, LayerError::Truncated { .. }), "{length}");
    }
    // Cut off between entries: no error, but no end either.
    let mut reader = LayerReader::new(&good[..1536]);
    while reader.next_entry().unwrap().is_some() {}
    assert!(!reader.ended());
    let mut damaged = good.clone();
    damaged[100] ^= 1;
    let error = listed(&damaged).unwrap_err();
    assert!(matches!(error, LayerError::Malformed { .. }));
    assert!(listed(b"PK\x03\x04".repeat(128).as_slice()).is_err());
    assert!(listed(b"").unwrap().is_empty());
}

#[test]
fn limits_hold() {
    let mut writer = LayerWriter::new(Vec::new());
    let mut metadata = Metadata::root_owned(0o644);
    metadata
        .xattrs
        .insert(b"user.a".as_slice().into(), vec![b'v'; 1000].into());
    for name in [&b"first"[..], b"second"] {
        writer
            .file(name, &metadata, 600, &mut &[7; 600][..])
            .unwrap();
    }
    let layer = writer.finish().unwrap();
    type Tighten = fn(&mut Limits);
    let cases: [(&str, Tighten); 6] = [
        ("entries", |limits| limits.entries = 1),
        ("bytes of a path", |limits| limits.path = 5),
        ("bytes of an extended header", |limits| {
            limits.extended_header = 1000;
        }),
        ("bytes of extended attributes", |limits| {
            limits.xattrs = 1000
        }),
        ("bytes of names and attributes", |limits| {
            limits.names = 4000
        }),
        ("bytes of file content", |limits| limits.content = 1199),
    ];
    for (expected, tighten) in cases {
        let mut limits = Limits::default();
        tighten(&mut limits);
        let mut reader = LayerReader::new(layer.as_slice()).limited(limits);
        let error = loop {
            match reader.next_entry() {
                Ok(entry) => assert!(entry.is_some(), "{expected}"),
                Err(error) => break error,
            }
        };
        match error {
            LayerError::Limit { what, .. } => assert_eq!(what, expected),
            other => panic!("{other}"),
        }
        assert!(reader.next_entry().unwrap().is_none());
    }
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|byte| if b"/\0.".contains(&byte) { b'x' } else { byte });
    let part = prop::collection::vec(byte, 1..120);
    prop::collection::vec(part, 1..4).prop_map(|parts| parts.join(&b'/'))
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let name = prop::collection::vec(1_u8.., 1..40);
    let value = prop::collection::vec(any::<u8>(), 0..600);
    let mtime = (any::<i32>(), any::<i16>(), 0_u32..1_000_000_000);
    (
        0_u16..0o10000,
        any::<u32>(),
        any::<u32>(),
        mtime,
        prop::collection::btree_map(name, value, 0..4),
    )
        .prop_map(
            |(mode, uid, gid, (seconds, far, nanoseconds), xattrs)| Metadata {
                mode,
                uid,
                gid,
                mtime: Timestamp {
                    seconds: i64::from(seconds) * i64::from(far),
                    nanoseconds,
                },
                xattrs: xattrs
                    .into_iter()
                    .map(|(n, v)| (n.into(), v.into()))
                    .collect(),
            },
        )
}

#[derive(Debug, Clone)]
enum Made {
    Directory,
    File(Vec<u8>),
    HardLink(Vec<u8>),
    Symlink(Vec<u8>),
    Character(Device),
    Block(Device),
    Fifo,
    Whiteout,
    Opaque,
}

fn made() -> impl Strategy<Value = Made> {
    let device = || (any::<u32>(), any::<u32>()).prop_map(|(major, minor)| Device { major, minor });
    prop_oneof![
        Just(Made::Directory),
        prop::collection::vec(any::<u8>(), 0..2000).prop_map(Made::File),
        path().prop_map(Made::HardLink),
        prop::collection::vec(1_u8.., 1..300).prop_map(Made::Symlink),
        device().prop_map(Made::Character),
        device().prop_map(Made::Block),
        Just(Made::Fifo),
        Just(Made::Whiteout),
        Just(Made::Opaque),
    ]
}

fn write(entries: &[(Vec<u8>, Metadata, Made)]) -> Vec<u8> {
    let mut writer = LayerWriter::new(Vec::new());
    for (path, metadata, made) in entries {
        match made {
            Made::File(bytes) => {
                writer.file(path, metadata, bytes.len() as u64, &mut bytes.as_slice())
            }
            Made::Whiteout => writer.whiteout(path),
            Made::Opaque => writer.opaque(path),
            Made::Directory => writer.entry(path, metadata, Entry::Directory),
            Made::HardLink(target) => writer.entry(path, metadata, Entry::HardLink(target)),
            Made::Symlink(target) => writer.entry(path, metadata, Entry::Symlink(target)),
            Made::Character(device) => {
                writer.entry(path, metadata, Entry::CharacterDevice(*device))
            }
            Made::Block(device) => writer.entry(path, metadata, Entry::BlockDevice(*device)),
            Made::Fifo => writer.entry(path, metadata, Entry::Fifo),
        }
        .unwrap();
    }
    writer.finish().unwrap()
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        entries in prop::collection::vec((path(), metadata(), made()), 0..12)
    ) {
        let layer = write(&entries);
        let read = listed(&layer).unwrap();
        prop_assert_eq!(read.len(), entries.len());
        for ((entry, bytes), (path, metadata, made)) in read.iter().zip(&entries) {
            prop_assert_eq!(entry.path.as_ref(), path.as_slice());
            match (made, &entry.item) {
                (Made::Whiteout, item) => prop_assert_eq!(item, &Item::Whiteout),
                (Made::Opaque, item) => prop_assert_eq!(item, &Item::Opaque),
                _ => prop_assert_eq!(&entry.metadata, metadata),
            }
            match (made, &entry.item) {
                (Made::File(expected), Item::File(_)) => prop_assert_eq!(bytes, expected),
                (Made::HardLink(t), Item::HardLink(target)) => {
                    prop_assert_eq!(target.as_ref(), t.as_slice());
                }
                (Made::Symlink(t), Item::Symlink(target)) => {
                    prop_assert_eq!(target.as_ref(), t.as_slice());
                }
                (Made::Character(d), Item::CharacterDevice(device))
                | (Made::Block(d), Item::BlockDevice(device)) => prop_assert_eq!(d, device),
                (Made::Directory, Item::Directory)
                | (Made::Fifo, Item::Fifo)
                | (Made::Whiteout, Item::Whiteout)
                | (Made::Opaque, Item::Opaque) => {}
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn damaged_bytes_never_panic_and_never_escape(
        entries in prop::collection::vec((path(), metadata(), made()), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        seal in any::<bool>(),
    ) {
        let mut layer = write(&entries);
        for (at, byte) in damage {
            let at = at.index(layer.len());
            layer[at] = byte;
            if seal {
                // The right checksum, so that what lies behind it is reached.
                let start = at / 512 * 512;
                let block = &mut layer[start..start + 512];
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let mut reader = LayerReader::new(layer.as_slice());
        while let Ok(Some(entry)) = reader.next_entry() {
            let inside = entry
                .path
                .split(|byte| *byte == b'/')
                .all(|part| part != b".." && part.len() <= 255);
            prop_assert!(inside && !entry.path.starts_with(b"/"));
            if let Item::File(content) = &entry.item {
                let last = content.segments.last();
                prop_assert!(last.is_none_or(|s| s.start + s.length <= content.length));
            }
        }
    }
}
