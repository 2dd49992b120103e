//! Any tree: `e2fsck` finds nothing, and Linux and a reader of another make show what was written.

use std::collections::HashMap;

use ext4_view::{Ext4, PathBuf};
use firebuild_core::tree::{Content, Device, Kind, Metadata, Node, NodeId, Segment, Timestamp};
use firebuild_disk::ext4::Options;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::judge::Image;
use crate::sample::{Sample, noise};
use crate::trees::read_back;

/// Bytes that contents are cut from.
const SOURCE: u64 = 300_000;

/// What a reader takes.
#[derive(Debug, Clone, Copy)]
struct Reader {
    /// The longest value of an extended attribute.
    longest: usize,
    /// Whether it knows times before 1970 and after 2038.
    all_times: bool,
}

/// Four values of 900 bytes fit into a block, and ext4-view 1.0 reads no file system with inodes
/// for values. It also takes times for errors whose low 32 bits are negative.
const EXT4_VIEW: Reader = Reader {
    longest: 900,
    all_times: false,
};

const LINUX: Reader = Reader {
    longest: 64 << 10,
    all_times: true,
};

/// One step in making a tree; numbers choose among what there is.
#[derive(Debug, Clone)]
enum Step {
    Add(usize, Vec<u8>, Kind, Metadata),
    Directory(usize, Vec<u8>, Metadata),
    Link(usize, Vec<u8>, usize),
    Remove(usize, Vec<u8>),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("no name has them", |byte| !matches!(byte, 0 | b'/'));
    let short = vec(byte.clone(), 1..4);
    prop_oneof![6 => short, 3 => vec(byte.clone(), 1..60), 1 => vec(byte, 200..=255)]
        .prop_filter("these are taken", |name| name != b"." && name != b"..")
}

fn content() -> impl Strategy<Value = Content> {
    let piece = (0..20_000_u64, 1..9000_u64);
    let hole = prop_oneof![4 => 0..10_000_u64, 1 => 0..1_u64 << 33];
    (vec(piece, 0..6), hole).prop_map(|(pieces, hole)| {
        let mut length = 0;
        let mut segments = Vec::new();
        for (gap, size) in pieces {
            // Some touch the one before.
            let start = length + gap.saturating_sub(5000);
            segments.push(Segment {
                start,
                offset: (start * 7 + size) % (SOURCE - size),
                length: size,
            });
            length = start + size;
        }
        Content {
            source: 0,
            length: length + hole,
            segments: segments.into(),
        }
    })
}

fn kind() -> impl Strategy<Value = Kind> {
    let target = vec(1..=255_u8, 1..200).prop_map(|target| Kind::Symlink(target.into()));
    let long = vec(1..=255_u8, 3000..=4095).prop_map(|target| Kind::Symlink(target.into()));
    let device = (0..4096_u32, 0..1_048_576_u32).prop_map(|(major, minor)| Device { major, minor });
    prop_oneof![
        8 => content().prop_map(Kind::File),
        2 => target,
        1 => long,
        1 => device.clone().prop_map(Kind::CharacterDevice),
        1 => device.prop_map(Kind::BlockDevice),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::Socket),
    ]
}

fn metadata(reader: Reader) -> impl Strategy<Value = Metadata> {
    // Between 2310 and 2378 e2fsck takes times for the mark of an old mistake of Linux.
    let seconds = match reader.all_times {
        true => prop_oneof![
            9 => -(1_i64 << 31)..(5 << 31),
            1 => (6 << 31)..(1_i64 << 34) - (1 << 31),
        ]
        .boxed(),
        false => (0..1_i64 << 31).boxed(),
    };
    let longest = reader.longest;
    let time = (seconds, 0..1_000_000_000_u32);
    // Linux shows `user.` attributes of files and directories only.
    let name = prop_oneof![Just("trusted."), Just("security.x")];
    let name = (name, "[a-z]{1,40}").prop_map(|(space, rest)| format!("{space}{rest}"));
    let value = prop_oneof![6 => 0..=30_usize, 2 => 0..=longest / 20, 1 => 0..=longest];
    let xattrs = btree_map(name, value, 0..4);
    let owner = prop_oneof![Just(0), 0..=u32::MAX - 1];
    (0..=0o7777_u16, owner.clone(), owner, time, xattrs).prop_map(
        |(mode, uid, gid, (seconds, nanoseconds), xattrs)| Metadata {
            mode,
            uid,
            gid,
            mtime: Timestamp {
                seconds,
                nanoseconds,
            },
            xattrs: xattrs
                .into_iter()
                .map(|(name, length)| (name.into_bytes().into(), noise(length).into()))
                .collect(),
        },
    )
}

fn step(reader: Reader) -> impl Strategy<Value = Step> {
    let any = any::<usize>;
    prop_oneof![
        6 => (any(), name(), kind(), metadata(reader))
            .prop_map(|(at, name, kind, metadata)| Step::Add(at, name, kind, metadata)),
        2 => (any(), name(), metadata(reader))
            .prop_map(|(at, name, metadata)| Step::Directory(at, name, metadata)),
        2 => (any(), name(), any()).prop_map(|(at, name, to)| Step::Link(at, name, to)),
        1 => (any(), name()).prop_map(|(at, name)| Step::Remove(at, name)),
    ]
}

fn tree(reader: Reader) -> impl Strategy<Value = Sample> {
    (metadata(reader), vec(step(reader), 0..120)).prop_map(|(root, steps)| {
        let mut sample = Sample::default();
        sample.bytes.0 = noise(usize::try_from(SOURCE).unwrap());
        *sample.tree.metadata_mut(sample.tree.root()) = root;
        let mut directories = vec![sample.tree.root()];
        let mut others: Vec<NodeId> = Vec::new();
        for step in steps {
            take(&mut sample, &mut directories, &mut others, step);
        }
        sample
    })
}

fn take(sample: &mut Sample, directories: &mut Vec<NodeId>, others: &mut Vec<NodeId>, step: Step) {
    let tree = &mut sample.tree;
    let parent = |at: usize| directories[at % directories.len()];
    match step {
        Step::Add(at, name, kind, metadata) => {
            let node = Node { metadata, kind };
            others.push(tree.insert(parent(at), &name, node).unwrap());
        }
        Step::Directory(at, name, metadata) => {
            let node = Node::directory(metadata);
            let id = tree.insert(parent(at), &name, node).unwrap();
            directories.push(id);
        }
        Step::Link(at, name, to) if !others.is_empty() => {
            let target = others[to % others.len()];
            tree.link(parent(at), &name, target).unwrap();
        }
        Step::Link(..) => {}
        Step::Remove(at, name) => {
            tree.remove(parent(at), &name);
        }
    }
}

/// Compares with what `ext4-view` shows.
fn compare(sample: &Sample, image: &Image) {
    let shown = Ext4::load_from_path(image.path()).unwrap();
    let mut names: HashMap<NodeId, usize> = HashMap::new();
    sample.tree.walk(&mut |path, id| {
        *names.entry(id).or_default() += 1;
        let node = sample.tree.node(id);
        let path = PathBuf::try_from([b"/", path].concat()).unwrap();
        let found = shown.symlink_metadata(&path).unwrap();
        let wanted = &node.metadata;
        assert_eq!(found.mode() & 0o7777, wanted.mode);
        assert_eq!((found.uid(), found.gid()), (wanted.uid, wanted.gid));
        let time = found.modified();
        assert_eq!(time.seconds(), wanted.mtime.seconds);
        assert_eq!(time.nanoseconds(), wanted.mtime.nanoseconds);
        match &node.kind {
            Kind::Directory(entries) => {
                assert!(found.is_dir());
                let listed = shown.read_dir(&path).unwrap();
                assert_eq!(listed.count(), entries.len() + 2);
            }
            Kind::File(content) if content.length < 1 << 20 => {
                let mut expected = vec![0; usize::try_from(content.length).unwrap()];
                for segment in &content.segments {
                    let range = |start: u64| {
                        let start = usize::try_from(start).unwrap();
                        start..start + usize::try_from(segment.length).unwrap()
                    };
                    expected[range(segment.start)]
                        .copy_from_slice(&sample.bytes.0[range(segment.offset)]);
                }
                assert!(shown.read(&path).unwrap() == expected);
            }
            Kind::File(content) => assert_eq!(found.len(), content.length),
            Kind::Symlink(target) => {
                assert!(found.is_symlink());
                assert_eq!(found.len(), target.len() as u64);
                // It shows no target with parts of more than 255 bytes, which Linux does.
                if let Ok(target) = PathBuf::try_from(&target[..]) {
                    assert_eq!(shown.read_link(&path).unwrap(), target);
                }
            }
            Kind::CharacterDevice(_) => assert!(found.file_type().is_char_dev()),
            Kind::BlockDevice(_) => assert!(found.file_type().is_block_dev()),
            Kind::Fifo => assert!(found.file_type().is_fifo()),
            Kind::Socket => assert!(found.file_type().is_socket()),
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn another_reader_shows_what_was_written(sample in tree(EXT4_VIEW)) {
        let image = Image::of(&sample.tree, &sample.bytes, &Options::default());
        compare(&sample, &image);
    }

    #[test]
    fn linux_shows_what_was_written(sample in tree(LINUX)) {
        read_back(&sample, &Options::default());
    }
}
