//! The client against registries that lie, break off, refuse, and lead astray.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use firebuild_core::{Digest, Platform, Reference};
use firebuild_store::Blob;
use firebuild_store::layout::{Descriptor, INDEX, Index, MANIFEST};

use super::retry::Sleep;
use super::{
    FixedLogin, Login, Options, Patience, PlainHttp, Pushed, Registry, RegistryError, Repository,
};
use crate::Trust;
use server::{Answer, Asked, Server};

#[path = "../../../../builder/src/fetch/testing.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
pub(crate) mod server;

mod blobs;
mod proof;
mod uploads;

/// A client whose pauses only are written down, in seconds.
pub(crate) struct Client {
    pub(crate) registry: Registry,
    pauses: Arc<Mutex<Vec<u64>>>,
}

pub(crate) fn client(change: impl FnOnce(&mut Options)) -> Client {
    let pauses = Arc::<Mutex<Vec<u64>>>::default();
    let log = Arc::clone(&pauses);
    let mut options = Options {
        certificates: Vec::new(),
        plain_http: PlainHttp::All,
        patience: Patience {
            pause: Duration::from_secs(1),
            attempts: 3,
            sleep: Sleep(Arc::new(move |time| {
                log.lock().unwrap().push(time.as_secs());
                Box::pin(std::future::ready(()))
            })),
            ..Patience::default()
        },
        ..Options::default()
    };
    change(&mut options);
    let registry = Registry::new(options);
    Client { registry, pauses }
}

fn plain() -> Client {
    client(|_| {})
}

fn with_login(server: &Server) -> Client {
    let login = Login::Password {
        user: "me".to_owned(),
        password: "hunter2".to_owned(),
    };
    let registry = registry_name(server);
    client(|options| options.logins = Arc::new(FixedLogin { registry, login }))
}

fn registry_name(server: &Server) -> String {
    format!("localhost:{}", server.port())
}

fn image(server: &Server) -> Reference {
    format!("{}/a/b:1", registry_name(server)).parse().unwrap()
}

fn repository(server: &Server) -> Repository {
    (&image(server)).into()
}

fn text(digits: u8, length: usize) -> Vec<u8> {
    (0..=250)
        .cycle()
        .take(length)
        .map(|byte: u8| byte ^ digits)
        .collect()
}

const SIMPLE: &[u8] = br#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"layers":[]}"#;

fn manifest() -> Answer {
    Answer::new("200 OK", &[("Content-Type", MANIFEST)], SIMPLE)
}

async fn read(client: &Client, server: &Server, bytes: &[u8]) -> Result<Vec<u8>, RegistryError> {
    let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
    let mut stream = client.registry.blob(&repository(server), digest, size);
    let mut read = Vec::new();
    while let Some(piece) = stream.next().await? {
        read.extend_from_slice(&piece);
    }
    Ok(read)
}

#[tokio::test]
async fn a_manifest_is_what_it_says() {
    let server = Server::start(|_| manifest());
    let found = plain().registry.manifest(&image(&server)).await.unwrap();
    assert_eq!(found.media_type, MANIFEST);
    assert_eq!(found.bytes, SIMPLE);
    assert_eq!(found.digest, Digest::of(SIMPLE));
    let asked = &server.asked()[0];
    assert_eq!(asked.path, "/v2/a/b/manifests/1");
    assert_eq!(asked.header("authorization"), None);
}

#[tokio::test]
async fn answers_that_are_no_manifest() {
    let big = vec![b' '; 5 << 20];
    let chunked = {
        let mut bytes = format!("{:x}\r\n", big.len()).into_bytes();
        bytes.extend(&big);
        bytes
    };
    let deep = "[".repeat(1 << 20);
    let json = |bytes: &[u8]| Answer::new("200 OK", &[("Content-Type", MANIFEST)], bytes);
    let wrong = Digest::of(b"other").to_string();
    for (answer, expected) in [
        (
            Answer::new("200 OK", &[("Content-Length", "1073741824")], b""),
            "image `{}` has more than 4194304 bytes",
        ),
        (
            Answer::new("200 OK", &[("Transfer-Encoding", "chunked")], &chunked),
            "image `{}` has more than 4194304 bytes",
        ),
        (
            json(deep.as_bytes()),
            "the manifest of image `{}` is not valid",
        ),
        (json(b"{\"schemaVersion\":1}"), "schema 1"),
        (json(b"nonsense"), "is not valid"),
        (
            Answer::new("200 OK", &[("Docker-Content-Digest", &wrong)], SIMPLE),
            "has the digest sha256:",
        ),
        (
            Answer::new(
                "200 OK",
                &[("Content-Type", "text/html; charset=utf-8")],
                b"<html>",
            ),
            "does not answer as a registry does: it sends a web page",
        ),
        (
            Answer::status("404 Not Found"),
            "the registry has no image `{}`",
        ),
        (
            Answer::new(
                "403 Forbidden",
                &[],
                b"{\"errors\":[{\"code\":\"DENIED\",\"message\":\"not\\u001b[31m yours\"}]}",
            ),
            "access to image `{}` is denied: not[31m yours",
        ),
        (
            Answer::new("418 Teapot", &[], &big),
            "the registry answers 418 when asked for image `{}`",
        ),
        (
            Answer::status("401 Unauthorized"),
            "wants credentials for image `{}`",
        ),
    ] {
        let server = Server::start(move |_| answer.clone());
        let image = image(&server);
        let error = plain().registry.manifest(&image).await.unwrap_err();
        let expected = expected.replace("{}", &image.familiar());
        assert!(error.to_string().contains(&expected), "{error}");
        assert_eq!(server.asked().len(), 1, "{error}");
    }
}

#[tokio::test]
async fn a_digest_is_held_against_the_bytes() {
    let server = Server::start(|_| manifest());
    let pinned = format!("{}/a/b:1@{}", registry_name(&server), Digest::of(b"other"));
    let pinned = pinned.parse().unwrap();
    let error = plain().registry.manifest(&pinned).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::WrongDigest { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn an_index_leads_to_the_platform() {
    let platform = |architecture: &str, variant: Option<&str>| Platform {
        architecture: architecture.to_owned(),
        os: "linux".to_owned(),
        variant: variant.map(str::to_owned),
    };
    let documents: BTreeMap<String, Vec<u8>> = ["amd64", "arm64", "arm64/v9"]
        .into_iter()
        .map(|name| {
            (
                name.to_owned(),
                format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","for":"{name}"}}"#)
                    .into_bytes(),
            )
        })
        .collect();
    let entry = |name: &str| {
        let (architecture, variant) = name
            .split_once('/')
            .map_or((name, None), |(a, v)| (a, Some(v)));
        let mut entry = Descriptor::new(MANIFEST, Digest::of(&documents[name]), 1);
        entry.platform = Some(platform(architecture, variant));
        entry
    };
    let index = Index {
        manifests: ["arm64/v9", "amd64", "arm64"].map(entry).into(),
        ..Index::default()
    };
    let by_digest: BTreeMap<String, Vec<u8>> = documents
        .values()
        .map(|bytes| (Digest::of(bytes).to_string(), bytes.clone()))
        .collect();
    let server = Server::start(move |asked| {
        let name = asked.path.rsplit('/').next().unwrap();
        match by_digest.get(name) {
            Some(bytes) => Answer::file(bytes),
            None => Answer::new(
                "200 OK",
                &[("Content-Type", INDEX)],
                &serde_json::to_vec(&index).unwrap(),
            ),
        }
    });
    let client = plain();
    for (wanted, name) in [
        (platform("amd64", None), "amd64"),
        (platform("arm64", None), "arm64"),
        (platform("arm64", Some("v9")), "arm64/v9"),
    ] {
        let found = client.registry.resolve(&image(&server), &wanted).await;
        assert_eq!(found.unwrap().bytes, documents[name]);
    }
    let error = client
        .registry
        .resolve(&image(&server), &platform("s390x", None))
        .await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.ends_with(
            "has nothing for linux/s390x; it has linux/amd64, linux/arm64, linux/arm64/v9"
        ),
        "{error}"
    );
}

#[tokio::test]
async fn redirections_end() {
    let server = Server::start(|asked| Answer::redirect(&format!("{}x", asked.path)));
    let error = plain()
        .registry
        .manifest(&image(&server))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("more than 10 times"), "{error}");
    assert_eq!(server.asked().len(), 11);
    let server = Server::start(|_| Answer::redirect("ftp://localhost/x"));
    let error = plain()
        .registry
        .manifest(&image(&server))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("not http or https"), "{error}");
}
