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

/// What others say of an image in a registry, by its digest.
fn skopeo(arguments: &[&str]) -> String {
    let mut command = std::process::Command::new("skopeo");
    Outcome::of(command.args(arguments)).success().stdout
}

/// How often a registry was asked for blobs.
fn asked_for_blobs(server: &DockerRegistry) -> usize {
    server
        .log()
        .iter()
        .filter(|line| line.contains("http.request.method=GET") && line.contains("/blobs/"))
        .count()
}

#[test]
fn an_image_goes_out_and_comes_back() {
    let server = DockerRegistry::start();
    let (here, _root) = machine();
    here.build(TEXT, &["-t", "app:1"]).success();
    let config = here.json(&["image", "inspect", "app:1"])["ConfigDigest"].clone();
    for compression in ["gzip", "zstd", "none"] {
        let name = server.image(&format!("team/app-{compression}:1"));
        let pushed = here
            .run(&["push", "app:1", &name, "--compression", compression])
            .success();
        let digest = pushed.stdout.trim_end();
        assert!(
            pushed.stderr.contains("0 of 2 layers were there"),
            "{pushed}"
        );
        let again = here
            .run(&["push", "app:1", &name, "--compression", compression])
            .success();
        assert_eq!(again.stdout, pushed.stdout);
        assert!(again.stderr.contains("2 of 2 layers were there"), "{again}");
        let raw = skopeo(&[
            "inspect",
            "--tls-verify=false",
            "--raw",
            &format!("docker://{name}"),
        ]);
        assert!(raw.contains(config.as_str().unwrap()), "{raw}");
        let (there, _other) = session();
        let pulled = there.run(&["pull", &name]).success();
        assert_eq!(pulled.stdout.trim_end(), digest);
        let inspected = there.json(&["image", "inspect", &name]);
        assert_eq!(inspected["ConfigDigest"], config);
        let tar = |session: &Session, image: &str| {
            session.ok(&[
                "image",
                "export",
                image,
                "--type",
                "rootfs-tar",
                "-o",
                "out.tar",
            ]);
            fs_err::read(session.path("out.tar")).unwrap()
        };
        assert!(tar(&there, &name) == tar(&here, "app:1"), "{compression}");
        // What came and goes again is byte for byte the same.
        let other = server.image(&format!("other/{compression}:1"));
        let again = there
            .run(&["push", &name, &other, "--compression", compression])
            .success();
        assert_eq!(again.stdout.trim_end(), digest);
        assert!(again.stderr.contains("2 of 2 layers were there"), "{again}");
        // It is known by the digest that the registry has for it.
        let pinned = format!("{}@{digest}", name.rsplit_once(':').unwrap().0);
        there.ok(&["image", "inspect", &pinned]);
    }
}

#[test]
fn what_is_there_is_not_pulled_again() {
    let server = DockerRegistry::start();
    let (here, _root) = machine();
    here.build(TEXT, &["-t", "app:1"]).success();
    let name = server.image("app:1");
    here.ok(&["push", "app:1", &name]);
    let (there, _other) = machine();
    there.ok(&["pull", &name]);
    let before = asked_for_blobs(&server);
    assert_eq!(before, 3);
    // A proxy is for others than this host.
    let mut again = there.command(&["pull", &name]);
    for variable in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"] {
        again.env(variable, "http://127.0.0.1:1");
    }
    let again = Outcome::of(again.env_remove("NO_PROXY").env_remove("no_proxy")).success();
    assert!(
        again.stderr.contains("is here as the registry has it"),
        "{again}"
    );
    assert_eq!(asked_for_blobs(&server), before);
    // Of another image only what is not here.
    here.write("context/two", "another two");
    here.build(TEXT, &["-t", "app:1"]).success();
    here.ok(&["push", "app:1", &name]);
    there.ok(&["pull", &name]);
    let blobs = there.json(&["image", "inspect", &name])["Layers"].clone();
    assert_eq!(blobs.as_array().unwrap().len(), 2);
    assert!(asked_for_blobs(&server) <= before + 3);
}

#[test]
fn layers_on_their_way_are_told_of() {
    let server = DockerRegistry::start();
    let (here, _root) = machine();
    here.build(TEXT, &["-t", "app:1"]).success();
    let name = server.image("app:1");
    let pushed = here.run(&["push", "app:1", &name]).success();
    let lines = |outcome: &Outcome, start: &str| {
        let lines = outcome.stderr.lines();
        lines.filter(|line| line.starts_with(start)).count()
    };
    assert_eq!(lines(&pushed, "sending layer "), 2, "{pushed}");
    assert_eq!(lines(&pushed, "sent layer "), 2, "{pushed}");
    let again = here.run(&["push", "app:1", &name]).success();
    assert_eq!(lines(&again, "layer "), 2, "{again}");
    assert!(again.stderr.contains(" is there\n"), "{again}");
    let (there, _other) = session();
    let pulled = there.run(&["pull", &name]).success();
    assert_eq!(lines(&pulled, "fetching layer "), 2, "{pulled}");
    assert_eq!(lines(&pulled, "fetched layer "), 2, "{pulled}");
    // And so for programs.
    let (third, _another) = session();
    for (session, command, expected) in [
        (
            &third,
            &["pull", "--progress", "json", &name][..],
            "fetched",
        ),
        (
            &here,
            &["push", "--progress", "json", "app:1", &name],
            "sent",
        ),
    ] {
        let told = session.run(command).success();
        let events = told.stderr.lines().map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            event["event"].as_str().unwrap().to_owned()
        });
        let events: Vec<String> = events.collect();
        let count = events.iter().filter(|event| *event == expected).count();
        assert_eq!(count, 2, "{told}");
        assert_eq!(events.last().unwrap(), "note", "{told}");
    }
}

#[test]
fn what_was_pushed_is_not_compressed_again() {
    let (server, other) = (DockerRegistry::start(), DockerRegistry::start());
    let (here, _root) = machine();
    here.build(TEXT, &["-t", "app:1"]).success();
    let name = server.image("app:1");
    let pushed = here.run(&["push", "app:1", &name]).success();
    // Elsewhere it is not, so it is compressed for that.
    let elsewhere = here
        .run(&["push", "app:1", &other.image("app:1")])
        .success();
    assert_eq!(elsewhere.stdout, pushed.stdout);
    // Whoever read the layers now would find other ones.
    let image = here.json(&["image", "inspect", "app:1"]);
    for layer in image["Layers"].as_array().unwrap() {
        let hex = layer["Digest"].as_str().unwrap().replace("sha256:", "");
        let blob = here.root().join("v1/images/blobs/sha256").join(hex);
        let size = usize::try_from(fs_err::metadata(&blob).unwrap().len()).unwrap();
        fs_err::write(blob, vec![7; size]).unwrap();
    }
    let again = here.run(&["push", "app:1", &name]).success();
    assert_eq!(again.stdout, pushed.stdout);
    assert!(again.stderr.contains("2 of 2 layers were there"), "{again}");
}

#[test]
fn a_layer_is_mounted_from_another_repository() {
    let server = DockerRegistry::start();
    let (here, _root) = machine();
    let (base, app) = (server.image("base:1"), server.image("app:1"));
    here.build("FROM scratch\nCOPY one /one\n", &["-t", &base])
        .success();
    here.ok(&["push", &base]);
    here.build(&format!("FROM {base}\nCOPY two /two\n"), &["-t", &app])
        .success();
    let pushed = here.run(&["push", &app]).success();
    assert!(
        pushed.stderr.contains("1 of 2 layers were there"),
        "{pushed}"
    );
}

#[test]
fn bases_are_pulled() {
    let server = DockerRegistry::start();
    let (here, _root) = machine();
    let (base, other) = (server.image("base:1"), server.image("other:1"));
    for (name, file) in [(&base, "one"), (&other, "two")] {
        here.build(
            &format!("FROM scratch\nCOPY {file} /{file}\n"),
            &["-t", name],
        )
        .success();
        here.ok(&["push", name]);
    }
    let text = format!("FROM {base}\nCOPY --from={other} /two /two\n");
    here.build(&text, &["-t", "all:1"]).success();
    let (there, _root) = machine();
    let built = there
        .build(&text, &["--pull=missing", "-t", "all:1"])
        .success();
    // The images may be of different seconds; what is in them is the same.
    let files = |session: &Session| {
        let inspected = session.json(&["image", "inspect", "all:1"]);
        inspected["Config"]["rootfs"]["diff_ids"].clone()
    };
    assert_eq!(files(&there), files(&here));
    for name in [&base, &other] {
        assert!(
            built.stderr.contains(&format!("pulling `{name}`")),
            "{built}"
        );
    }
    let again = there.build(&text, &["--pull=missing"]).success();
    assert!(!again.stderr.contains("pulling"), "{again}");
    // What the registry has now counts where that is said.
    here.write("context/one", "another one");
    here.build("FROM scratch\nCOPY one /one\n", &["-t", &base])
        .success();
    here.ok(&["push", &base]);
    let newer = there.build(&text, &["--pull"]).success();
    assert_ne!(newer.stdout, built.stdout);
    // Without encryption at once, where that is said: `localhost` by another name.
    let named = base.replace("localhost", "127.0.0.1");
    let arguments = [
        "--pull=missing",
        "--plain-http",
        named.split('/').next().unwrap(),
    ];
    there
        .build(&format!("FROM {named}\n"), &arguments)
        .success();
    let absent = server.image("absent:1");
    let error = there
        .build(&format!("FROM {absent}\n"), &["--pull=missing"])
        .failure();
    assert!(
        error.contains("cannot be pulled") && error.contains("the registry has no image"),
        "{error}"
    );
}

#[test]
fn a_pull_that_breaks_off_goes_on() {
    let (here, _root) = machine();
    let server = DockerRegistry::start();
    let name = server.image("app:1");
    // Enough that it is still on its way when it is killed, and not compressible.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    })
    .take(40 << 20)
    .collect();
    here.write("context/one", noise);
    here.build(TEXT, &["-t", &name]).success();
    here.ok(&["push", &name, "--compression", "none"]);
    let (there, _other) = session();
    let mut pulling = there
        .command(&["pull", &name])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let partial = there.root().join("v1/partial");
    let length = || {
        let entries = fs_err::read_dir(&partial).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| Some(entry.metadata().ok()?.len()))
            .max()
            .unwrap_or(0)
    };
    while length() < 1 << 20 {
        assert!(
            pulling.try_wait().unwrap().is_none(),
            "it is too quick for this test"
        );
        std::thread::yield_now();
    }
    pulling.kill().unwrap();
    pulling.wait().unwrap();
    let kept = length();
    assert!(kept >= 1 << 20, "{kept}");
    let pulled = there.run(&["pull", &name]).success();
    let ranged = server
        .log()
        .iter()
        .any(|line| line.contains("http.response.status=206"));
    assert!(ranged, "{pulled}");
    assert_eq!(fs_err::read_dir(&partial).unwrap().count(), 0);
}

#[test]
fn what_is_run_is_pulled() {
    let server = DockerRegistry::start();
    let (here, _root) = machine();
    let name = server.image("app:1");
    here.build(TEXT, &["-t", &name]).success();
    here.ok(&["push", &name]);
    let (there, _other) = session();
    // There is no kernel, and no program in the image: but the image is there.
    let shown = there.run(&["run", "--pull=missing", &name]);
    assert!(
        shown.stderr.contains(&format!("pulling `{name}`")),
        "{shown}"
    );
    there.ok(&["image", "inspect", &name]);
    let absent = server.image("absent:1");
    let error = there.run(&["run", "--pull=missing", &absent]).failure();
    assert!(error.contains("cannot be pulled"), "{error}");
    let error = there.run(&["run", &absent]).failure();
    assert!(error.contains("is not in the store"), "{error}");
}

#[test]
fn the_configuration_of_other_tools_holds() {
    let (mirror, server) = (DockerRegistry::start(), DockerRegistry::start());
    let (here, _root) = machine();
    here.build(TEXT, &["-t", "app:1"]).success();
    here.ok(&["push", "app:1", &mirror.image("hub/library/app:1")]);
    let (hub, ours) = (mirror.image("hub"), server.image("ours"));
    let conf = format!(
        r#"
        unqualified-search-registries = ["quay.example"]
        speed = 1
        [[registry]]
        prefix = "docker.io"
        location = "nowhere.invalid"
        [[registry.mirror]]
        location = "{hub}"
        [[registry]]
        prefix = "corp.example"
        location = "{ours}"
        [[registry]]
        location = "evil.example"
        blocked = true
        "#
    );
    let conf = here.write("registries.conf", conf);
    let conf = conf.to_str().unwrap();
    let (there, _other) = session();
    let pulled = there.run(&["pull", "app:1", "--registries-conf", conf]);
    let pulled = pulled.success();
    let warning = "warning: `speed` in `";
    assert_eq!(pulled.stderr.matches("warning").count(), 1, "{pulled}");
    assert!(pulled.stderr.contains(warning), "{pulled}");
    there.ok(&["image", "inspect", "docker.io/library/app:1"]);
    // What is pushed goes where the images really are, and is found there.
    here.ok(&[
        "push",
        "app:1",
        "corp.example/app:1",
        "--registries-conf",
        conf,
    ]);
    there.ok(&["pull", &server.image("ours/app:1")]);
    let (third, _another) = session();
    third.write(
        "context/Dockerfile",
        "FROM corp.example/app:1\nCOPY --from=app:1 /two /\n",
    );
    let mut build = third.command(&["build", "--pull=missing", "--progress", "json", "context"]);
    let built = Outcome::of(build.env("FIREBUILD_REGISTRIES_CONF", conf)).success();
    for line in built.stderr.lines() {
        assert!(line.starts_with('{'), "{built}");
    }
    assert_eq!(built.stderr.matches("`speed` in `").count(), 1, "{built}");
    let error = third.run(&["pull", "evil.example/app:1", "--registries-conf", conf]);
    let error = error.failure();
    assert!(error.contains("is blocked by"), "{error}");
    let wrong = third.write("wrong.conf", "[[registry]]\nlocation = 1\n");
    let wrong = wrong.to_str().unwrap();
    let error = third
        .run(&["pull", "app:1", "--registries-conf", wrong])
        .failure();
    let expected = format!("`registry[0].location` in `{wrong}` must be a string");
    assert!(error.contains(&expected), "{error}");
}

#[test]
fn a_mirror_is_asked_before_the_registry() {
    let (mirror, server) = (DockerRegistry::start(), DockerRegistry::start());
    let (here, _root) = machine();
    here.build(TEXT, &["-t", "app:1"]).success();
    here.ok(&["push", "app:1", &mirror.image("hub/library/app:1")]);
    let only = server.image("team/only:1");
    here.ok(&["push", "app:1", &only]);
    let (there, _other) = session();
    let hub = format!("docker.io={}", mirror.image("hub"));
    there.ok(&["pull", "app:1", "--mirror", &hub]);
    there.ok(&["image", "inspect", "docker.io/library/app:1"]);
    // What the mirror does not have, the registry is asked for.
    let own = format!("{}={}", server.name(), mirror.name());
    there.ok(&["pull", &only, "--mirror", &own]);
    let text = "FROM app:1\n";
    let (third, _another) = session();
    third
        .build(text, &["--pull=missing", "--mirror", &hub])
        .success();
    for wrong in ["docker.io", "docker.io=", "=x", "docker.io=No Host"] {
        let error = third.run(&["pull", "app:1", "--mirror", wrong]).failure();
        assert!(error.contains("REGISTRY=HOST"), "{error}");
    }
}
