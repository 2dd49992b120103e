//! Repositories served on loopback by `git http-backend`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use firebuild_core::ByteSize;
use firebuild_core::tree::Kind;
use firebuild_plan::GitSource;
use firebuild_store::{Lease, Store};

use super::super::testing::{Answer, Server, git_backend};
use super::super::{Bounds, Credentials, FetchError, Fetcher, Trust};
use super::Checkout;

/// A store, a directory for repositories, and a server for them.
struct World {
    directory: tempfile::TempDir,
    lease: Lease,
    server: Server,
}

/// Runs git as a test's author would. Returns what it wrote.
fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(directory)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_DATE", "1000000000 +0000")
        .env("GIT_COMMITTER_DATE", "1000000000 +0000")
        .args(["-c", "user.name=a", "-c", "user.email=a@host.example"])
        .args([
            "-c",
            "init.defaultBranch=main",
            "-c",
            "protocol.file.allow=always",
        ])
        .args(arguments)
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn commit(work: &Path) -> String {
    git(work, &["add", "-A"]);
    git(work, &["commit", "-qm", "message"]);
    git(work, &["rev-parse", "HEAD"])
}

/// A repository `one.git` with two commits; everything but `main` leads to the first.
fn repository(repositories: &Path) -> (String, String) {
    let work = repositories.join("one.git");
    fs_err::create_dir_all(work.join("sub")).unwrap();
    git(&work, &["init", "-q"]);
    fs_err::write(work.join("file"), "first").unwrap();
    fs_err::write(work.join("sub/below"), "below").unwrap();
    fs_err::write(work.join("sub/.wh.below"), "").unwrap();
    fs_err::write(work.join("run"), "#!/bin/sh\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs_err::set_permissions(work.join("run"), executable).unwrap();
    for (name, target) in [
        ("link", "file"),
        ("within", "sub"),
        ("out", "../.."),
        ("etc", "/etc"),
    ] {
        std::os::unix::fs::symlink(target, work.join(name)).unwrap();
    }
    let first = commit(&work);
    git(&work, &["tag", "light"]);
    git(&work, &["tag", "-am", "message", "v1"]);
    git(&work, &["branch", "feature/x"]);
    git(&work, &["update-ref", "refs/pull/42/head", "HEAD"]);
    fs_err::write(work.join("file"), "second").unwrap();
    (first, commit(&work))
}

fn world(guard: impl Fn(Option<&str>) -> Option<Answer> + Send + Sync + 'static) -> World {
    let directory = tempfile::tempdir().unwrap();
    let repositories = directory.path().join("repositories");
    fs_err::create_dir(&repositories).unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    let lease = store.lease().unwrap();
    let server = Server::start(move |asked| {
        guard(asked.header("authorization")).unwrap_or_else(|| git_backend(&repositories, asked))
    });
    World {
        directory,
        lease,
        server,
    }
}

fn open_world() -> World {
    world(|_| None)
}

impl World {
    fn repositories(&self) -> std::path::PathBuf {
        self.directory.path().join("repositories")
    }

    fn source(&self, query: &str) -> GitSource {
        let remote = self.server.url("/one.git");
        source(&format!("{remote}{query}"))
    }

    async fn fetch(&self, query: &str) -> Result<Checkout, FetchError> {
        fetcher().git(&self.lease, &self.source(query)).await
    }

    /// Paths with modes, and `=` with the content of files.
    fn listing(&self, checkout: &Checkout) -> Vec<String> {
        let files = checkout.files(self.lease.store()).unwrap();
        let mut all = Vec::new();
        files.tree.walk(&mut |path, id| {
            let node = files.tree.node(id);
            assert_eq!((node.metadata.uid, node.metadata.gid), (0, 0));
            let path = String::from_utf8_lossy(path);
            let rest = match &node.kind {
                Kind::File(content) => {
                    let mut bytes = Vec::new();
                    let mut reader = files.sources.open(content).unwrap();
                    std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
                    format!("={}", String::from_utf8_lossy(&bytes).trim())
                }
                Kind::Symlink(target) => format!("->{}", String::from_utf8_lossy(target)),
                _ => String::new(),
            };
            all.push(format!("{:o} {path}{rest}", node.metadata.mode));
        });
        all
    }
}

/// What a Dockerfile's author writes.
fn source(address: &str) -> GitSource {
    match firebuild_dockerfile::source::classify(address).unwrap() {
        firebuild_dockerfile::source::SourceKind::Git(source) => source,
        other => panic!("{other:?}"),
    }
}

fn bounds() -> Bounds {
    Bounds {
        size: ByteSize(100_000),
        pause: Duration::from_millis(1),
        ..Bounds::default()
    }
}

fn fetcher() -> Fetcher {
    Fetcher::new(Trust::host(), Credentials::default(), bounds())
}

#[tokio::test]
async fn every_way_to_name_a_commit() {
    let world = open_world();
    let (first, second) = repository(&world.repositories());
    let (short, other) = (&first[..8], &second[..7]);
    let tag = git(&world.repositories().join("one.git"), &["rev-parse", "v1"]);
    let cases = [
        (String::new(), &second),
        ("#main".into(), &second),
        ("#heads/main".into(), &second),
        ("#refs/heads/main".into(), &second),
        ("#v1".into(), &first),
        ("#light".into(), &first),
        ("#feature/x".into(), &first),
        ("?branch=feature/x".into(), &first),
        ("?tag=v1".into(), &first),
        ("?ref=pull/42/head".into(), &first),
        (format!("#{first}"), &first),
        (format!("#{}", first.to_uppercase()), &first),
        (format!("#{short}"), &first),
        (format!("?commit={short}"), &first),
        (format!("?branch=main&commit={other}"), &second),
        (format!("?tag=v1&checksum={first}"), &first),
        (format!("?tag=v1&checksum={tag}"), &first),
        (
            format!("?branch=main&commit={first}&fetch-by-commit"),
            &first,
        ),
    ];
    for (query, expected) in cases {
        let checkout = world.fetch(&query).await;
        let checkout = checkout.unwrap_or_else(|error| panic!("{query}: {error:?}"));
        assert_eq!(checkout.commit, *expected, "{query}");
        assert_eq!(checkout.time, 1_000_000_000);
    }
}

#[tokio::test]
async fn files_are_roots_and_have_two_modes() {
    let world = open_world();
    repository(&world.repositories());
    let checkout = world.fetch("#v1").await.unwrap();
    let expected = [
        "755 ",
        "777 etc->/etc",
        "644 file=first",
        "777 link->file",
        "777 out->../..",
        "755 run=#!/bin/sh",
        "755 sub",
        "644 sub/.wh.below=",
        "644 sub/below=below",
        "777 within->sub",
    ];
    assert_eq!(world.listing(&checkout), expected);
    let below = world.fetch("#v1:sub").await.unwrap();
    assert_eq!(
        world.listing(&below),
        ["755 ", "644 .wh.below=", "644 below=below"]
    );
    let dated = "?tag=v1&mtime=commit&subdir=";
    let named = world.fetch(&format!("{dated}sub")).await.unwrap();
    let through = world.fetch(&format!("{dated}/within/")).await.unwrap();
    assert_eq!(named.archive, through.archive);
    let dated = world.fetch("?tag=v1&mtime=commit").await.unwrap();
    let files = dated.files(world.lease.store()).unwrap();
    let file = files.tree.lookup(b"file").unwrap();
    assert_eq!(files.tree.node(file).metadata.mtime.seconds, 1_000_000_000);
}

#[tokio::test]
async fn a_known_commit_is_not_fetched_again() {
    let world = open_world();
    let (first, _) = repository(&world.repositories());
    let fetched = world.fetch("#v1").await.unwrap();
    let before = world.server.asked().len();
    assert_eq!(world.fetch(&format!("#{first}")).await.unwrap(), fetched);
    assert_eq!(world.server.asked().len(), before);
    // A tag has to be asked for, and no more.
    assert_eq!(world.fetch("#v1").await.unwrap(), fetched);
    let asked = world.server.asked().split_off(before);
    let asked: Vec<&str> = asked.iter().map(|asked| asked.path.as_str()).collect();
    let references = [
        "/one.git/info/refs?service=git-upload-pack",
        "/one.git/git-upload-pack",
    ];
    assert_eq!(asked, references);
}

#[tokio::test]
async fn the_git_directory_is_kept_on_demand() {
    let world = open_world();
    repository(&world.repositories());
    let checkout = world.fetch("?tag=v1&keep-git-dir").await.unwrap();
    let kept = world.listing(&checkout);
    assert!(kept.contains(&"755 .git".to_owned()), "{kept:?}");
    let tag = kept.iter().any(|line| line.contains(".git/refs/tags/v1"));
    assert!(tag, "{kept:?}");
    assert!(!kept.iter().any(|line| line.contains("hooks")), "{kept:?}");
}

#[tokio::test]
async fn each_failure_is_one_clear_error() {
    let world = open_world();
    let (first, _) = repository(&world.repositories());
    let absent = "1".repeat(40);
    let cases = [
        (
            "#mian",
            "has no branch, tag or commit `mian`; did you mean `main`?".to_owned(),
        ),
        ("?tag=v2", "did you mean `v1`?".to_owned()),
        (
            "#1234567",
            "has no branch, tag or commit `1234567`".to_owned(),
        ),
        (
            &format!("#{absent}"),
            format!("has no branch, tag or commit `{absent}`"),
        ),
        (
            &format!("?branch=main&commit={}", &first[..7]),
            format!("but {} was expected", &first[..7]),
        ),
        (
            "?commit=nothex",
            "`nothex` is not a commit's hash".to_owned(),
        ),
        (
            "#--upload-pack=x",
            "`--upload-pack=x` cannot be a reference's name".to_owned(),
        ),
        ("#a..b", "`a..b` cannot be a reference's name".to_owned()),
        ("#main:none", "has no directory `none`".to_owned()),
        ("#main:file", "has no directory `file`".to_owned()),
        ("#main:out", "has no directory `out`".to_owned()),
        ("#main:etc", "has no directory `etc`".to_owned()),
        ("#main:../x", "has no directory `../x`".to_owned()),
    ];
    for (query, expected) in &cases {
        let error = world.fetch(query).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(expected), "{query}: {text}");
    }
    let store = world.lease.store();
    assert_eq!(store.downloads().list().unwrap(), []);
    assert_eq!(
        fs_err::read_dir(store.path().join("tmp")).unwrap().count(),
        0
    );
}

#[tokio::test]
async fn what_is_no_repository_is_said_to_be_none() {
    let world = open_world();
    let missing = source(&world.server.url("/two.git"));
    let error = fetcher().git(&world.lease, &missing).await.unwrap_err();
    assert!(
        matches!(error, FetchError::NoRepository { .. }),
        "{error:?}"
    );
    let refused = source("http://localhost:1/one.git");
    let error = fetcher().git(&world.lease, &refused).await.unwrap_err();
    assert!(matches!(error, FetchError::Connect { .. }), "{error:?}");
    git(&world.repositories(), &["init", "-q", "--bare", "one.git"]);
    let error = world.fetch("").await.unwrap_err();
    assert!(matches!(error, FetchError::NoReference { .. }), "{error:?}");
    let local = world.repositories().join("one.git");
    for remote in [
        format!("file://{}", local.display()),
        local.display().to_string(),
        "ext::sh -c true% ".to_owned(),
        "--upload-pack=true@h:x".to_owned(),
        "https://host.example/\n".to_owned(),
    ] {
        let source = GitSource {
            remote: remote.clone(),
            ..GitSource::default()
        };
        let error = fetcher().git(&world.lease, &source).await.unwrap_err();
        assert!(
            matches!(error, FetchError::Address { .. }),
            "{remote}: {error:?}"
        );
    }
}

#[tokio::test]
async fn credentials_come_from_secrets_and_stay_out_of_everything() {
    // `x-access-token:hidden`
    let value = "Basic eC1hY2Nlc3MtdG9rZW46aGlkZGVu";
    let world = world(move |given| {
        let wants = [("WWW-Authenticate", "Basic realm=\"x\"")];
        (given != Some(value)).then(|| Answer::new("401 Unauthorized", &wants, b""))
    });
    repository(&world.repositories());
    let error = world.fetch("").await.unwrap_err();
    assert!(matches!(error, FetchError::Denied { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("GIT_AUTH_TOKEN"));

    for (name, works) in [
        ("GIT_AUTH_TOKEN".to_owned(), true),
        (
            format!("GIT_AUTH_TOKEN.localhost:{}", world.server.port()),
            true,
        ),
        ("GIT_AUTH_TOKEN.host.example".to_owned(), false),
    ] {
        let credentials = Credentials::new([(name.clone(), b"hidden\n".to_vec())]);
        let fetcher = Fetcher::new(Trust::host(), credentials, bounds());
        let source = world.source("?keep-git-dir");
        let fetched = fetcher.git(&world.lease, &source).await;
        assert_eq!(fetched.is_ok(), works, "{name}: {fetched:?}");
    }
    let remote = format!(
        "http://x-access-token:hidden@localhost:{}/one.git",
        world.server.port()
    );
    let written = source(&format!("{remote}?keep-git-dir"));
    fetcher().git(&world.lease, &written).await.unwrap();
    let found = Command::new("grep")
        .args(["-rlaE", "hidden|aGlkZGVu"])
        .arg(world.lease.store().path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(found.stdout).unwrap(), "");
}

#[tokio::test]
async fn submodules_come_along() {
    let world = open_world();
    repository(&world.repositories());
    let outer = world.repositories().join("outer.git");
    fs_err::create_dir(&outer).unwrap();
    git(&outer, &["init", "-q"]);
    let inner = world.repositories().join("one.git");
    let inner = inner.display().to_string();
    git(
        &outer,
        &["submodule", "--quiet", "add", "--", &inner, "inner"],
    );
    git(
        &outer,
        &[
            "config",
            "-f",
            ".gitmodules",
            "submodule.inner.url",
            "../one.git",
        ],
    );
    commit(&outer);
    let address = world.server.url("/outer.git");
    let checkout = fetcher()
        .git(&world.lease, &source(&address))
        .await
        .unwrap();
    let all = world.listing(&checkout);
    assert!(all.contains(&"644 inner/file=second".to_owned()), "{all:?}");
    assert!(!all.iter().any(|line| line.contains(" .git=")), "{all:?}");
    assert!(
        !all.iter().any(|line| line.contains("inner/.git")),
        "{all:?}"
    );
    let without = source(&format!("{address}?submodules=false"));
    let checkout = fetcher().git(&world.lease, &without).await.unwrap();
    let all = world.listing(&checkout);
    assert!(all.contains(&"755 inner".to_owned()), "{all:?}");
    assert!(!all.iter().any(|line| line.contains("inner/")), "{all:?}");

    // A repository cannot make firebuild read the host's directories.
    git(
        &outer,
        &["config", "-f", ".gitmodules", "submodule.inner.url", &inner],
    );
    commit(&outer);
    let error = fetcher().git(&world.lease, &source(&address)).await;
    let error = format!("{:?}", error.unwrap_err());
    assert!(error.contains("transport 'file' not allowed"), "{error}");
}

#[tokio::test]
async fn a_large_commit_is_refused_before_it_is_written_out() {
    let world = open_world();
    let (_, _) = repository(&world.repositories());
    let work = world.repositories().join("one.git");
    fs_err::write(work.join("large"), vec![b'x'; 100_001]).unwrap();
    commit(&work);
    let error = world.fetch("").await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { .. }), "{error:?}");
}

#[tokio::test]
async fn a_large_transfer_is_ended_while_it_comes() {
    let world = open_world();
    repository(&world.repositories());
    let work = world.repositories().join("one.git");
    // What cannot be compressed.
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_le_bytes()[7]
    });
    fs_err::write(work.join("noise"), noise.take(400_000).collect::<Vec<u8>>()).unwrap();
    commit(&work);
    let repositories = world.repositories();
    let server = Server::start(move |asked| {
        let answer = git_backend(&repositories, asked);
        let fetches = asked.body.windows(13).any(|part| part == b"command=fetch");
        match fetches {
            // Never so much that the commit would be there.
            true => answer.cut(300_000).stalling(),
            false => answer,
        }
    });
    let source = source(&server.url("/one.git"));
    let error = fetcher().git(&world.lease, &source).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { .. }), "{error:?}");
}

/// A server of git's own protocol for as long as the listener is asked: one daemon a connection.
fn daemon(repositories: std::path::PathBuf, connections: usize) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(connections) {
            let stream = std::os::fd::OwnedFd::from(stream.unwrap());
            let base = format!("--base-path={}", repositories.display());
            Command::new("git")
                .args(["daemon", "--inetd", "--export-all", &base])
                .stdin(stream.try_clone().unwrap())
                .stdout(stream)
                .status()
                .unwrap();
        }
    });
    format!("git://localhost:{port}/one.git")
}

#[tokio::test]
async fn gits_own_protocol_is_spoken_too() {
    let world = open_world();
    let (first, _) = repository(&world.repositories());
    // One connection for the references, one for the objects.
    let remote = daemon(world.repositories(), 2);
    let source = source(&format!("{remote}#v1"));
    let checkout = fetcher().git(&world.lease, &source).await.unwrap();
    assert_eq!(checkout.commit, first);
}

#[tokio::test]
async fn the_authorities_are_those_of_downloads() {
    let world = open_world();
    let (_, second) = repository(&world.repositories());
    let repositories = world.repositories();
    let server = Server::encrypted(move |asked| git_backend(&repositories, asked));
    let source = source(&server.url("/one.git"));
    let error = fetcher().git(&world.lease, &source).await.unwrap_err();
    assert!(matches!(error, FetchError::Tls { .. }), "{error:?}");
    let trust = Trust::host().and_pem(server.certificate.as_bytes(), "ca.pem");
    let fetcher = Fetcher::new(trust.unwrap(), Credentials::default(), bounds());
    let checkout = fetcher.git(&world.lease, &source).await.unwrap();
    assert_eq!(checkout.commit, second);
}
