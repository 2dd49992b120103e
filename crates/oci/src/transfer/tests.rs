//! Pulls from registries that break off or lie, against a server that does.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use firebuild_core::{Digest, Platform, Reference};
use firebuild_store::Store;
use firebuild_store::layout::{CONFIG, Descriptor, LAYER, MANIFEST, Manifest};

use super::{Motion, Pulled, Watcher, pull};
use crate::registry::tests::client;
use crate::registry::tests::server::{Answer, Server};
use crate::{Destination, Error, Fill, Lower, Room};

/// Root file systems that are no file systems.
#[derive(Clone)]
struct Blocks;

/// As [`Blocks`], on a disk that is full when the last byte has come.
#[derive(Clone)]
struct Full;

impl Destination for Full {
    fn make(
        &self,
        store: &Store,
        ids: &[Digest],
        known: usize,
        fill: &mut Fill<'_>,
    ) -> crate::Result<Digest> {
        Blocks.make(store, ids, known, &mut |below, room, output| {
            fill(below, room, output)?;
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            Err(Error::RootFs(full.into()))
        })
    }
}

struct Counting(u64);

impl Room for Counting {
    fn take(&mut self, most: u64) -> Option<std::ops::Range<u64>> {
        self.0 += most;
        Some(self.0 - most..self.0)
    }
}

impl Destination for Blocks {
    fn make(
        &self,
        store: &Store,
        ids: &[Digest],
        _: usize,
        fill: &mut Fill<'_>,
    ) -> crate::Result<Digest> {
        let text: Vec<String> = ids.iter().map(Digest::hex).collect();
        let key = Digest::of(text.concat().as_bytes());
        store.rootfs(&key, |output: &std::fs::File| {
            fill(&Lower::default(), &mut Counting(10), output).map(drop)?;
            Ok::<(), Error>(())
        })?;
        Ok(key)
    }
}

/// An image as a registry has it: blobs and the manifest by their names.
struct Made {
    blobs: BTreeMap<String, Vec<u8>>,
    manifest: Vec<u8>,
    layers: Vec<Descriptor>,
}

fn archive(name: &str, size: usize) -> Vec<u8> {
    let content: Vec<u8> = (0..=250).cycle().take(size).collect();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, &*content).unwrap();
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An image of these layers, each told to be of the given diff id.
fn image(layers: &[(Vec<u8>, Digest)], os: &str) -> Made {
    let mut blobs = BTreeMap::new();
    let mut keep = |bytes: Vec<u8>, media_type: &str| {
        let digest = Digest::of(&bytes);
        let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        blobs.insert(digest.to_string(), bytes);
        descriptor
    };
    let diff_ids: Vec<String> = layers.iter().map(|(_, id)| format!("\"{id}\"")).collect();
    let config = format!(
        r#"{{"architecture":"{}","os":"{os}","rootfs":{{"type":"layers","diff_ids":[{}]}},"config":{{}}}}"#,
        Platform::host().architecture,
        diff_ids.join(",")
    );
    let config = keep(config.into_bytes(), CONFIG);
    let kept = layers.iter().map(|(bytes, _)| keep(bytes.clone(), LAYER));
    let layers: Vec<Descriptor> = kept.collect();
    let manifest = serde_json::to_vec(&Manifest::new(config, layers.clone())).unwrap();
    Made {
        blobs,
        manifest,
        layers,
    }
}

fn simple() -> Made {
    let (one, two) = (archive("one", 3_000_000), archive("two", 10));
    let layers = [&one, &two].map(|layer| (gzip(layer), Digest::of(layer)));
    image(&layers, "linux")
}

/// What was told of layers.
#[derive(Default)]
struct Motions(Mutex<Vec<(Digest, Motion)>>);

impl Watcher for Motions {
    fn layer(&self, layer: &Digest, motion: Motion) {
        self.0.lock().unwrap().push((*layer, motion));
    }
}

/// A registry of one image; `broken` breaks every blob off after a part of it, `served` counts.
struct Place {
    server: Server,
    broken: Arc<AtomicBool>,
    /// Whether it does not know `HEAD`.
    old: Arc<AtomicBool>,
    blobs: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    motions: Arc<Motions>,
    #[expect(dead_code, reason = "the directory lives as long")]
    directory: tempfile::TempDir,
    store: Store,
}

fn place(made: &Made) -> Place {
    let broken = Arc::<AtomicBool>::default();
    let is_old = Arc::<AtomicBool>::default();
    let old = Arc::clone(&is_old);
    let blobs = Arc::new(Mutex::new(made.blobs.clone()));
    let (manifest, breaks, there) = (
        made.manifest.clone(),
        Arc::clone(&broken),
        Arc::clone(&blobs),
    );
    let server = Server::start(move |asked| {
        let name = asked.path.rsplit('/').next().unwrap();
        if asked.path.contains("/manifests/")
            && asked.method == "HEAD"
            && old.load(Ordering::Relaxed)
        {
            return Answer::status("405 Method Not Allowed");
        }
        if asked.path.contains("/manifests/") {
            let digest = Digest::of(&manifest).to_string();
            let headers = [
                ("Content-Type", MANIFEST),
                ("Docker-Content-Digest", &digest),
            ];
            let body = if asked.method == "HEAD" {
                &[][..]
            } else {
                &manifest
            };
            return Answer::new("200 OK", &headers, body);
        }
        let blobs = there.lock().unwrap();
        let bytes = &blobs[name];
        let from = asked.header("range");
        let from = from.map_or(0, |range| {
            range
                .trim_matches(|character: char| !character.is_ascii_digit())
                .parse()
                .unwrap()
        });
        let status = if from > 0 { "206 Partial" } else { "200 OK" };
        let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
        let answer = Answer::new(status, &[("Content-Range", &range)], &bytes[from..]);
        if breaks.load(Ordering::Relaxed) && bytes.len() > 1 << 20 {
            return answer.cut(400_000);
        }
        answer
    });
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    Place {
        server,
        broken,
        motions: Arc::default(),
        old: is_old,
        blobs,
        directory,
        store,
    }
}

impl Place {
    async fn pull(&self) -> Result<Pulled, Error> {
        self.pull_to(Blocks).await
    }

    async fn pull_to(
        &self,
        destination: impl Destination + Clone + Send + 'static,
    ) -> Result<Pulled, Error> {
        let reference: Reference = format!("localhost:{}/a:1", self.server.port())
            .parse()
            .unwrap();
        let client = client(|_| {});
        let wanted = (&reference, &Platform::host());
        let watcher = Arc::clone(&self.motions) as Arc<dyn Watcher>;
        pull(&self.store, &client.registry, wanted, destination, &watcher).await
    }

    fn count(&self, folder: &str) -> usize {
        fs_err::read_dir(self.store.path().join(folder))
            .unwrap()
            .count()
    }

    /// The first bytes that were asked for of the large layer since the last time.
    fn ranges(&self) -> Vec<String> {
        let asked = self.server.asked();
        let ranges = asked.iter().filter_map(|asked| asked.header("range"));
        ranges.map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn what_comes_is_kept_as_it_is() {
    let made = simple();
    let place = place(&made);
    let pulled = place.pull().await.unwrap();
    assert_eq!(pulled.image.layers, made.layers);
    assert_eq!(pulled.digest, Digest::of(&made.manifest));
    assert_eq!(pulled.image.manifest.digest, pulled.digest);
    assert_eq!(pulled.fetched, made.layers[0].size + made.layers[1].size);
    assert_eq!((place.count("partial"), place.count("tmp")), (0, 0));
    let blobs = place.server.asked();
    let blobs = blobs.iter().filter(|asked| asked.path.contains("/blobs/"));
    assert_eq!(blobs.count(), 3);
    assert!(place.pull().await.unwrap().known);
    // A registry that does not tell a digest alone is asked for the documents.
    place.old.store(true, Ordering::Relaxed);
    let again = place.pull().await.unwrap();
    assert_eq!((again.known, again.fetched), (false, 0));
}

#[tokio::test]
async fn a_layer_may_be_there_several_times() {
    let layer = archive("one", 2_000_000);
    let layers = vec![(gzip(&layer), Digest::of(&layer)); 20];
    let place = place(&image(&layers, "linux"));
    let pulled = place.pull().await.unwrap();
    assert_eq!(pulled.image.layers.len(), 20);
    assert_eq!((place.count("partial"), place.count("tmp")), (0, 0));
    // It came once: it and the configuration were asked for.
    assert_eq!(pulled.fetched, pulled.image.layers[0].size);
    let asked = place.server.asked();
    let blobs = asked.iter().filter(|asked| asked.path.contains("/blobs/"));
    assert_eq!(blobs.count(), 2);
}

#[tokio::test]
async fn bytes_that_came_are_written_and_fetched_once() {
    let layers = [3_000_000, 2_000_000].map(|size| archive("one", size));
    let layers = layers.map(|layer| (gzip(&layer), Digest::of(&layer)));
    let made = image(&layers, "linux");
    let place = place(&made);
    let digests = [0, 1].map(|layer| made.layers[layer].digest);
    // Of one layer all is here, of the other the beginning.
    let inodes = [(0, usize::MAX), (1, 1_500_000)].map(|(layer, size)| {
        let partial = place.store.partial(&digests[layer]).unwrap().unwrap();
        let bytes = &layers[layer].0;
        let here = &bytes[..size.min(bytes.len())];
        partial.file().write_all(here).unwrap();
        partial.file().metadata().unwrap().ino()
    });
    let pulled = place.pull().await.unwrap();
    assert_eq!(pulled.fetched, made.layers[1].size - 1_500_000);
    assert_eq!(place.ranges(), ["bytes=1500000-"]);
    // It was told first how much was here, and last how much came.
    for (layer, known) in [(0, made.layers[0].size), (1, 1_500_000)] {
        let motions = place.motions.0.lock().unwrap();
        let of_layer = |(digest, _): &&(Digest, Motion)| *digest == digests[layer];
        let told: Vec<Motion> = motions
            .iter()
            .filter(of_layer)
            .map(|(_, told)| *told)
            .collect();
        let size = made.layers[layer].size;
        let begun = Motion::Underway {
            bytes: known,
            size: Some(size),
        };
        let ended = Motion::Arrived {
            moved: Some(size - known),
        };
        assert_eq!((told.first(), told.last()), (Some(&begun), Some(&ended)));
    }
    // What was here became the blobs.
    let blobs = digests.map(|digest| {
        let path = place.store.blob_path(&digest);
        fs_err::metadata(path).unwrap().ino()
    });
    assert_eq!(blobs, inodes);
    assert_eq!((place.count("partial"), place.count("tmp")), (0, 0));
}

#[tokio::test]
async fn what_broke_off_goes_on() {
    let made = simple();
    let place = place(&made);
    place.broken.store(true, Ordering::Relaxed);
    let error = place.pull().await.unwrap_err();
    assert!(error.to_string().contains("broke off"), "{error}");
    assert!(place.count("partial") >= 1);
    let before = place.ranges();
    place.broken.store(false, Ordering::Relaxed);
    let pulled = place.pull().await.unwrap();
    let after = &place.ranges()[before.len()..];
    assert!(!after.is_empty());
    assert!(pulled.fetched < made.layers[0].size);
    assert_eq!(place.count("partial"), 0);
}

#[tokio::test]
async fn what_came_before_the_disk_was_full_stays() {
    let place = place(&simple());
    let error = place.pull_to(Full).await.unwrap_err();
    assert!(matches!(error, Error::RootFs(_)), "{error}");
    assert_eq!((place.count("partial"), place.count("tmp")), (2, 0));
    assert_eq!(place.count("images/blobs/sha256"), 0);
    let pulled = place.pull().await.unwrap();
    assert_eq!(pulled.fetched, 0);
    assert_eq!((place.count("partial"), place.count("tmp")), (0, 0));
}

#[tokio::test]
async fn a_beginning_that_is_wrong_is_fetched_anew() {
    let made = simple();
    let large = made.layers[0].digest;
    for beginning in [vec![7; 1000], vec![7; 4 << 20]] {
        let place = place(&made);
        let partial = place.store.partial(&large).unwrap().unwrap();
        partial.file().write_all(&beginning).unwrap();
        drop(partial);
        let pulled = place.pull().await.unwrap();
        assert_eq!(pulled.image.layers.len(), 2);
    }
}

#[tokio::test]
async fn of_what_is_not_valid_nothing_stays() {
    let layer = archive("one", 3_000_000);
    let good = (gzip(&layer), Digest::of(&layer));
    let other = Digest::of(b"other");
    let mut cut = gzip(&layer);
    cut.truncate(2_000_000);
    let noise = vec![7; 3_000_000];
    for (made, expected) in [
        (
            image(&[good.clone(), (gzip(&layer), other)], "linux"),
            "uncompressed, has the digest",
        ),
        (
            image(&[good.clone(), (cut, Digest::of(&layer))], "linux"),
            "is not a valid layer",
        ),
        (
            image(
                &[good.clone(), (noise.clone(), Digest::of(&noise))],
                "linux",
            ),
            "is not a valid layer",
        ),
        (
            image(std::slice::from_ref(&good), "windows"),
            "is for `windows`, not for linux",
        ),
    ] {
        let place = place(&made);
        let error = place.pull().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        let left = ["images/blobs/sha256", "partial", "tmp"].map(|folder| place.count(folder));
        assert_eq!(left, [0, 0, 0], "{error}");
    }
    // Other bytes than the manifest says.
    let made = image(&[good], "linux");
    let place = place(&made);
    for bytes in place
        .blobs
        .lock()
        .unwrap()
        .values_mut()
        .filter(|bytes| bytes.len() > 1000)
    {
        bytes[2_000_000] ^= 1;
    }
    let error = place.pull().await.unwrap_err().to_string();
    assert!(error.contains("has the digest"), "{error}");
    assert_eq!(
        (place.count("images/blobs/sha256"), place.count("partial")),
        (0, 0)
    );
}
