//! Registries: Debian's `docker-registry` on loopback is the other side.

use std::os::unix::fs::PermissionsExt as _;

use crate::docker_registry::{DockerRegistry, Guards};
use crate::session;
use crate::session::{Outcome, Session};

const TEXT: &str = "FROM scratch AS beside\nCOPY one /dir/beside\nFROM scratch\nCOPY two /two\nCOPY --from=beside /dir/beside /\n";

/// A machine with a context.
fn machine() -> (Session, tempfile::TempDir) {
    let (session, root) = session();
    session.write("context/one", "1");
    session.write("context/two", "2");
    (session, root)
}

fn steps(session: &Session) -> usize {
    let listed = session.json(&["build", "cache", "ls", "--format", "json"]);
    listed.as_array().unwrap().len()
}

#[test]
fn a_cache_goes_through_a_registry() {
    let server = DockerRegistry::start();
    let name = server.image("team/cache:main");
    let (here, _root) = machine();
    let to = |mode: &str| format!("type=registry,ref={name},mode={mode}");
    let first = here
        .build(TEXT, &["--cache-from", &name, "--cache-to", &to("min")])
        .success();
    let expected = format!("there is no cache in `{name}` yet");
    assert!(first.stderr.contains(&expected), "{first}");
    for (mode, results) in [("min", 2), ("max", 3)] {
        let exported = here.build(TEXT, &["--cache-to", &to(mode)]).success();
        let expected = format!("wrote {results} results to the cache `{name}`");
        assert!(exported.stderr.contains(&expected), "{exported}");
        let (there, _other) = machine();
        let imported = there.build(TEXT, &["--cache-from", &name]).success();
        assert_eq!(imported.stdout, first.stdout, "{imported}");
        let known = imported.stderr.matches("] cached").count();
        assert_eq!((known, steps(&there)), (results, 3), "{imported}");
    }
}

#[test]
fn a_layer_is_fetched_only_when_a_step_needs_it() {
    let server = DockerRegistry::start();
    let name = server.image("cache");
    let to = format!("type=registry,ref={name},mode=max");
    let (here, _root) = machine();
    here.build(TEXT, &["--cache-to", &to]).success();
    let (there, _other) = machine();
    let other = "FROM scratch\nCOPY one /elsewhere\n";
    let built = there.build(other, &["--cache-from", &name]).success();
    assert_eq!(built.stderr.matches("] cached").count(), 0, "{built}");
    let blobs = there.root().join("v1/images/blobs/sha256");
    // A layer, a configuration, a manifest.
    assert_eq!(fs_err::read_dir(blobs).unwrap().count(), 3);
}

#[test]
fn a_cache_that_is_away_stops_nobody() {
    let gone = DockerRegistry::start();
    let name = gone.image("cache");
    drop(gone);
    let (here, _root) = machine();
    let built = here
        .build(TEXT, &["--cache-from", &name, "-t", "a:1"])
        .success();
    let expected = format!("warning: the cache `{name}:latest` cannot be used: no connection");
    assert!(built.stderr.contains(&expected), "{built}");
    // What could not be written is an error, after the build.
    let failed = here
        .build(TEXT, &["--cache-to", &name, "-t", "a:2"])
        .failure();
    assert!(
        failed.contains("the image is built, but its cache could not be written"),
        "{failed}"
    );
    here.ok(&["image", "inspect", "a:2"]);
    let to = format!("type=registry,ref={name},ignore-error=true");
    let told = here.build(TEXT, &["--cache-to", &to]).success();
    assert!(told.stderr.contains("cannot be written"), "{told}");
}

#[test]
fn a_registry_that_lies_is_asked_no_more() {
    let server = DockerRegistry::start();
    let name = server.image("cache");
    let (here, _root) = machine();
    here.build(
        TEXT,
        &["--cache-to", &format!("type=registry,ref={name},mode=max")],
    )
    .success();
    let layout = here.path("layout");
    let copied = Outcome::of(std::process::Command::new("skopeo").args([
        "copy",
        "--src-tls-verify=false",
        &format!("docker://{name}"),
        &format!("dir:{}", layout.display()),
    ]));
    copied.success();
    let manifest = fs_err::read(layout.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        let digest = layer["digest"].as_str().unwrap();
        let path = server.blob(digest.strip_prefix("sha256:").unwrap());
        let size = usize::try_from(layer["size"].as_u64().unwrap()).unwrap();
        fs_err::write(path, vec![7; size]).unwrap();
    }
    let (there, _other) = machine();
    let built = there.build(TEXT, &["--cache-from", &name]).success();
    let warnings = built.stderr.matches("is not asked any more").count();
    assert_eq!(warnings, 1, "{built}");
    assert!(built.stderr.contains("has the digest"), "{built}");
    assert_eq!(
        fs_err::read_dir(there.root().join("v1/tmp"))
            .unwrap()
            .count(),
        0
    );
}

/// A file of users as Apache's `htpasswd -B` writes it: `me`, whose password is `word`.
const USERS: &str = "me:$2y$05$VT4yentWkixgYv3VvN3x5.uoi2c1JOaMILRAmYS6ZfOnt0lC6N2Fq\n";

#[test]
fn who_is_logged_in_elsewhere_is_known_here() {
    let (here, _root) = machine();
    let users = here.write("users", USERS);
    let server = DockerRegistry::guarded(Guards {
        htpasswd: Some(&users),
        ..Guards::default()
    });
    let name = server.image("cache");
    let program = here.write(
        "bin/docker-credential-here",
        "#!/bin/sh\nread name\necho \"{\\\"ServerURL\\\":\\\"$name\\\",\\\"Username\\\":\\\"me\\\",\\\"Secret\\\":\\\"word\\\"}\"\n",
    );
    fs_err::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let registry = server.name();
    here.write("context/Dockerfile", TEXT);
    for (config, fits) in [
        (
            format!(r#"{{"auths":{{"{registry}":{{"auth":"bWU6d29yZA=="}}}}}}"#),
            true,
        ),
        (
            format!(r#"{{"credHelpers":{{"{registry}":"here"}}}}"#),
            true,
        ),
        (r#"{"credsStore":"here"}"#.to_owned(), true),
        (
            format!(r#"{{"auths":{{"{registry}":{{"auth":"bWU6b3RoZXI="}}}}}}"#),
            false,
        ),
        ("{}".to_owned(), false),
    ] {
        here.write("docker/config.json", &config);
        let path = std::env::var_os("PATH").unwrap();
        let path = std::env::join_paths(
            std::iter::once(here.path("bin")).chain(std::env::split_paths(&path)),
        );
        let mut command = here.command(&["build", "--cache-to", &name, "context"]);
        command
            .env("DOCKER_CONFIG", here.path("docker"))
            .env("PATH", path.unwrap())
            .env_remove("REGISTRY_AUTH_FILE");
        let outcome = Outcome::of(&mut command);
        assert_eq!(outcome.status == 0, fits, "{config}: {outcome}");
        assert!(!outcome.stderr.contains("word"), "{outcome}");
        assert_eq!(outcome.stderr.contains("credentials"), !fits, "{outcome}");
    }
}
