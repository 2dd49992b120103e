//! The client and Debian's `docker-registry`, with skopeo as the judge: what one writes, the others
//! read, byte for byte.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use firebuild_core::{Digest, Platform, Reference};
use firebuild_oci::Trust;
use firebuild_oci::registry::{
    FixedLogin, Login, Options, Pushed, Registry, RegistryError, Repository,
};
use firebuild_store::Blob;
use firebuild_store::layout::{CONFIG, LAYER, MANIFEST, Manifest};

use crate::docker_registry::{DockerRegistry, Guards};

fn client(change: impl FnOnce(&mut Options)) -> Registry {
    let mut options = Options {
        certificates: Vec::new(),
        ..Options::default()
    };
    change(&mut options);
    Registry::new(options)
}

/// A file's blob, and the file.
fn blob(directory: &Path, name: &str, bytes: &[u8]) -> (Blob, Arc<File>) {
    let path = directory.join(name);
    fs_err::write(&path, bytes).unwrap();
    let blob = Blob {
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
    };
    (
        blob,
        Arc::new(fs_err::File::open(path).unwrap().into_file()),
    )
}

/// An image: its configuration, and a layer whose content is of this many bytes.
fn parts(directory: &Path, size: usize) -> [(Blob, Arc<File>); 2] {
    let content: Vec<u8> = (0..=250).cycle().take(size).collect();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "file", &*content).unwrap();
    let layer = builder.into_inner().unwrap();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}},"config":{{}}}}"#,
        Digest::of(&layer)
    );
    [
        blob(directory, "config", config.as_bytes()),
        blob(directory, "layer", &layer),
    ]
}

async fn push_image(
    registry: &Registry,
    reference: &Reference,
    parts: &[(Blob, Arc<File>); 2],
    from: Option<&str>,
) -> Result<[Pushed; 2], RegistryError> {
    let repository = Repository::from(reference);
    let [config, layer] = parts;
    let first = registry
        .push_blob(&repository, config.0, &config.1, from, None)
        .await?;
    let second = registry
        .push_blob(&repository, layer.0, &layer.1, from, None)
        .await?;
    let manifest = Manifest::new(config.0.descriptor(CONFIG), vec![layer.0.descriptor(LAYER)]);
    let bytes = serde_json::to_vec(&manifest).unwrap();
    registry
        .push_manifest(reference, MANIFEST, bytes.into())
        .await?;
    Ok([first, second])
}

async fn read(registry: &Registry, reference: &Reference, blob: Blob) -> Vec<u8> {
    let mut stream = registry.blob(&reference.into(), blob.digest, blob.size);
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await.unwrap() {
        bytes.extend_from_slice(&piece);
    }
    bytes
}

fn skopeo(arguments: &[&str]) -> String {
    let output = Command::new("skopeo").args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn what_is_pushed_others_read() {
    let server = DockerRegistry::start();
    let directory = tempfile::tempdir().unwrap();
    // Once whole, and once in pieces.
    for (name, piece) in [("whole/a:1", 256 << 20), ("pieces/a:1", 300_000)] {
        let registry = client(|options| options.piece = piece);
        let reference: Reference = server.image(name).parse().unwrap();
        let parts = parts(
            directory.path(),
            1_000_000 + usize::try_from(piece % 7).unwrap(),
        );
        let pushed = push_image(&registry, &reference, &parts, None)
            .await
            .unwrap();
        assert_eq!(pushed, [Pushed::Sent, Pushed::Sent]);
        let again = push_image(&registry, &reference, &parts, None)
            .await
            .unwrap();
        assert_eq!(again, [Pushed::There, Pushed::There]);
        let layout = directory.path().join("layout");
        let (from, to) = (
            format!("docker://{reference}"),
            format!("dir:{}", layout.display()),
        );
        skopeo(&["copy", "--src-tls-verify=false", &from, &to]);
        for (part, _) in &parts {
            let path = layout.join(part.digest.hex());
            assert_eq!(Digest::of(&fs_err::read(path).unwrap()), part.digest);
        }
        let digest = registry.digest(&reference).await.unwrap().unwrap();
        let found = registry
            .resolve(&reference, &Platform::host())
            .await
            .unwrap();
        assert_eq!(found.digest, digest);
        let inspected = skopeo(&["inspect", "--tls-verify=false", &from]);
        assert!(inspected.contains(&digest.to_string()), "{inspected}");
    }
}

#[tokio::test]
async fn a_blob_is_taken_over_from_another_repository() {
    let server = DockerRegistry::start();
    let directory = tempfile::tempdir().unwrap();
    let (registry, parts) = (client(|_| {}), parts(directory.path(), 1000));
    let one: Reference = server.image("one/a:1").parse().unwrap();
    let other: Reference = server.image("other/b:1").parse().unwrap();
    push_image(&registry, &one, &parts, None).await.unwrap();
    let pushed = push_image(&registry, &other, &parts, Some("one/a"))
        .await
        .unwrap();
    assert_eq!(pushed, [Pushed::Mounted, Pushed::Mounted]);
    assert_eq!(
        read(&registry, &other, parts[0].0).await,
        read(&registry, &one, parts[0].0).await
    );
}

#[tokio::test]
async fn what_others_push_is_read() {
    let server = DockerRegistry::start();
    let directory = tempfile::tempdir().unwrap();
    let (registry, parts) = (client(|_| {}), parts(directory.path(), 3_000_000));
    let one: Reference = server.image("one/a:1").parse().unwrap();
    push_image(&registry, &one, &parts, None).await.unwrap();
    // Docker's own media types, and compressed layers.
    let other: Reference = server.image("two/a:1").parse().unwrap();
    skopeo(&[
        "copy",
        "--format=v2s2",
        "--dest-compress",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        &format!("docker://{one}"),
        &format!("docker://{other}"),
    ]);
    let found = registry.resolve(&other, &Platform::host()).await.unwrap();
    assert_eq!(found.media_type, firebuild_store::layout::DOCKER_MANIFEST);
    let manifest: Manifest = found.parse().unwrap();
    let repository = Repository::from(&other);
    let config = registry.small_blob(&repository, &manifest.config, 1 << 20);
    assert!(config.await.unwrap().starts_with(b"{"));
    for layer in manifest.layers {
        let blob = Blob {
            digest: layer.digest,
            size: layer.size,
        };
        assert_eq!(read(&registry, &other, blob).await.len() as u64, layer.size);
    }
    let absent = server.image("two/a:absent").parse().unwrap();
    let error = registry.manifest(&absent).await.unwrap_err();
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
}

/// A file of users as Apache's `htpasswd -B` writes it: `me`, whose password is `word`.
const USERS: &str = "me:$2y$05$VT4yentWkixgYv3VvN3x5.uoi2c1JOaMILRAmYS6ZfOnt0lC6N2Fq\n";

#[tokio::test]
async fn a_registry_with_passwords() {
    let directory = tempfile::tempdir().unwrap();
    let users = directory.path().join("users");
    fs_err::write(&users, USERS).unwrap();
    let server = DockerRegistry::guarded(Guards {
        htpasswd: Some(&users),
        ..Guards::default()
    });
    let parts = parts(directory.path(), 1000);
    let reference: Reference = server.image("a/b:1").parse().unwrap();
    let login = |password: &str| FixedLogin {
        registry: server.name(),
        login: Login::Password {
            user: "me".to_owned(),
            password: password.to_owned(),
        },
    };
    let right = client(|options| options.logins = Arc::new(login("word")));
    push_image(&right, &reference, &parts, None).await.unwrap();
    right.manifest(&reference).await.unwrap();
    let wrong = client(|options| options.logins = Arc::new(login("other")));
    for (registry, expected) in [
        (wrong, "does not accept the credentials"),
        (client(|_| {}), "wants credentials"),
    ] {
        let error = registry.manifest(&reference).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        let error = push_image(&registry, &reference, &parts, None)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_registry_with_certificates() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = directory.path().join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, text).unwrap();
        path
    };
    let make = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (server, user) = (make(), make());
    let certificate = write("server.pem", server.cert.pem());
    let key = write("server.key", server.signing_key.serialize_pem());
    let authority = write("clients.pem", user.cert.pem());
    let server = DockerRegistry::guarded(Guards {
        tls: Some((&certificate, &key)),
        clients: Some(&authority),
        ..Guards::default()
    });
    let own = format!("certs/{}", server.name());
    let authority = fs_err::read_to_string(&certificate).unwrap();
    write(&format!("{own}/ca.crt"), authority.clone());
    write(&format!("{own}/client.cert"), user.cert.pem());
    write(
        &format!("{own}/client.key"),
        user.signing_key.serialize_pem(),
    );
    let parts = parts(directory.path(), 1000);
    let reference: Reference = server.image("a/b:1").parse().unwrap();
    let known = client(|options| options.certificates = vec![directory.path().join("certs")]);
    push_image(&known, &reference, &parts, None).await.unwrap();
    let one = client(|options| {
        options.certificate_directory = Some(directory.path().join(&own));
    });
    one.manifest(&reference).await.unwrap();
    let trust = Trust::host().and_pem(authority.as_bytes(), "ca").unwrap();
    let nobody = client(|options| options.trust = trust);
    for registry in [client(|_| {}), nobody] {
        let error = registry.manifest(&reference).await.unwrap_err();
        assert!(matches!(error, RegistryError::Tls { .. }), "{error:?}");
    }
}

/// A command has several runtimes; connections that are kept belong to one.
#[test]
fn one_client_may_be_asked_from_several_runtimes() {
    let server = DockerRegistry::start();
    let directory = tempfile::tempdir().unwrap();
    let (registry, parts) = (client(|_| {}), parts(directory.path(), 1000));
    let reference: Reference = server.image("a/b:1").parse().unwrap();
    for _ in 0..5 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let pushing = push_image(&registry, &reference, &parts, None);
        runtime.block_on(pushing).unwrap();
    }
}
