//! Names of one hash that end up in different leaves of a directory's index.

use std::os::unix::fs::FileExt;

use firebuild_disk::ext4::Options;

use crate::judge::Image;
use crate::sample::Sample;
use crate::trees::read_back;

#[path = "../../src/ext4/hash.rs"]
mod hash;

/// Names of 255 bytes that a leaf holds.
const IN_LEAF: usize = 15;
/// Leaves that a block of the index's second level holds.
const IN_NODE: usize = 510;

/// The seed that the options lead to, from where the superblock has it.
fn seed(options: &Options) -> hash::Seed {
    let sample = Sample::default();
    let image = Image::of(&sample.tree, &sample.bytes, options);
    let file = fs_err::File::open(image.path()).unwrap().into_file();
    let mut seed = [0; 16];
    file.read_exact_at(&mut seed, 1024 + 0xec).unwrap();
    let words: Vec<_> = seed.as_chunks().0.to_vec();
    std::array::from_fn(|index| u32::from_le_bytes(words[index]))
}

fn name(index: u32) -> Vec<u8> {
    format!("{index:0>255}").into_bytes()
}

/// Names sorted by hash, and where two of one hash follow each other.
fn names(seed: &hash::Seed) -> (Vec<u32>, Vec<usize>) {
    let mut hashed: Vec<_> = (0..150_000)
        .map(|index| (hash::half_md4(&name(index), seed).0, index))
        .collect();
    hashed.sort_unstable();
    let pairs = (1..hashed.len())
        .filter(|at| hashed[at - 1].0 == hashed[*at].0)
        .collect();
    (hashed.into_iter().map(|(_, index)| index).collect(), pairs)
}

#[test]
fn names_of_one_hash_in_two_leaves() {
    let options = Options::default();
    let (names, pairs) = names(&seed(&options));
    // Below a pair stand as many names as fill leaves but for one place, or even blocks of the
    // index's second level but for one place.
    for full in [IN_LEAF, IN_LEAF * IN_NODE] {
        let second = *pairs.iter().find(|at| **at > full).unwrap();
        let mut sample = Sample::default();
        let root = sample.root();
        let file = sample.file(root, "f", b"");
        let directory = sample.directory(root, "d");
        let below = (second - 1) / full * full;
        let chosen = names[second - below..second - 1 + 2 * IN_LEAF].iter();
        for index in chosen {
            sample.tree.link(directory, &name(*index), file).unwrap();
        }
        let image = read_back(&sample, &options);
        let dump = image.debugfs("htree_dump /d");
        let continued = dump
            .lines()
            .filter_map(|line| line.split("Hash 0x").nth(1)?.get(..8))
            .filter(|hash| u32::from_str_radix(hash, 16).unwrap() % 2 == 1);
        assert!(continued.count() > 0, "{full}: {dump}");
    }
}
