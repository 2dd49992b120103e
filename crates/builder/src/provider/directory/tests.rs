use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::Command;

use firebuild_core::config::ProcessConfig;
use firebuild_core::tree::{Content, Kind as FileKind, Metadata as FileMetadata, Node};
use firebuild_core::{ByteSize, Digest, ImageConfig, Platform};
use firebuild_oci::{Changes, Sources};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::provider::{BuildConfig, Kind};

/// Stores and a storage, which go with it.
struct Storage {
    folder: TempDir,
    storage: Directory,
}

impl Storage {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let text = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let properties = [(ROOTFS_ROOT, "rootfs"), (KERNEL_ROOT, "kernels")];
        let properties = properties.map(|(name, path)| (name.to_owned(), text(path)));
        let storage = Directory::new(&properties.into_iter().collect()).unwrap();
        Self { folder, storage }
    }

    fn store(&self, name: &str) -> Store {
        Store::open(&self.folder.path().join(name)).unwrap()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("rootfs").join(path)
    }

    fn keep(&self, store: &Store, name: &Reference) -> Result<Kept> {
        let image = Keep {
            name,
            kind: Kind::Rootfs,
            made: BuildConfig::default(),
            parent: None,
            size: ByteSize::mib(8),
        };
        self.storage.keep_image(store, &image)
    }

    /// Names in the storage's root.
    fn names(&self) -> Vec<String> {
        let entries = fs_err::read_dir(self.path("")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

/// An image with one file `/etc/who` and a configuration that says the same.
fn image(store: &Store, names: &[Reference], who: &str) -> Digest {
    let lease = store.lease().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, who.as_bytes()).unwrap();
    let mut sources = Sources::new();
    let source = sources.add_file(file);
    let mut changes = Changes::new();
    let mut metadata = FileMetadata::root_owned(0o640);
    (metadata.uid, metadata.mtime.seconds) = (7, 1_000_000_000);
    metadata
        .xattrs
        .insert(b"user.who"[..].into(), who.as_bytes().into());
    let content = Content::whole(source, 0, who.len() as u64);
    let node = Node {
        metadata,
        kind: FileKind::File(content),
    };
    changes.insert(b"etc/who", node).unwrap();
    let writer = changes.write(&sources, lease.blob_writer().unwrap());
    let layer = writer.unwrap().commit(None).unwrap();
    let mut config = ImageConfig::scratch(Platform::host());
    config.created = Some("2021-05-03T00:00:00Z".to_owned());
    config.config = ProcessConfig {
        entrypoint: Some(vec!["a b".to_owned()]),
        cmd: Some(vec![who.to_owned()]),
        stop_signal: Some("SIGINT".to_owned()),
        healthcheck: Some(json!({"Test": ["CMD", "true"]})),
        labels: [("who".to_owned(), who.to_owned())].into(),
        ..config.config
    };
    let image = firebuild_oci::write_image(&lease, config, &[], &[layer], names);
    image.unwrap().manifest.digest
}

/// Who an image of a store is.
fn who(store: &Store, name: &Reference) -> String {
    let image = firebuild_oci::find_image(store, name).unwrap();
    let (tree, sources) = firebuild_oci::image_tree(store, image.diff_ids()).unwrap();
    let node = tree.node(tree.lookup(b"etc/who").unwrap());
    let FileKind::File(content) = &node.kind else {
        panic!("a file was written")
    };
    let mut text = String::new();
    let mut reader = sources.open(content).unwrap();
    std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
    assert_eq!(image.config.config.labels["who"], text);
    assert_eq!(image.config.config.entrypoint.unwrap(), ["a b"]);
    assert_eq!((node.metadata.uid, node.metadata.mode), (7, 0o640));
    assert_eq!(*node.metadata.xattrs[&b"user.who"[..]], *text.as_bytes());
    text
}

#[test]
fn what_is_kept_is_taken_elsewhere_as_it_was() {
    let place = Storage::new();
    let (here, there) = (place.store("here"), place.store("there"));
    let name = name("org/app:1.0");
    let digest = image(&here, std::slice::from_ref(&name), "first");
    assert_eq!(
        place.storage.bring_image(&there, &name).unwrap(),
        Brought::Nothing
    );
    place.keep(&here, &name).unwrap();
    let rootfs = place.path("org/app/1.0/rootfs");
    let checked = Command::new("e2fsck").arg("-fn").arg(&rootfs).output();
    assert!(checked.unwrap().status.success());
    assert_eq!(fs_err::metadata(&rootfs).unwrap().len(), 8 << 20);
    let told = fs_err::read(place.path("org/app/1.0/metadata.json")).unwrap();
    let told: Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(told["Tag"], "org/app:1.0");
    assert_eq!(told["Type"], "rootfs");
    assert_eq!(told["CreatedAtUTC"], 1_620_000_000);
    assert_eq!(told["EntrypointInfo"]["Cmd"], json!(["first"]));
    let bring = |store| place.storage.bring_image(store, &name).unwrap();
    assert_eq!(bring(&here), Brought::Known);
    assert_eq!(bring(&there), Brought::Taken);
    assert_eq!(bring(&there), Brought::Known);
    assert_eq!(who(&there, &name), "first");
    let taken = firebuild_oci::find_image(&there, &name).unwrap().config;
    let was = firebuild_oci::find_image(&here, &name).unwrap().config;
    assert_eq!((taken.config, taken.created), (was.config, was.created));
    // Another one under the same name.
    image(&here, std::slice::from_ref(&name), "second");
    place.keep(&here, &name).unwrap();
    assert_eq!(bring(&there), Brought::Taken);
    assert_eq!(who(&there, &name), "second");
    assert_eq!(place.names(), ["org"]);
    let listed = place.storage.images(&here).unwrap();
    let [Ok(listed)] = &listed[..] else {
        panic!("{listed:?}")
    };
    assert_eq!(listed.name, name);
    assert_ne!(listed.digest, Some(digest));
}

/// Two who keep at once, and one who looks: there is always one of both, whole.
#[test]
fn two_at_once_never_mix() {
    let place = Storage::new();
    let stores = ["first", "second"].map(|who| {
        let store = place.store(who);
        image(&store, &[name("org/app:1")], who);
        store
    });
    place.keep(&stores[0], &name("org/app:1")).unwrap();
    let at = Place::of(&name("org/app:1")).unwrap();
    let root = place.path("");
    std::thread::scope(|scope| {
        let keeping = stores.each_ref().map(|store| {
            let place = &place;
            scope.spawn(move || {
                for _ in 0..25 {
                    place.keep(store, &name("org/app:1")).unwrap();
                }
            })
        });
        let mut looks = 0;
        while looks < 20
            || !keeping
                .iter()
                .all(std::thread::ScopedJoinHandle::is_finished)
        {
            looks += 1;
            let (_, found) = read::find(&root, &at).unwrap().unwrap();
            let looking = place.store(&format!("looking-{}", looks % 3));
            found.adopt(&looking, &name("org/app:1")).unwrap();
            // Its files and its metadata say the same.
            who(&looking, &name("org/app:1"));
        }
    });
    assert_eq!(place.names(), ["org"]);
    assert_eq!(fs_err::read_dir(place.path("org/app")).unwrap().count(), 1);
}

/// A place in a storage at which anything may be, a store that has nothing, and what would be good.
struct Hostile {
    storage: Storage,
    fresh: Store,
    directory: PathBuf,
    /// Beside the storage, where nothing of it may lead to.
    outside: PathBuf,
    sound: Value,
}

impl Hostile {
    fn new() -> Self {
        let storage = Storage::new();
        let store = storage.store("here");
        image(&store, &[name("org/app:1")], "kept");
        storage.keep(&store, &name("org/app:1")).unwrap();
        let (directory, outside) = (storage.path("org/app/1"), storage.folder.path().join("out"));
        fs_err::rename(&directory, &outside).unwrap();
        let sound = fs_err::read(outside.join(METADATA)).unwrap();
        Self {
            fresh: storage.store("fresh"),
            sound: serde_json::from_slice(&sound).unwrap(),
            storage,
            directory,
            outside,
        }
    }

    fn bring(&self) -> Result<Brought> {
        let name = name("org/app:1");
        self.storage.storage.bring_image(&self.fresh, &name)
    }

    fn clear(&self) {
        let _ = fs_err::remove_dir_all(&self.directory);
        let _ = fs_err::remove_file(&self.directory);
    }

    /// What is at the place has to be refused with these words.
    fn refused(&self, expected: &str) {
        let error = self.bring().unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert_eq!(self.fresh.tags().list().unwrap(), [], "{expected}");
    }

    fn link(&self, to: impl AsRef<Path>) {
        self.clear();
        symlink(to, &self.directory).unwrap();
    }

    fn write(&self, metadata: &[u8]) {
        self.clear();
        fs_err::create_dir(&self.directory).unwrap();
        fs_err::copy(self.outside.join(ROOTFS), self.directory.join(ROOTFS)).unwrap();
        fs_err::write(self.directory.join(METADATA), metadata).unwrap();
    }

    fn write_with(&self, change: impl Fn(&mut Value)) {
        let mut metadata = self.sound.clone();
        change(&mut metadata);
        self.write(metadata.to_string().as_bytes());
    }

    /// All is sound but for the lack of this part. The result is where it was.
    fn write_without(&self, part: &str) -> PathBuf {
        self.write_with(|_| ());
        let path = self.directory.join(part);
        fs_err::remove_file(&path).unwrap();
        path
    }
}

#[test]
fn what_leads_out_or_is_no_file_is_refused() {
    let hostile = Hostile::new();
    for to in [
        &*hostile.outside,
        Path::new("../../../out"),
        Path::new("../app/1"),
    ] {
        hostile.link(to);
        hostile.refused("leads out");
    }
    for part in [ROOTFS, METADATA] {
        let path = hostile.write_without(part);
        hostile.refused(&format!("has no `{part}`"));
        symlink(hostile.outside.join(part), &path).unwrap();
        hostile.refused("leads out");
        fs_err::remove_file(&path).unwrap();
        let fifo = Command::new("mkfifo").arg(&path).status();
        assert!(fifo.unwrap().success());
        hostile.refused("is not a regular file");
    }
    hostile.write_with(|_| ());
    fs_err::write(hostile.directory.join(ROOTFS), vec![0x5a; 1 << 20]).unwrap();
    hostile.refused("cannot take the root file system");
    hostile.write_with(|_| ());
    assert_eq!(hostile.bring().unwrap(), Brought::Taken);
}

#[test]
fn metadata_that_lie_are_refused() {
    let hostile = Hostile::new();
    for bytes in [&b"{"[..], "[".repeat(100_000).as_bytes(), b"{}"] {
        hostile.write(bytes);
        hostile.refused("cannot be understood");
    }
    hostile.write(&vec![b' '; 5 << 20]);
    hostile.refused("longer than 4 MiB");
    for other in [
        "org/app:2",
        "../../x:1",
        "/etc/passwd",
        "registry.example/org/app:1",
    ] {
        hostile.write_with(|metadata| {
            metadata["Tag"] = json!(other);
            metadata.as_object_mut().unwrap().remove("Firebuild");
        });
        hostile.refused("is about");
    }
    let parts = json!({"Org": "..", "Image": "/etc", "Version": ".."});
    let base = json!({"Type": "baseos", "Image": parts});
    hostile.write(base.to_string().as_bytes());
    hostile.refused("is about `..//etc:..`");
    hostile.write_with(|metadata| metadata["Firebuild"]["Name"] = json!("../x"));
    hostile.refused("cannot be understood");
    hostile.write_with(|metadata| metadata["Firebuild"]["Config"]["Cmd"] = json!(["a\u{0}b"]));
    hostile.refused("says what cannot be");
}

#[test]
fn links_within_the_storage_are_followed_and_none_that_lead_out_is_written_through() {
    let place = Storage::new();
    let store = place.store("here");
    let names = ["org/app:1", "out/app:1", "a/b/c:1", "a_b/c:1"].map(name);
    image(&store, &names, "kept");
    place.keep(&store, &names[0]).unwrap();
    let outside = place.folder.path().join("outside");
    fs_err::create_dir(&outside).unwrap();
    symlink(&outside, place.path("out")).unwrap();
    let error = place.keep(&store, &names[1]).unwrap_err();
    assert!(matches!(error, ProviderError::Outside(_)), "{error:?}");
    assert_eq!(fs_err::read_dir(&outside).unwrap().count(), 0);
    fs_err::remove_file(place.path("out")).unwrap();
    // What the original tool wrote under one name may be linked to by others.
    let told = json!({"Type": "baseos"}).to_string();
    fs_err::write(place.path("org/app/1/metadata.json"), told).unwrap();
    symlink("1", place.path("org/app/latest")).unwrap();
    let fresh = place.store("fresh");
    assert_eq!(
        place.storage.bring_image(&fresh, &name("org/app")).unwrap(),
        Brought::Taken
    );
    // Two names of one place.
    place.keep(&store, &names[2]).unwrap();
    let error = place.keep(&store, &names[3]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot keep `a_b/c:1`: its place is taken by `a/b/c:1`"
    );
    let bring = |name| place.storage.bring_image(&fresh, name).unwrap();
    assert_eq!(bring(&names[3]), Brought::Nothing);
    assert_eq!(bring(&names[2]), Brought::Taken);
    let pinned = format!("org/app:1@{}", Digest::of(b""));
    let error = place.keep(&store, &name(&pinned)).unwrap_err();
    assert!(matches!(error, ProviderError::NoTag(_)), "{error:?}");
}

#[test]
fn what_dead_processes_left_goes_and_what_living_ones_fill_stays() {
    let place = Storage::new();
    let store = place.store("here");
    image(&store, &[name("app:1")], "kept");
    for left in [".firebuild-dead", ".firebuild-alive", ".other"] {
        fs_err::create_dir_all(place.path(left)).unwrap();
        fs_err::write(place.path(left).join(ROOTFS), "half").unwrap();
    }
    let alive = fs_err::File::open(place.path(".firebuild-alive")).unwrap();
    rustix::fs::flock(&alive, rustix::fs::FlockOperation::LockExclusive).unwrap();
    place.keep(&store, &name("app:1")).unwrap();
    assert_eq!(place.names(), [".firebuild-alive", ".other", "_"]);
    assert_eq!(place.storage.images(&store).unwrap().len(), 1);
    let mode = fs_err::metadata(place.path("_/app/1/rootfs"))
        .unwrap()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn kernels_are_files_of_their_ids() {
    let place = Storage::new();
    let store = place.store("here");
    let id: KernelId = "vmlinux-v5.8".parse().unwrap();
    let bring = || place.storage.bring_kernel(&store, &id);
    assert_eq!(bring().unwrap(), Brought::Nothing);
    let kernels = place.folder.path().join("kernels");
    fs_err::create_dir(&kernels).unwrap();
    assert_eq!(bring().unwrap(), Brought::Nothing);
    symlink("/etc/passwd", kernels.join("vmlinux-v5.8")).unwrap();
    assert!(matches!(bring(), Err(ProviderError::Outside(_))));
    fs_err::remove_file(kernels.join("vmlinux-v5.8")).unwrap();
    fs_err::write(kernels.join("vmlinux-v5.8"), "no kernel").unwrap();
    assert!(matches!(bring(), Err(ProviderError::Kernel { .. })));
    assert_eq!(store.kernels().list().unwrap(), []);
}

#[test]
fn properties_are_known_ones() {
    let properties = |pairs: &[(&str, &str)]| {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Directory::new(&pairs.collect())
    };
    assert!(matches!(properties(&[]), Err(ProviderError::NoRoot)));
    assert!(matches!(
        properties(&[(ROOTFS_ROOT, "")]),
        Err(ProviderError::NoRoot)
    ));
    let error = properties(&[(ROOTFS_ROOT, "/x"), ("root", "/y")]).unwrap_err();
    assert_eq!(
        error.hint().as_deref(),
        Some("it has `rootfs-storage-root` and `kernel-storage-root`")
    );
    let kernels = properties(&[(KERNEL_ROOT, "/x")]).unwrap();
    let store = TempDir::new().unwrap();
    let store = Store::open(store.path()).unwrap();
    let bring = kernels.bring_image(&store, &name("a:1")).unwrap();
    assert_eq!(bring, Brought::Nothing);
}
