//! File systems around content that was written before the tree was known.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use firebuild_core::tree::{Content, Kind, NodeId, Segment, Tree};
use firebuild_disk::ext4::{self, Blocks, Options, Room, Summary};
use firebuild_disk::{ContentSource, Error};

use crate::judge::Image;
use crate::kernel;
use crate::sample::{Sample, noise};

const BLOCK: u64 = 4096;

/// Two streams whose pieces alternate in the image, and nothing else.
struct Streams([Blocks; 2]);

impl ContentSource for Streams {
    fn read_exact_at(&self, source: u32, _: u64, _: &mut [u8]) -> io::Result<()> {
        panic!("source {source} is placed")
    }

    fn placed(&self, source: u32) -> Option<&Blocks> {
        self.0.get(usize::try_from(source).ok()?)
    }
}

/// Writes every second file to one stream and the rest to the other, a few blocks at a time.
struct Placer<'f> {
    file: &'f File,
    room: Room,
    streams: [Blocks; 2],
    piece: u64,
}

impl Placer<'_> {
    /// Appends whole blocks to a stream.
    fn append(&mut self, stream: usize, bytes: &[u8]) -> u64 {
        let start = self.streams[stream].count();
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len().next_multiple_of(4096), 0);
        let mut rest = padded.as_slice();
        while !rest.is_empty() {
            let most = self.piece.min(rest.len() as u64 / BLOCK);
            let blocks = self.room.take(most).unwrap();
            let (now, later) =
                rest.split_at(usize::try_from((blocks.end - blocks.start) * BLOCK).unwrap());
            self.file.write_all_at(now, blocks.start * BLOCK).unwrap();
            self.streams[stream].push(blocks);
            rest = later;
        }
        start * BLOCK
    }

    fn place(&mut self, stream: usize, sample: &Sample, content: &Content) -> Content {
        let mut segments = Vec::new();
        for segment in &content.segments {
            assert!(segment.start.is_multiple_of(BLOCK));
            let mut bytes = vec![0; usize::try_from(segment.length).unwrap()];
            sample
                .bytes
                .read_exact_at(0, segment.offset, &mut bytes)
                .unwrap();
            segments.push(Segment {
                offset: self.append(stream, &bytes),
                ..*segment
            });
        }
        Content {
            source: u32::try_from(stream).unwrap(),
            length: content.length,
            segments: segments.into(),
        }
    }
}

fn files(tree: &Tree) -> Vec<NodeId> {
    let mut found = Vec::new();
    tree.walk(&mut |_, id| {
        if matches!(tree.node(id).kind, Kind::File(_)) && !found.contains(&id) {
            found.push(id);
        }
    });
    found
}

/// The same tree with all content placed in `file`.
fn place(sample: &Sample, file: &File, piece: u64) -> (Tree, Streams, Room) {
    let mut placer = Placer {
        file,
        room: Room::new(),
        streams: [Blocks::new(), Blocks::new()],
        piece,
    };
    let mut tree = sample.tree.clone();
    for (index, id) in files(&sample.tree).into_iter().enumerate() {
        if let Kind::File(content) = &sample.tree.node(id).kind {
            let content = placer.place(index % 2, sample, content);
            tree.set_content(id, content);
        }
    }
    (tree, Streams(placer.streams), placer.room)
}

fn sample() -> Sample {
    let mut sample = Sample::default();
    let root = sample.root();
    let etc = sample.directory(root, "etc");
    sample.file(root, "empty", b"");
    let large = sample.file(root, "large", &noise(300_001));
    for index in 0..40 {
        sample.file(etc, format!("small{index}"), &noise(100 * index));
    }
    sample
        .tree
        .link(etc, "another name".as_bytes(), large)
        .unwrap();
    sample.symlink(root, "long", "x".repeat(200));
    let pieces: [(u64, &[u8]); 2] = [(8192, &noise(4096)), (1 << 30, b"far out")];
    sample.sparse(root, "sparse", 2 << 30, &pieces);
    sample.file(root, "last", &noise(70_000));
    sample
}

#[test]
fn content_stays_where_it_is() {
    for piece in [1, 3, 1 << 20] {
        let sample = sample();
        let image = Image::with(|file| {
            let (tree, streams, room) = place(&sample, file, piece);
            ext4::finish(&tree, &streams, &room, file, &Options::default()).unwrap()
        });
        image.check();
        kernel::compare(&sample, &image.mount("ro"));
    }
}

#[test]
fn a_file_of_pieces_beyond_a_superblock() {
    let mut sample = Sample::default();
    let root = sample.root();
    sample.file(root, "large", &noise(3 << 20));
    let image = Image::with(|file| {
        // As if much had been there that no file has any more.
        let mut placer = Placer {
            file,
            room: Room::after(32_768 - 64 - 100),
            streams: [Blocks::new(), Blocks::new()],
            piece: 1 << 20,
        };
        let mut tree = sample.tree.clone();
        let id = files(&tree)[0];
        if let Kind::File(content) = &sample.tree.node(id).kind {
            tree.set_content(id, placer.place(0, &sample, content));
        }
        let streams = Streams(placer.streams);
        ext4::finish(&tree, &streams, &placer.room, file, &Options::default()).unwrap()
    });
    image.check();
    kernel::compare(&sample, &image.mount("ro"));
    let extents = image.debugfs("dump_extents /large");
    assert_eq!(extents.lines().count(), 3, "{extents}");
}

#[test]
fn what_no_file_has_becomes_a_hole() {
    let mut sample = sample();
    let with = |sample: &Sample| {
        Image::with(|file| {
            let (tree, streams, room) = place(sample, file, 2);
            // Both have room for the same content.
            let mut tree = tree;
            let root = tree.root();
            tree.remove(root, b"last");
            ext4::finish(&tree, &streams, &room, file, &Options::default()).unwrap()
        })
    };
    let image = with(&sample);
    image.check();
    let zeros = vec![0; 70_000];
    let root = sample.root();
    sample.tree.remove(root, b"last");
    sample.file(root, "last", &zeros);
    let other = with(&sample);
    assert_eq!(
        fs_err::read(image.path()).unwrap(),
        fs_err::read(other.path()).unwrap()
    );
    let blocks = |image: &Image| fs_err::metadata(image.path()).unwrap().blocks();
    assert_eq!(blocks(&image), blocks(&other));
    kernel::compare(
        &{
            sample.tree.remove(root, b"last");
            sample
        },
        &image.mount("ro"),
    );
}

#[test]
fn without_room_taken_it_is_the_same() {
    let sample = sample();
    let options = Options::default();
    let written =
        |write: &dyn Fn(&File) -> Summary| fs_err::read(Image::with(write).path()).unwrap();
    let one = written(&|file| ext4::write(&sample.tree, &sample.bytes, file, &options).unwrap());
    let two = written(&|file| {
        ext4::finish(&sample.tree, &sample.bytes, &Room::new(), file, &options).unwrap()
    });
    assert_eq!(one, two);
}

/// What is wrong with a file whose content is said to be at `segments` of a stream of 10 blocks.
fn refused(files: &[&[Segment]]) -> String {
    let file = tempfile::tempfile().unwrap();
    let mut room = Room::new();
    let mut blocks = Blocks::new();
    blocks.push(room.take(10).unwrap());
    let mut sample = Sample::default();
    let root = sample.root();
    for (index, segments) in files.iter().enumerate() {
        let content = Content {
            source: 0,
            length: 1 << 20,
            segments: (*segments).into(),
        };
        sample.add(root, format!("file{index}"), Kind::File(content));
    }
    let streams = Streams([blocks, Blocks::new()]);
    let error = ext4::finish(&sample.tree, &streams, &room, &file, &Options::default());
    let error: Error = error.unwrap_err();
    assert_eq!(
        file.metadata().unwrap().len(),
        0,
        "written before it was refused"
    );
    error.to_string()
}

#[test]
fn content_that_is_not_in_whole_blocks_is_refused() {
    let segment = |start, offset, length| Segment {
        start,
        offset,
        length,
    };
    let segments = "the content of `file0` is described by segments that do not fit together";
    for wrong in [
        segment(1, 0, 10),
        segment(0, 1, 10),
        segment(0, 9 * BLOCK, BLOCK + 1),
        segment(0, 10 * BLOCK, 1),
    ] {
        assert_eq!(refused(&[&[wrong]]), segments, "{wrong:?}");
    }
    let overlapping = [segment(0, 0, 100), segment(2000, BLOCK, 100)];
    assert_eq!(refused(&[&overlapping]), segments);
    let (one, two) = (segment(0, 0, BLOCK * 2), segment(0, BLOCK, 1));
    let twice = "block 65 of the image would belong to two files";
    assert_eq!(refused(&[&[one], &[two]]), twice);
    let (one, two) = (segment(0, 0, BLOCK), segment(BLOCK, 0, BLOCK));
    assert!(refused(&[&[one, two]]).contains("two files"));
}
