//! The content of what a copy takes, as one digest: what decides whether it was copied before.
//!
//! It covers names, kinds, modes, owners, attributes, link targets and bytes, and no times: a
//! touched file is the same file. Files' bytes count by their own digests, which are often known;
//! those that are not are found out by several threads.

use std::io::{self, Read as _};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use firebuild_core::tree::{Content, Kind, NodeId, Tree};
use firebuild_core::{Digest, Hasher};
use firebuild_oci::Sources;

use crate::copy::Match;

/// How much of a file is read at a time, in bytes.
const PIECE: usize = 256 << 10;

/// More threads than this do not read faster.
const MOST_THREADS: usize = 8;

/// The digest of everything that these sources are, in their order.
pub(crate) fn of(sources: &[Match<'_>], contents: &Sources) -> io::Result<Digest> {
    let mut files = Vec::new();
    for source in sources {
        collect(&source.tree, source.node, &mut files);
    }
    let digests = digests(&files, contents)?;
    let mut fingerprint = Fingerprint {
        hasher: Hasher::new(),
        digests: digests.into_iter(),
    };
    for source in sources {
        fingerprint.field(&source.name);
        fingerprint.number(source.implied.len() as u64);
        for id in &source.implied {
            fingerprint.number(id.index() as u64);
        }
        fingerprint.node(&source.tree, source.node);
    }
    Ok(fingerprint.hasher.finish())
}

/// The files below a node, in the order in which [`Fingerprint::node`] comes by them.
fn collect<'t>(tree: &'t Tree, id: NodeId, files: &mut Vec<&'t Content>) {
    match &tree.node(id).kind {
        Kind::Directory(entries) => {
            for child in entries.values() {
                collect(tree, *child, files);
            }
        }
        Kind::File(content) => files.push(content),
        _ => {}
    }
}

/// The digests of files' bytes, in their order.
fn digests(files: &[&Content], contents: &Sources) -> io::Result<Vec<Digest>> {
    let mut digests = vec![Digest::from_bytes([0; 32]); files.len()];
    let mut unknown = Vec::new();
    for (at, content) in files.iter().enumerate() {
        let host = contents.host_file(content.source);
        match host.and_then(|host| host.known_digest()) {
            Some(digest) => digests[at] = *digest,
            None => unknown.push(at),
        }
    }
    for (at, digest) in in_parallel(&unknown, |at, buffer| digest(files[at], contents, buffer))? {
        digests[at] = digest;
    }
    Ok(digests)
}

/// Does something for each number on several threads, until it fails.
fn in_parallel<T: Send>(
    numbers: &[usize],
    work: impl Fn(usize, &mut [u8]) -> io::Result<T> + Sync,
) -> io::Result<Vec<(usize, T)>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Ok(Vec::with_capacity(numbers.len())));
    let worker = || {
        let mut buffer = vec![0; PIECE];
        while let Some(number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = work(*number, &mut buffer);
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            match (result, results.as_mut()) {
                (Ok(result), Ok(results)) => results.push((*number, result)),
                (Err(error), Ok(_)) => *results = Err(error),
                (_, Err(_)) => return,
            }
        }
    };
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = processors.min(MOST_THREADS).min(numbers.len());
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(worker);
        }
        worker();
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn digest(content: &Content, contents: &Sources, buffer: &mut [u8]) -> io::Result<Digest> {
    if let Some(host) = contents.host_file(content.source) {
        return host.digest(buffer);
    }
    let mut hasher = Hasher::new();
    let mut reader = contents.open(content)?;
    loop {
        match reader.read(buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

struct Fingerprint {
    hasher: Hasher,
    digests: std::vec::IntoIter<Digest>,
}

impl Fingerprint {
    fn node(&mut self, tree: &Tree, id: NodeId) {
        let node = tree.node(id);
        let metadata = &node.metadata;
        self.number(u64::from(metadata.mode));
        self.number(u64::from(metadata.uid));
        self.number(u64::from(metadata.gid));
        self.number(metadata.xattrs.len() as u64);
        for (name, value) in &metadata.xattrs {
            self.field(name);
            self.field(value);
        }
        match &node.kind {
            Kind::Directory(entries) => {
                self.field(b"directory");
                self.number(entries.len() as u64);
                for (name, child) in entries {
                    self.field(name.as_bytes());
                    self.node(tree, *child);
                }
            }
            Kind::File(content) => {
                self.field(b"file");
                self.number(content.length);
                let digest = self.digests.next();
                self.field(digest.as_ref().map_or(&[], |digest| &digest.bytes()[..]));
            }
            Kind::Symlink(target) => {
                self.field(b"symlink");
                self.field(target);
            }
            Kind::CharacterDevice(device) => {
                self.field(format!("character {} {}", device.major, device.minor).as_bytes());
            }
            Kind::BlockDevice(device) => {
                self.field(format!("block {} {}", device.major, device.minor).as_bytes());
            }
            Kind::Fifo => self.field(b"fifo"),
            Kind::Socket => self.field(b"socket"),
        }
    }

    /// Bytes with their length before them, so that no two lists of fields hash alike.
    fn field(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.hasher.update(bytes);
    }

    fn number(&mut self, number: u64) {
        self.hasher.update(&number.to_le_bytes());
    }
}
