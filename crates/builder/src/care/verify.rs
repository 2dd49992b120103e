//! Reads everything that the store has again, and says what is broken and which images that hurts.
//!
//! While it reads it has a lease, so that nothing goes; what others add meanwhile is looked at or
//! not. What can be made again from what is whole is mended by [`super::repair()`]; everything else
//! has to be fetched again, for which [`Finding::images`] has the names and [`super::incomplete`] what a
//! registry has to be asked for.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use firebuild_core::digest::Hasher;
use firebuild_core::{Digest, ImageConfig};
use firebuild_disk::{ext4, verity};
use firebuild_store::layout::{Descriptor, Manifest};
use firebuild_store::{Blob, Lease, Store, Tagged};

use crate::{Error, rootfs, verified};

/// The most threads that read at once.
const MOST_THREADS: usize = 8;
const BUFFER: usize = 1 << 20;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The list of images.
    Index,
    /// A blob: a manifest, a configuration, a layer, or what was fetched.
    Blob(Digest),
    /// A root file system image.
    RootFs(Digest),
    /// What is known of a layer that came compressed.
    Layer(Digest),
    /// A record of the build cache.
    Result(Digest),
    /// A record of what was fetched.
    Download(Digest),
}

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// It goes, or is made again, and nothing is lost.
    Repair,
    /// It goes, and then the images that need it have to be pulled, imported or built again.
    Fetch,
    /// Somebody has to look at it.
    ByHand,
}

/// Something broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub part: Part,
    /// What is the matter with it.
    pub problem: String,
    /// The images that cannot be used, by name or digest.
    pub images: Vec<String>,
    /// What can be done.
    pub remedy: Remedy,
}

/// What was looked at, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How many images.
    pub images: u64,
    /// How many blobs were read.
    pub blobs: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// How many root file systems were looked at.
    pub rootfs: u64,
    /// How many records.
    pub records: u64,
    /// What is broken, in the order of [`Part`].
    pub findings: Vec<Finding>,
}

/// How many bytes of how many have been read.
pub type Meter<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// Looks at everything.
///
/// # Errors
/// Those of the store where it cannot be read at all.
pub fn verify(store: &Store, meter: Meter<'_>) -> Result<Report, Error> {
    let lease = store.lease()?;
    let blobs = store.blobs()?;
    let mut look = Look {
        lease: &lease,
        bad: rehash(store, &blobs, meter),
        hurt: BTreeMap::new(),
        keys: HashMap::new(),
        lost: HashSet::new(),
        report: Report {
            blobs: blobs.len() as u64,
            bytes: blobs.iter().map(|blob| blob.size).sum(),
            ..Report::default()
        },
    };
    look.images();
    look.blobs();
    look.rootfs()?;
    look.layers()?;
    look.records()?;
    look.report.findings.sort_by_key(|finding| finding.part);
    Ok(look.report)
}

/// What is the matter with a blob, if anything is.
pub(super) fn problem_of(store: &Store, digest: &Digest, meter: &dyn Fn(u64)) -> Option<String> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; BUFFER];
    let mut file = match store.blob(digest) {
        Ok(file) => file,
        Err(firebuild_store::Error::NoBlob(_)) => return Some("it is missing".to_owned()),
        Err(error) => return Some(error.to_string()),
    };
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                meter(count as u64);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Some(format!("it cannot be read: {error}")),
        }
    }
    let actual = hasher.finish();
    (actual != *digest).then(|| format!("its bytes have the digest {actual}"))
}

/// Reads all blobs, several at once; the result is what is the matter with some.
fn rehash(store: &Store, blobs: &[Blob], meter: Meter<'_>) -> BTreeMap<Digest, String> {
    let total = blobs.iter().map(|blob| blob.size).sum();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
    let bad = Mutex::new(BTreeMap::new());
    let read = |count| meter(done.fetch_add(count, Ordering::Relaxed) + count, total);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(MOST_THREADS) {
            scope.spawn(|| {
                while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // One that was removed since the list was made would be no harm, but a lease is held.
                    if let Some(problem) = problem_of(store, &blob.digest, &read)
                        && let Ok(mut bad) = bad.lock()
                    {
                        bad.insert(blob.digest, problem);
                    }
                }
            });
        }
    });
    bad.into_inner().unwrap_or_default()
}

struct Look<'a> {
    lease: &'a Lease,
    /// Blobs that are not what they should be.
    bad: BTreeMap<Digest, String>,
    /// The images that need a part.
    hurt: BTreeMap<Part, BTreeSet<String>>,
    /// The images of a root file system.
    keys: HashMap<Digest, BTreeSet<String>>,
    /// Layers whose blobs are bad, which says it all.
    lost: HashSet<Digest>,
    report: Report,
}

impl Look<'_> {
    fn store(&self) -> &Store {
        self.lease.store()
    }

    fn find(&mut self, part: Part, problem: impl fmt::Display, remedy: Remedy) {
        let images = self.hurt.get(&part).into_iter().flatten().cloned();
        self.report.findings.push(Finding {
            part,
            problem: problem.to_string(),
            images: images.collect(),
            remedy,
        });
    }

    /// What every image refers to.
    fn images(&mut self) {
        let images = match self.store().tags().list() {
            Ok(images) => images,
            Err(error) => return self.find(Part::Index, error, Remedy::ByHand),
        };
        self.report.images = images.len() as u64;
        for tagged in images {
            let name = match &tagged.reference {
                Some(name) => name.familiar(),
                None => tagged.descriptor.digest.to_string(),
            };
            self.image(&tagged, &name);
        }
    }

    fn image(&mut self, tagged: &Tagged, name: &str) {
        let Some(manifest) = self.document::<Manifest>(&tagged.descriptor, name) else {
            return;
        };
        let config = self.document::<ImageConfig>(&manifest.config, name);
        for layer in &manifest.layers {
            self.refer(layer, name);
        }
        let Some(config) = config else {
            return;
        };
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            self.note(
                manifest.config.digest,
                "it tells another number of layers than its manifest",
            );
        }
        let images = rootfs::images_of(self.store(), diff_ids).unwrap_or_default();
        for key in images.into_iter().chain([verified::key_of(diff_ids)]) {
            self.keys.entry(key).or_default().insert(name.to_owned());
        }
        for (diff_id, layer) in diff_ids.iter().zip(&manifest.layers) {
            if self.bad.contains_key(&layer.digest) {
                self.lost.insert(*diff_id);
            } else if layer.digest != *diff_id {
                let hurt = self.hurt.entry(Part::Layer(*diff_id)).or_default();
                hurt.insert(name.to_owned());
            }
        }
    }

    /// Notes that an image needs a blob, and looks whether it has the right length.
    fn refer(&mut self, descriptor: &Descriptor, name: &str) {
        let digest = descriptor.digest;
        let hurt = self.hurt.entry(Part::Blob(digest)).or_default();
        hurt.insert(name.to_owned());
        if self.bad.contains_key(&digest) {
            return;
        }
        match self.store().blob(&digest).map(|file| file.metadata()) {
            Ok(Ok(metadata)) if metadata.len() == descriptor.size => {}
            Ok(Ok(_)) => self.note(digest, "a manifest says that it has another length"),
            Ok(Err(error)) => self.note(digest, &format!("it cannot be read: {error}")),
            Err(_) => self.note(digest, "it is missing"),
        }
    }

    fn note(&mut self, digest: Digest, problem: &str) {
        self.bad.entry(digest).or_insert_with(|| problem.to_owned());
    }

    /// A manifest or configuration.
    fn document<T: serde::de::DeserializeOwned>(
        &mut self,
        descriptor: &Descriptor,
        name: &str,
    ) -> Option<T> {
        self.refer(descriptor, name);
        if self.bad.contains_key(&descriptor.digest) {
            return None;
        }
        let bytes = self.store().blob_bytes(&descriptor.digest).ok()?;
        match serde_json::from_slice(&bytes) {
            Ok(document) => Some(document),
            Err(error) => {
                self.note(
                    descriptor.digest,
                    &format!("it cannot be understood: {error}"),
                );
                None
            }
        }
    }

    fn blobs(&mut self) {
        for (digest, problem) in self.bad.clone() {
            let part = Part::Blob(digest);
            let remedy = match self.hurt.contains_key(&part) {
                true => Remedy::Fetch,
                false => Remedy::Repair,
            };
            self.find(part, problem, remedy);
        }
    }

    fn rootfs(&mut self) -> Result<(), Error> {
        let keys = self.store().rootfs_list()?;
        self.report.rootfs = keys.len() as u64;
        for key in keys {
            if let Some(problem) = problem_of_rootfs(self.store(), &key) {
                let images = self.keys.remove(&key).unwrap_or_default();
                self.hurt.insert(Part::RootFs(key), images);
                self.find(Part::RootFs(key), problem, Remedy::Repair);
            }
        }
        Ok(())
    }

    /// What is known of layers, and of which layers it has to be.
    fn layers(&mut self) -> Result<(), Error> {
        let mut diff_ids: BTreeSet<Digest> = self.store().layers().list()?.into_iter().collect();
        self.report.records += diff_ids.len() as u64;
        diff_ids.extend(self.hurt.keys().filter_map(|part| match part {
            Part::Layer(diff_id) => Some(*diff_id),
            _ => None,
        }));
        for diff_id in diff_ids {
            let lost = self.lost.contains(&diff_id);
            if !lost && !firebuild_oci::is_kept_well(self.store(), &diff_id)? {
                let problem = "what was noted of the layer is missing or damaged";
                self.find(Part::Layer(diff_id), problem, Remedy::Repair);
            }
        }
        Ok(())
    }

    fn records(&mut self) -> Result<(), Error> {
        let results = self.store().cache().list()?.into_iter();
        let results = results.map(|entry| (Part::Result(entry.key), entry.record.layer));
        let downloads = self.store().downloads().list()?.into_iter();
        let downloads = downloads.map(|entry| (Part::Download(entry.key), entry.record.content));
        let there: Vec<(Part, Digest)> = results.chain(downloads).collect();
        self.report.records += there.len() as u64;
        let mut checked = HashSet::new();
        for (part, blob) in there {
            if self.bad.contains_key(&blob) {
                self.find(
                    part,
                    format_args!("its blob {blob} is broken"),
                    Remedy::Repair,
                );
            } else if checked.insert(blob) && !self.store().has_blob(&blob)? {
                self.find(
                    part,
                    format_args!("its blob {blob} is missing"),
                    Remedy::Repair,
                );
            }
        }
        let results = self.store().cache().unreadable()?.into_iter();
        let downloads = self.store().downloads().unreadable()?.into_iter();
        let unreadable: Vec<Part> = results
            .map(Part::Result)
            .chain(downloads.map(Part::Download))
            .collect();
        for part in unreadable {
            self.find(part, "it cannot be understood", Remedy::Repair);
        }
        Ok(())
    }
}

/// What is the matter with a root file system image, if anything is.
pub(super) fn problem_of_rootfs(store: &Store, key: &Digest) -> Option<String> {
    let path = store.rootfs_path(key);
    let image = match File::options().read(true).open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        other => other,
    };
    match image.and_then(|image| problem_of_file(&image, key)) {
        Ok(problem) => problem,
        Err(error) => Some(format!("it cannot be read: {error}")),
    }
}

/// The same for the file itself: one with a tree of hashes is held against that, byte for byte.
fn problem_of_file(image: &File, key: &Digest) -> std::io::Result<Option<String>> {
    if let Some(tree) = verified::tree_of(image, key)? {
        let wrong = verity::check(image, &tree)?;
        return Ok(
            wrong.map(|block| format!("its block {block} is not what its tree of hashes says"))
        );
    }
    let damage = ext4::check(image, key.bytes())?;
    Ok(damage.map(|damage| damage.to_string()))
}
