//! Drives fuzz targets' invariants without a fuzzer: with the corpus that is kept in `corpus`, and what
//! some random changes make of it, the same in every run. Tests of several crates include this.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a finding is a panic; and not every test needs all of it"
)]

use std::path::{Path, PathBuf};

/// No input, of the corpus or changed, is longer.
const LENGTH: usize = 4096;

pub fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz")
        .join(name)
}

/// The files of a directory, by their names.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = directory
        .read_dir()
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs_err::read(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Random numbers that are the same in every run (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap() % bound.max(1)
    }

    fn place(&mut self, text: &[u8]) -> usize {
        self.below(text.len() + 1)
    }
}

/// The entries of libFuzzer's dictionary: `"text"`, with `\xNN` in it.
fn dictionary(text: &str) -> Vec<Vec<u8>> {
    let entries = text.lines().map(|line| {
        let mut pieces = line.trim_matches('"').split("\\x");
        let mut entry = pieces.next().unwrap().as_bytes().to_vec();
        for piece in pieces {
            let (digits, rest) = piece.split_at(2);
            entry.push(u8::from_str_radix(digits, 16).unwrap());
            entry.extend_from_slice(rest.as_bytes());
        }
        entry
    });
    entries.collect()
}

fn changed(random: &mut Random, inputs: &[(String, Vec<u8>)], words: &[Vec<u8>]) -> Vec<u8> {
    let mut text = inputs[random.below(inputs.len())].1.clone();
    for _ in 0..=random.below(4) {
        let (from, to) = (random.place(&text), random.place(&text));
        let (from, to) = (from.min(to), from.max(to));
        match random.below(5) {
            0 => drop(text.splice(from..to.min(from + 8), [])),
            1 => drop(text.splice(from..from, words[random.below(words.len())].clone())),
            2 if from < text.len() => text[from] = u8::try_from(random.below(256)).unwrap(),
            3 => {
                let piece = text[from..to].to_vec();
                let at = random.place(&text);
                drop(text.splice(at..at, piece));
            }
            _ => {
                let other = &inputs[random.below(inputs.len())].1;
                text.truncate(from);
                text.extend_from_slice(&other[random.place(other)..]);
            }
        }
    }
    text.truncate(LENGTH);
    text
}

/// Tries the corpus of a target and so many changed inputs.
pub fn hold(target: &str, invariant: fn(&[u8]), changed_inputs: u64) {
    let inputs = files(&directory("corpus").join(target));
    assert!(inputs.len() >= 10, "{target} has hardly a corpus");
    let words = directory("dictionaries").join(format!("{target}.dict"));
    let words = dictionary(&fs_err::read_to_string(words).unwrap());
    let try_one = |name: &str, text: &[u8]| {
        let done = std::panic::catch_unwind(|| invariant(text));
        assert!(done.is_ok(), "{target}, {name}: {}", text.escape_ascii());
    };
    for (name, text) in &inputs {
        assert!(text.len() <= LENGTH, "{target}, {name}");
        try_one(name, text);
    }
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for count in 0..changed_inputs {
        let text = changed(&mut random, &inputs, &words);
        try_one(&format!("change {count}"), &text);
    }
}
