//! Names of images, and the layout as other tools see it.

use std::process::Command;

use firebuild_core::Reference;
use firebuild_store::{Error, Store};

use crate::{child_root, image, reference, spawn, store};

fn tagged(store: &Store) -> Vec<String> {
    let tags = store.tags().list().unwrap().into_iter();
    tags.map(|tag| tag.reference.map_or("-".to_owned(), |r| r.familiar()))
        .collect()
}

#[test]
fn names_move_and_go() {
    let (_directory, store) = store();
    let lease = store.lease().unwrap();
    let (one, two) = (image(&lease, b"1"), image(&lease, b"2"));
    let tags = store.tags();
    tags.set(&reference("a"), one.clone()).unwrap();
    tags.set(&reference("b:x"), one.clone()).unwrap();
    tags.set(&reference("a"), two.clone()).unwrap();
    assert_eq!(tagged(&store), ["a:latest", "b:x"]);
    let found = tags.get(&reference("docker.io/library/a:latest")).unwrap();
    assert_eq!(found.unwrap().digest, two.digest);
    assert_eq!(tags.get(&reference("a:other")).unwrap(), None);

    let pinned = reference(&format!("anything@{}", one.digest));
    assert_eq!(tags.get(&pinned).unwrap().unwrap().digest, one.digest);
    assert!(matches!(
        tags.set(&pinned, two.clone()),
        Err(Error::WrongDigest { .. })
    ));

    tags.keep(two.clone()).unwrap();
    assert_eq!(tagged(&store), ["a:latest", "b:x"]);
    assert!(tags.remove(&reference("a")).unwrap().is_some());
    assert_eq!(tags.remove(&reference("a")).unwrap(), None);
    tags.keep(two.clone()).unwrap();
    assert_eq!(tagged(&store), ["b:x", "-"]);
    tags.set(&reference("again"), two.clone()).unwrap();
    assert_eq!(tagged(&store), ["b:x", "again:latest"]);
    assert!(tags.remove_digest(&two.digest).unwrap());
    assert_eq!(tagged(&store), ["b:x"]);
}

#[test]
fn what_is_not_in_the_store_gets_no_name() {
    let (_directory, store) = store();
    let (_other, elsewhere) = crate::store();
    let manifest = image(&elsewhere.lease().unwrap(), b"1");
    let result = store.tags().set(&reference("a"), manifest);
    assert!(matches!(result, Err(Error::NoBlob(_))));
}

#[test]
fn what_others_wrote_into_the_index_stays() {
    let (_directory, store) = store();
    let lease = store.lease().unwrap();
    let manifest = image(&lease, b"1");
    let path = store.layout_path().join("index.json");
    let theirs = serde_json::json!({"schemaVersion": 2, "subject": {"x": 1}, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 2,
        "digest": manifest.digest, "urls": ["u"], "annotations": {"k": "v"}}]});
    fs_err::write(&path, theirs.to_string()).unwrap();
    store.tags().set(&reference("a"), manifest.clone()).unwrap();
    store.tags().remove(&reference("a")).unwrap();
    store.tags().keep(image(&lease, b"2")).unwrap();
    let bytes = fs_err::read(&path).unwrap();
    let ours: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(ours["subject"], theirs["subject"]);
}

#[test]
fn a_damaged_index_is_an_error_that_names_it() {
    let (_directory, store) = store();
    let path = store.layout_path().join("index.json");
    fs_err::write(&path, b"not json").unwrap();
    let error = store.tags().list().unwrap_err();
    assert!(error.to_string().contains("index.json"), "{error}");
}

#[test]
fn fifty_processes_lose_no_name() {
    const PROCESSES: usize = 50;
    if let Some(root) = child_root() {
        let store = Store::open(&root).unwrap();
        let lease = store.lease().unwrap();
        let id = std::process::id();
        let manifest = image(&lease, id.to_string().as_bytes());
        for number in 0..3 {
            let name = reference(&format!("p{id}:{number}"));
            store.tags().set(&name, manifest.clone()).unwrap();
        }
        store
            .tags()
            .remove(&reference(&format!("p{id}:2")))
            .unwrap();
        return;
    }
    let (directory, store) = store();
    let name = "images::fifty_processes_lose_no_name";
    let children: Vec<_> = (0..PROCESSES)
        .map(|_| spawn(name, directory.path()))
        .collect();
    let mut expected = Vec::new();
    for mut child in children {
        for tag in ["0", "1"] {
            expected.push(format!("p{}:{tag}", child.id()));
        }
        assert!(child.wait().unwrap().success());
    }
    let mut names = tagged(&store);
    names.sort();
    expected.sort();
    assert_eq!(names, expected);
    store.collect().unwrap();
    for tag in store.tags().list().unwrap() {
        let manifest = store.manifest(&tag.descriptor.digest).unwrap();
        assert!(store.has_blob(&manifest.layers[0].digest).unwrap());
    }
}

#[test]
fn writers_and_collections_at_once_lose_nothing() {
    const PROCESSES: usize = 10;
    if let Some(root) = child_root() {
        let id = std::process::id();
        let name = reference(&format!("p{id}:x"));
        let other = reference(&format!("p{id}:y"));
        for round in 0..10 {
            let store = Store::open(&root).unwrap();
            let lease = store.lease().unwrap();
            let manifest = image(&lease, format!("{id} {round}").as_bytes());
            store.tags().set(&name, manifest).unwrap();
            drop(lease);
            store.collect().unwrap();
            let found = store.tags().get(&name).unwrap().unwrap();
            store.tags().set(&other, found).unwrap();
            store.tags().remove(&name).unwrap();
            store.collect().unwrap();
            let found = store.tags().get(&other).unwrap().unwrap();
            let manifest = store.manifest(&found.digest).unwrap();
            for digest in [manifest.config.digest, manifest.layers[0].digest] {
                assert!(store.has_blob(&digest).unwrap());
            }
        }
        return;
    }
    let (directory, store) = store();
    let name = "images::writers_and_collections_at_once_lose_nothing";
    let children: Vec<_> = (0..PROCESSES)
        .map(|_| spawn(name, directory.path()))
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(store.tags().list().unwrap().len(), PROCESSES);
    store.collect().unwrap();
    // A manifest and a layer for each, and the one configuration of all.
    let blobs = crate::names(&store.layout_path().join("blobs/sha256"));
    assert_eq!(blobs.len(), 2 * PROCESSES + 1);
}

#[test]
fn skopeo_finds_every_form_of_name() {
    let (_directory, store) = store();
    let lease = store.lease().unwrap();
    let config = br#"{"architecture":"amd64","os":"linux","config":{"Env":["A=1"]},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let config = lease.put(config).unwrap();
    let manifest = firebuild_store::layout::Manifest::new(
        config.descriptor(firebuild_store::layout::CONFIG),
        Vec::new(),
    );
    let manifest = lease.put(&serde_json::to_vec(&manifest).unwrap()).unwrap();
    let manifest = manifest.descriptor(firebuild_store::layout::MANIFEST);
    for text in [
        "debian:bookworm-slim",
        "localhost:5000/a/b:1.0",
        "ghcr.io/x/y-z:v1",
    ] {
        let name: Reference = reference(text);
        store.tags().set(&name, manifest.clone()).unwrap();
        let output = Command::new("skopeo")
            .arg("inspect")
            .arg(format!("oci:{}:{name}", store.layout_path().display()))
            .output()
            .expect("skopeo is installed");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("\"A=1\""), "{text}");
        assert!(text.contains(&manifest.digest.to_string()), "{text}");
    }
}
