//! Registries that lie: each is an error, within bounds of time and memory, and nothing of what they
//! said is in the store.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firebuild_core::Digest;
use serde_json::{Value, json};

use crate::server::{Answer, Server};
use crate::session;
use crate::session::{Outcome, Session};

/// What a pull may take, address space and all: shared libraries, threads' stacks, buffers.
const MOST_KIBIBYTES: u32 = 1 << 20;
/// What it may take resident.
const MOST_RESIDENT: u64 = 96 << 10;
/// How long it may take, on a machine that is busy with other tests.
const LONGEST: Duration = Duration::from_secs(20);

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What a registry answers, by the last part of what it is asked for.
type Answers = BTreeMap<String, Answer>;

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    let (digest, size) = (Digest::of(bytes).to_string(), bytes.len());
    json!({ "mediaType": media_type, "digest": digest, "size": size })
}

fn manifest(config: &Value, layers: &[Value]) -> Vec<u8> {
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
    manifest.to_string().into_bytes()
}

fn named(media_type: &str, bytes: &[u8]) -> Answer {
    Answer::new("200 OK", &[("Content-Type", media_type)], bytes)
}

/// A registry whose image is this manifest, with these blobs.
fn image(manifest: &[u8], blobs: &[&[u8]]) -> Answers {
    let blobs = blobs
        .iter()
        .map(|bytes| (digest_of(bytes), Answer::file(bytes)));
    blobs
        .chain([("1".to_owned(), named(MANIFEST, manifest))])
        .collect()
}

fn digest_of(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

/// A configuration of layers with these diff ids.
fn config(diff_ids: &[String]) -> Vec<u8> {
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "config": {},
    });
    config.to_string().into_bytes()
}

/// An image of one layer of which the manifest says this.
fn of_layer(layer: Value, answer: (String, Answer)) -> Answers {
    let config = config(&[digest_of(b"the layer")]);
    let manifest = manifest(&descriptor(CONFIG, &config), &[layer]);
    let mut answers = image(&manifest, &[&config]);
    answers.insert(answer.0, answer.1);
    answers
}

/// Indexes in indexes, each of the next.
fn nested() -> Answers {
    let mut answers = Answers::new();
    let mut inner = manifest(&descriptor(CONFIG, b"{}"), &[]);
    let mut kind = MANIFEST;
    for _ in 0..100 {
        answers.insert(digest_of(&inner), named(kind, &inner));
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(kind, &inner)] });
        (inner, kind) = (index.to_string().into_bytes(), INDEX);
    }
    answers.insert("1".to_owned(), named(INDEX, &inner));
    answers
}

/// Lies about documents.
fn documents() -> Vec<(&'static str, Answers, &'static str)> {
    let deep = "[".repeat(4_000_000).into_bytes();
    let wide = format!("[{}0]", "0,".repeat(2_000_000)).into_bytes();
    let small = config(&[]);
    let layer = descriptor(LAYER, b"layer");
    let many = manifest(&descriptor(CONFIG, &small), &vec![layer.clone(); 20_000]);
    let ids = config(&vec![digest_of(b"x"); 50_000]);
    let annotated = {
        let entries = (0..100_000).map(|number| (number.to_string(), json!("")));
        let annotations: serde_json::Map<String, Value> = entries.collect();
        let config = descriptor(CONFIG, &ids);
        json!({ "schemaVersion": 2, "config": config, "layers": [], "annotations": annotations })
    };
    let with_config = |bytes: &[u8]| {
        let manifest = manifest(&descriptor(CONFIG, bytes), std::slice::from_ref(&layer));
        image(&manifest, &[bytes])
    };
    let one = |answer: Answer| Answers::from([("1".to_owned(), answer)]);
    let gigabyte = Answer::new(
        "200 OK",
        &[("Content-Type", MANIFEST), ("Content-Length", "1073741824")],
        b"{",
    );
    let endless_config = {
        let mut answers = with_config(b"{}");
        answers.insert(digest_of(b"{}"), Answer::endless(&[]));
        answers
    };
    vec![
        ("a manifest of 1 GB", one(gigabyte), "has more than 4194304"),
        (
            "an endless manifest",
            one(Answer::endless(&[("Content-Type", MANIFEST)])),
            "has more than 4194304",
        ),
        (
            "a deep manifest",
            one(named(MANIFEST, &deep)),
            "is not valid",
        ),
        (
            "a wide manifest",
            one(named(MANIFEST, &wide)),
            "is not valid",
        ),
        ("many layers", image(&many, &[&small]), "20000"),
        (
            "many annotations",
            image(annotated.to_string().as_bytes(), &[&ids]),
            "lists 50000 layers, but the manifest 0",
        ),
        ("indexes in indexes", nested(), "which is no image"),
        ("a deep configuration", with_config(&deep), "is not valid"),
        ("a wide configuration", with_config(&wide), "is not valid"),
        ("many diff ids", with_config(&ids), "lists 50000 layers"),
        ("an endless configuration", endless_config, "bytes"),
    ]
}

/// Lies about layers.
fn layers() -> Vec<(&'static str, Answers, &'static str)> {
    let layer = digest_of(b"layer");
    let sized = |size: u64| json!({ "mediaType": LAYER, "digest": layer, "size": size });
    let lie = |size, answer| of_layer(sized(size), (layer.clone(), answer));
    vec![
        (
            "an endless layer",
            lie(3 << 20, Answer::endless(&[])),
            "bytes, but 3145728 were expected",
        ),
        (
            "a layer that is longer",
            lie(5, Answer::file(b"layers")),
            "has 6 bytes, but 5 were expected",
        ),
        (
            "a layer that is shorter",
            lie(6, Answer::file(b"layer")),
            "has 5 bytes, but 6 were expected",
        ),
        (
            "other bytes",
            lie(5, Answer::file(b"other")),
            "has the digest",
        ),
        (
            "a layer of the largest length",
            lie(u64::MAX, Answer::file(b"layer")),
            "larger than the limit",
        ),
        (
            "a layer that is somewhere else, again and again",
            lie(5, Answer::redirect(&format!("/v2/a/blobs/{layer}"))),
            "redirects more than 10 times",
        ),
    ]
}

/// Pulls within bounds. Returns how it ended, and the most that was resident, in KiB.
fn pull(session: &Session, name: &str) -> (Outcome, u64) {
    let program = session.command(&["pull", "--plain-http", name]);
    let measured = session.path("memory");
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(format!("ulimit -v {MOST_KIBIBYTES}; exec \"$@\""))
        .args(["sh", "/usr/bin/time", "-q", "-f", "%M", "-o"])
        .arg(&measured)
        .arg(program.get_program())
        .args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let outcome = Outcome::of(shell.current_dir(session.path("")));
    let kibibytes = fs_err::read_to_string(measured).unwrap();
    (outcome, kibibytes.trim().parse().unwrap())
}

fn check((what, answers, expected): (&str, Answers, &str)) {
    let answers = Arc::new(answers);
    let server = Server::start(move |asked| {
        let name = asked.path.rsplit('/').next().unwrap();
        let found = answers.get(name).cloned();
        found.unwrap_or_else(|| Answer::status("404 Not Found"))
    });
    let (session, _root) = session();
    let began = Instant::now();
    let (outcome, kibibytes) = pull(&session, &format!("localhost:{}/a:1", server.port()));
    let took = began.elapsed();
    assert_eq!(outcome.status, 125, "{what}: {outcome}");
    assert!(outcome.stderr.contains(expected), "{what}: {outcome}");
    assert!(kibibytes < MOST_RESIDENT, "{what}: {kibibytes} KiB");
    assert!(took < LONGEST, "{what}: {took:?}");
    for folder in ["images/blobs/sha256", "partial", "tmp", "layers", "rootfs"] {
        let left = fs_err::read_dir(session.root().join("v1").join(folder)).unwrap();
        assert_eq!(left.count(), 0, "{what}: {folder}");
    }
    assert_eq!(
        session.json(&["image", "ls", "--format", "json"]),
        json!([])
    );
}

#[test]
fn lies_in_documents_cost_little_and_leave_nothing() {
    documents().into_iter().for_each(check);
}

#[test]
fn lies_about_layers_cost_little_and_leave_nothing() {
    layers().into_iter().for_each(check);
}
