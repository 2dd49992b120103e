//! Stacks of layers by number.
//!
//! What is left out: paths that lead through symbolic links, two entries of one path in a layer, a file
//! in the way of a directory that is not listed. Each of these is a case of its own in the tests of `oci`,
//! because the judges do not agree about it.

use std::collections::BTreeMap;

use firebuild_core::tree::{Device, Metadata, Timestamp};

use crate::model::{Entry, File, Form, Item, Layer, Path, above};
use crate::random::Random;

/// What lies at a path of the merged tree, as far as the next layer must know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lower {
    Directory,
    /// Something that can get another name.
    Other,
}

type Merged = BTreeMap<Path, Lower>;

pub(crate) fn of_case(number: u64) -> Vec<Layer> {
    let mut random = Random::new(number);
    let mut merged = Merged::from([(Path::new(), Lower::Directory)]);
    let count = 1 + random.below(4);
    (0..count)
        .map(|_| layer(&mut random, &mut merged))
        .collect()
}

fn layer(random: &mut Random, merged: &mut Merged) -> Layer {
    let form = random.of(&[Form::Pax, Form::Pax, Form::Gnu]);
    let mut layer = Layer {
        form,
        compression: random.of(&["cat", "gzip", "gzip", "zstd", "zstd", "bzip2", "xz"]),
        entries: Vec::new(),
    };
    for _ in 0..random.below(14) {
        marker(random, merged, &mut layer);
    }
    let lower = hidden(merged, &layer);
    for _ in 0..1 + random.below(20) {
        entry(random, &lower, &mut layer);
    }
    // umoci looks for what a marker hides where the layer has just put a link.
    let all = layer.clone();
    let is_within = |entry: &Entry| {
        let above = above(&entry.path)
            .into_iter()
            .any(|path| all.replaces(path));
        above || entry.item.is_opaque() && all.replaces(&entry.path)
    };
    layer
        .entries
        .retain(|entry| !entry.is_marker() || !is_within(entry));
    if random.percent(50) {
        shuffle(random, merged, &mut layer.entries);
    }
    *merged = laid_on(lower, &layer);
    layer
}

/// One of few names, so that layers meet.
fn path(random: &mut Random) -> Path {
    let long = [b'l'; 200];
    let names: [&[u8]; 9] = [
        b"a",
        b"b",
        b"c",
        b"d",
        b"\xff\xfe",
        b"\xc3\xa9",
        b"new\nline",
        b"e",
        &long,
    ];
    let mut path = Path::new();
    for _ in 0..1 + random.below(4) {
        if !path.is_empty() {
            path.push(b'/');
        }
        let most = if random.percent(70) { 4 } else { names.len() };
        path.extend(random.of(&names[..most]));
    }
    path
}

/// A path that is there, mostly.
fn lower_path(random: &mut Random, merged: &Merged) -> Path {
    let paths: Vec<&Path> = merged.keys().filter(|path| !path.is_empty()).collect();
    if paths.is_empty() || random.percent(20) {
        return path(random);
    }
    random.of(&paths).clone()
}

fn marker(random: &mut Random, merged: &Merged, layer: &mut Layer) {
    if random.percent(75) {
        return;
    }
    let path = lower_path(random, merged);
    let item = if random.percent(70) {
        Item::Whiteout
    } else {
        Item::Opaque
    };
    // What it is about may be a link to a directory, which would be followed.
    let mut about = above(&path);
    about.extend(item.is_opaque().then_some(path.as_slice()));
    let is_directory = |path: &&[u8]| {
        merged
            .get(*path)
            .is_none_or(|lower| *lower == Lower::Directory)
    };
    let is_apart = about.iter().all(is_directory);
    let is_new = !layer.entries.iter().any(|entry| entry.path == path);
    if is_apart && is_new {
        let metadata = Metadata::default();
        layer.entries.push(Entry {
            path,
            metadata,
            item,
        });
    }
}

/// What lower layers have and this one does not hide.
fn hidden(merged: &Merged, layer: &Layer) -> Merged {
    let left = merged.iter().filter(|(path, _)| !layer.hides(path));
    left.map(|(path, lower)| (path.clone(), *lower)).collect()
}

fn laid_on(mut merged: Merged, layer: &Layer) -> Merged {
    for entry in layer.entries.iter().filter(|entry| !entry.is_marker()) {
        for path in above(&entry.path) {
            merged.insert(path.to_vec(), Lower::Directory);
        }
        if matches!(entry.item, Item::Directory) {
            merged.insert(entry.path.clone(), Lower::Directory);
            continue;
        }
        merged.retain(|path, _| !is_below(path, &entry.path));
        merged.insert(entry.path.clone(), Lower::Other);
    }
    merged
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    let rest = path.strip_prefix(directory);
    rest.is_some_and(|rest| directory.is_empty() || rest.starts_with(b"/"))
}

fn entry(random: &mut Random, lower: &Merged, layer: &mut Layer) {
    let path = if random.percent(30) {
        lower_path(random, lower)
    } else if random.percent(4) {
        Path::new()
    } else {
        path(random)
    };
    if layer.entry(&path).is_some() {
        return;
    }
    let parents = above(&path);
    let in_the_way = |path: &&[u8]| match layer.entry(path) {
        Some(entry) => !matches!(entry.item, Item::Directory),
        None => lower.get(*path) == Some(&Lower::Other),
    };
    let is_needed = layer
        .entries
        .iter()
        .any(|entry| !entry.is_marker() && is_below(&entry.path, &path));
    let is_linked = layer.entries.iter().any(|entry| match &entry.item {
        Item::HardLink(target) => *target == path || is_below(target, &path),
        _ => false,
    });
    let is_in_use = is_linked && !path.is_empty();
    if is_in_use || parents.iter().any(in_the_way) {
        return;
    }
    let form = layer.form;
    let item = if path.is_empty() || is_needed {
        Item::Directory
    } else {
        item(random, lower, layer, &path)
    };
    // Mostly parents are listed.
    if random.percent(60) {
        for parent in parents {
            let is_missing = layer.entry(parent).is_none();
            if is_missing && (!parent.is_empty() || random.percent(20)) {
                let metadata = metadata(random, &Item::Directory, form);
                layer.entries.push(Entry {
                    path: parent.to_vec(),
                    metadata,
                    item: Item::Directory,
                });
            }
        }
    }
    let metadata = metadata(random, &item, form);
    layer.entries.push(Entry {
        path,
        metadata,
        item,
    });
}

fn item(random: &mut Random, lower: &Merged, layer: &Layer, path: &[u8]) -> Item {
    match random.below(20) {
        0..6 => Item::Directory,
        6..11 => Item::File(file(random)),
        11..14 => hard_link(random, lower, layer, path),
        14..17 => Item::Symlink(random.of(&[
            b"a".to_vec(),
            b"../b".to_vec(),
            b"/c/d".to_vec(),
            b"nowhere\xff".to_vec(),
            [b's'; 300].to_vec(),
        ])),
        17 => Item::Character(device(random)),
        18 => Item::Block(device(random)),
        _ => Item::Fifo,
    }
}

/// A link to an earlier entry of the layer, or to what a lower one has and this one leaves alone.
fn hard_link(random: &mut Random, lower: &Merged, layer: &Layer, path: &[u8]) -> Item {
    let linkable = |entry: &&Entry| {
        !matches!(entry.item, Item::Directory | Item::HardLink(_)) && !entry.is_marker()
    };
    let own = layer.entries.iter().filter(linkable);
    let mut targets: Vec<Path> = own.map(|entry| entry.path.clone()).collect();
    let is_left = |path: &&Path| {
        let directories = above(path).into_iter();
        let parents = directories.filter_map(|path| layer.entry(path));
        layer.entry(path).is_none()
            && parents
                .into_iter()
                .all(|entry| matches!(entry.item, Item::Directory))
    };
    let others = lower.iter().filter(|(_, lower)| **lower == Lower::Other);
    let others = others.map(|(path, _)| path).filter(is_left);
    targets.extend(others.cloned());
    targets.retain(|target| target != path && !is_below(target, path));
    if targets.is_empty() {
        return Item::File(file(random));
    }
    Item::HardLink(random.of(&targets))
}

fn file(random: &mut Random) -> File {
    let length = random.of(&[0, 1, 511, 512, 513, 4095, 4096, 4097, 20_000]);
    if random.percent(75) {
        let bytes = random.bytes(length);
        let runs = if length == 0 {
            vec![]
        } else {
            vec![(0, bytes)]
        };
        return File { length, runs };
    }
    let mut runs = Vec::new();
    let mut end = 0;
    for _ in 0..1 + random.below(6) {
        let start = end + 1 + random.below(9000);
        let run = 1 + random.below(6000);
        runs.push((start, random.bytes(run)));
        end = start + run;
    }
    let length = end + random.below(9000);
    File { length, runs }
}

fn device(random: &mut Random) -> Device {
    Device {
        major: random.of(&[1, 7, 300, 4095]),
        minor: random.of(&[1, 3, 256, 70_000, 0xf_ffff]),
    }
}

fn metadata(random: &mut Random, item: &Item, form: Form) -> Metadata {
    let mut metadata = Metadata {
        mode: match item {
            Item::Directory => random.of(&[0o755, 0o700, 0o1777, 0o2750, 0o000]),
            Item::Symlink(_) => 0o777,
            _ => random.of(&[0o644, 0o600, 0o4755, 0o6711, 0o1644, 0o000]),
        },
        uid: random.of(&[0, 0, 1, 1000, 65_535, 0x20_0000, 4_294_967_294]),
        gid: random.of(&[0, 0, 5, 70_000, 4_294_967_294]),
        mtime: Timestamp {
            seconds: random.of(&[0, 1, 1_700_000_000, 0x7fff_ffff, 0x8000_0000, 8_589_934_600]),
            nanoseconds: 0,
        },
        ..Metadata::default()
    };
    if form == Form::Pax {
        if random.percent(30) {
            metadata.mtime.seconds = random.of(&[-1, -2, -1_000_000, -2_147_483_647]);
        }
        metadata.mtime.nanoseconds = random.of(&[0, 1, 500_000_000, 999_999_999]);
        xattrs(random, item, &mut metadata);
    }
    metadata
}

/// What the kernel lets have what attributes decides what is tried.
fn xattrs(random: &mut Random, item: &Item, metadata: &mut Metadata) {
    let mut set = |name: &[u8], value: &[u8]| {
        metadata.xattrs.insert(name.into(), value.into());
    };
    if matches!(item, Item::HardLink(_)) {
        return;
    }
    if random.percent(10) {
        let length = 1 + random.below(300);
        set(b"trusted.firebuild", &random.bytes(length));
    }
    if !matches!(item, Item::File(_) | Item::Directory) {
        return;
    }
    if random.percent(15) {
        // An empty one is lost by umoci.
        let length = 1 + random.below(40);
        set(b"user.text", &random.bytes(length));
    }
    if random.percent(5) {
        set(b"user.\xff\n", b"=\n\0");
    }
    if matches!(item, Item::File(_)) && random.percent(10) {
        // Revision 2, effective: two words of 32 bits, each permitted and inheritable.
        let mut capability = vec![1, 0, 0, 2];
        capability.extend([0x0a, 0x3d, 0, 0, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0, 0, 0, 0]);
        set(b"security.capability", &capability);
    }
    if random.percent(8) {
        // Version 2; owner, user 1000, group, mask, others. The mask is what the mode says of the group.
        metadata.mode = metadata.mode & 0o7000 | 0o640;
        let list = "02000000 01000600ffffffff 02000400e8030000 04000400ffffffff \
                    10000400ffffffff 20000000ffffffff";
        let digits: Vec<u8> = list.bytes().filter(u8::is_ascii_hexdigit).collect();
        let bytes = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
        let list: Vec<u8> = bytes.collect();
        let name: &[u8] = b"system.posix_acl_access";
        metadata.xattrs.insert(name.into(), list.into());
    }
}

/// Another order, in which hard links still come after what they link to; and what makes a lower file
/// go comes before what may need a directory in its place, as umoci wants it.
fn shuffle(random: &mut Random, lower: &Merged, entries: &mut [Entry]) {
    for at in 1..entries.len() {
        let other = random.below(at as u64 + 1);
        entries.swap(at, usize::try_from(other).unwrap());
    }
    let is_file = |path: &Path| lower.get(path) == Some(&Lower::Other);
    let has_files = |directory: &Path| {
        let mut paths = lower.keys();
        paths.any(|path| is_file(path) && (path == directory || is_below(path, directory)))
    };
    entries.sort_by_key(|entry| match entry.item {
        Item::Directory if is_file(&entry.path) => 0,
        Item::Whiteout | Item::Opaque if has_files(&entry.path) => 0,
        Item::HardLink(_) => 2,
        _ => 1,
    });
}
