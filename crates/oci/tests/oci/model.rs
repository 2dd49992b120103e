//! Layers as they may come: made at random, written as archives and as directories for overlays.

use std::collections::BTreeMap;
use std::os::unix::fs::lchown;
use std::path::Path;

use firebuild_core::layer::{Entry, LayerWriter};
use firebuild_core::tree::{Device, Metadata, Timestamp};
use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};

#[derive(Debug, Clone)]
pub(crate) enum Thing {
    Directory {
        opaque: bool,
        entries: BTreeMap<String, (Metadata, Thing)>,
    },
    File(String),
    /// One more name of the file that was last made, if there is one.
    HardLink,
    Symlink(String),
    Fifo,
    Device(Device),
    Whiteout,
}

/// A layer: its root directory.
pub(crate) type Layer = (Metadata, Thing);

fn metadata(directory: bool) -> impl Strategy<Value = Metadata> {
    let modes = if directory {
        vec![0o755, 0o700, 0o1777, 0o2750]
    } else {
        vec![0o644, 0o600, 0o4755, 0o000]
    };
    let xattr = prop::option::weighted(0.2, "[a-z\n]{1,8}");
    (
        prop::sample::select(modes),
        0_u32..3,
        1_000_u32..70_000,
        (0_i64..2_000_000_000, 0_u32..1_000_000_000),
        xattr,
    )
        .prop_map(|(mode, uid, gid, (seconds, nanoseconds), xattr)| Metadata {
            mode,
            uid,
            gid,
            mtime: Timestamp {
                seconds,
                nanoseconds,
            },
            xattrs: xattr
                .into_iter()
                .map(|value| {
                    let name = b"user.test".as_slice();
                    (name.into(), value.into_bytes().into())
                })
                .collect(),
        })
}

fn thing(depth: u32) -> BoxedStrategy<(Metadata, Thing)> {
    let file = (metadata(false), "[a-z]{0,6}").prop_map(|(m, text)| (m, Thing::File(text)));
    let symlink = (
        metadata(false),
        prop::sample::select(vec!["a", "../b", "/c", "none"]),
    )
        .prop_map(|(m, target)| {
            let metadata = Metadata {
                mode: 0o777,
                xattrs: BTreeMap::new(),
                ..m
            };
            (metadata, Thing::Symlink(target.to_owned()))
        });
    let special = (metadata(false), 0_u8..2).prop_map(|(m, which)| {
        let metadata = Metadata {
            xattrs: BTreeMap::new(),
            ..m
        };
        let thing = match which {
            0 => Thing::Fifo,
            _ => Thing::Device(Device { major: 1, minor: 7 }),
        };
        (metadata, thing)
    });
    let leaf = prop_oneof![
        4 => file,
        1 => Just((Metadata::default(), Thing::HardLink)),
        1 => symlink,
        1 => special,
        3 => Just((Metadata::default(), Thing::Whiteout)),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    prop_oneof![2 => leaf, 3 => directory(depth - 1)].boxed()
}

fn directory(depth: u32) -> BoxedStrategy<(Metadata, Thing)> {
    let name = prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(str::to_owned);
    let entries = prop::collection::btree_map(name, thing(depth), 0..4);
    (metadata(true), prop::bool::weighted(0.15), entries)
        .prop_map(|(metadata, opaque, entries)| (metadata, Thing::Directory { opaque, entries }))
        .boxed()
}

pub(crate) fn layers() -> impl Strategy<Value = Vec<Layer>> {
    prop::collection::vec(directory(3), 2..5).prop_map(|mut layers| {
        for (_, root) in &mut layers {
            // The root of an overlay's layer cannot be opaque.
            if let Thing::Directory { opaque, .. } = root {
                *opaque = false;
            }
        }
        layers
    })
}

/// Writes a layer as an archive. Markers come before or after what they stand beside.
pub(crate) fn archive((metadata, root): &Layer, markers_last: bool) -> Vec<u8> {
    let mut writer = LayerWriter::new(Vec::new());
    let mut last = None;
    archive_thing(&mut writer, "", metadata, root, markers_last, &mut last);
    writer.finish().unwrap()
}

fn archive_thing(
    writer: &mut LayerWriter<Vec<u8>>,
    path: &str,
    metadata: &Metadata,
    thing: &Thing,
    markers_last: bool,
    last: &mut Option<String>,
) {
    let bytes = path.as_bytes();
    let mut entry = |entry| writer.entry(bytes, metadata, entry).unwrap();
    match thing {
        Thing::Directory { opaque, entries } => {
            entry(Entry::Directory);
            if *opaque && !markers_last {
                writer.opaque(bytes).unwrap();
            }
            let whiteout = |thing: &Thing| matches!(thing, Thing::Whiteout);
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by_key(|(_, (_, thing))| whiteout(thing) == markers_last);
            for (name, (metadata, thing)) in sorted {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}/{name}")
                };
                archive_thing(writer, &path, metadata, thing, markers_last, last);
            }
            if *opaque && markers_last {
                writer.opaque(bytes).unwrap();
            }
        }
        Thing::File(text) => {
            let length = text.len() as u64;
            writer
                .file(bytes, metadata, length, &mut text.as_bytes())
                .unwrap();
            *last = Some(path.to_owned());
        }
        Thing::HardLink => {
            if let Some(target) = last {
                entry(Entry::HardLink(target.as_bytes()));
            }
        }
        Thing::Symlink(target) => entry(Entry::Symlink(target.as_bytes())),
        Thing::Fifo => entry(Entry::Fifo),
        Thing::Device(device) => entry(Entry::CharacterDevice(*device)),
        Thing::Whiteout => writer.whiteout(bytes).unwrap(),
    }
}

/// Makes the directory that an overlay takes for a layer. The order of files is that of
/// [`archive`], because it decides what hard links link to.
pub(crate) fn extract(layer: &Layer, markers_last: bool, to: &Path) {
    let mut last = None;
    extract_thing(&layer.0, &layer.1, markers_last, to, &mut last);
}

fn extract_thing(
    metadata: &Metadata,
    thing: &Thing,
    markers_last: bool,
    path: &Path,
    last: &mut Option<std::path::PathBuf>,
) {
    let node = |kind, device| {
        rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), device).unwrap();
    };
    match thing {
        Thing::Directory { opaque, entries } => {
            fs_err::create_dir_all(path).unwrap();
            let whiteout = |thing: &Thing| matches!(thing, Thing::Whiteout);
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by_key(|(_, (_, thing))| whiteout(thing) == markers_last);
            for (name, (metadata, thing)) in sorted {
                extract_thing(metadata, thing, markers_last, &path.join(name), last);
            }
            if *opaque {
                xattr::set(path, "trusted.overlay.opaque", b"y").unwrap();
            }
        }
        Thing::File(text) => {
            fs_err::write(path, text).unwrap();
            *last = Some(path.to_owned());
        }
        Thing::HardLink => {
            if let Some(target) = last {
                fs_err::hard_link(target, path).unwrap();
            }
            return;
        }
        Thing::Symlink(target) => fs_err::os::unix::fs::symlink(target, path).unwrap(),
        Thing::Fifo => node(FileType::Fifo, 0),
        Thing::Device(device) => node(
            FileType::CharacterDevice,
            rustix::fs::makedev(device.major, device.minor),
        ),
        Thing::Whiteout => {
            node(FileType::CharacterDevice, 0);
            return;
        }
    }
    set(metadata, thing, path);
}

fn set(metadata: &Metadata, thing: &Thing, path: &Path) {
    lchown(path, Some(metadata.uid), Some(metadata.gid)).unwrap();
    if !matches!(thing, Thing::Symlink(_)) {
        let mode = Mode::from_raw_mode(u32::from(metadata.mode));
        rustix::fs::chmod(path, mode).unwrap();
    }
    for (name, value) in &metadata.xattrs {
        let name = std::str::from_utf8(name).unwrap();
        xattr::set(path, name, value).unwrap();
    }
    let time = Timespec {
        tv_sec: metadata.mtime.seconds,
        tv_nsec: metadata.mtime.nanoseconds.into(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
