//! Contexts of every form, opened and read.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use firebuild_core::tree::Kind;
use firebuild_plan::Source;
use firebuild_plan::lower::NamedContext;
use firebuild_store::{Lease, Store};

use super::{ContextError, Contexts, NamedPlace, Opened, Opening, Place, open, resolve_named};
use crate::fetch::testing::{Answer, Server, git_backend};
use crate::fetch::{Bounds, Credentials, Fetcher, Trust};

/// A store, and a directory for what a test makes.
struct World {
    directory: tempfile::TempDir,
    lease: Lease,
    named: BTreeMap<String, NamedPlace>,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let lease = store.lease().unwrap();
        let named = BTreeMap::new();
        Self {
            directory,
            lease,
            named,
        }
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    }

    /// What `tar` makes of a directory, with these arguments.
    fn tar(&self, directory: &str, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new("tar")
            .args([
                "--sort=name",
                "--mtime=@1000",
                "--owner=7",
                "--group=8",
                "-c",
            ])
            .args(arguments)
            .arg("-C")
            .arg(self.path(directory))
            .arg(".")
            .output()
            .unwrap();
        assert!(output.status.success());
        output.stdout
    }

    async fn open(
        &self,
        place: &str,
        file: Option<&str>,
        input: impl Read + Send + 'static,
    ) -> Result<Opened, ContextError> {
        let opening = Opening {
            place: &Place::parse(place, Path::exists)?,
            file,
            named: &self.named,
            keep_git_dir: false,
            input: Box::new(input),
            lease: &|| Ok(self.lease.clone()),
            progress: &crate::progress::Silent,
        };
        let bounds = Bounds {
            pause: Duration::from_millis(1),
            ..Bounds::default()
        };
        let fetcher = Fetcher::new(Trust::host(), Credentials::default(), bounds);
        open(opening, Arc::new(fetcher)).await
    }

    /// The files that a step would see, with their contents.
    async fn files(
        &self,
        contexts: &Contexts,
        source: &Source,
        wanted: &[&str],
    ) -> Result<Vec<String>, crate::Error> {
        let files = contexts.files(&self.lease, source, wanted).await?;
        let mut all = Vec::new();
        files.tree.walk(&mut |path, id| {
            let node = files.tree.node(id);
            assert_eq!((node.metadata.uid, node.metadata.gid), (0, 0));
            if let Kind::File(content) = &node.kind {
                let mut text = String::new();
                let mut reader = files.sources.open(content).unwrap();
                reader.read_to_string(&mut text).unwrap();
                all.push(format!("{}={text}", String::from_utf8_lossy(path)));
            }
        });
        Ok(all)
    }

    async fn main(&self, opened: &Opened) -> Vec<String> {
        self.files(&opened.contexts, &Source::Context, &[])
            .await
            .unwrap()
    }
}

fn nothing() -> Cursor<Vec<u8>> {
    Cursor::default()
}

fn text(opened: &Opened) -> &str {
    std::str::from_utf8(&opened.dockerfile.text).unwrap()
}

/// A directory with a Dockerfile, another one, and something to copy.
fn directory(world: &World, name: &str) {
    world.write(&format!("{name}/Dockerfile"), "FROM scratch\n");
    world.write(&format!("{name}/sub/other"), "FROM other\n");
    world.write(&format!("{name}/file"), "text");
    world.write(&format!("{name}/.dockerignore"), "sub\n");
}

#[tokio::test]
async fn a_directory_has_its_dockerfile_and_its_ignore_files() {
    let world = World::new();
    directory(&world, "c");
    let place = world.path("c");
    let place = place.to_str().unwrap();
    let opened = world.open(place, None, nothing()).await.unwrap();
    assert_eq!(text(&opened), "FROM scratch\n");
    assert_eq!(opened.epoch, None);
    let usual = [
        ".dockerignore=sub\n",
        "Dockerfile=FROM scratch\n",
        "file=text",
    ];
    assert_eq!(world.main(&opened).await, usual);

    let other = format!("{place}/sub/other");
    world.write(
        "c/sub/other.dockerignore",
        "file\nDockerfile\n.dockerignore\n",
    );
    let opened = world.open(place, Some(&other), nothing()).await.unwrap();
    assert_eq!(text(&opened), "FROM other\n");
    let seen = world.main(&opened).await;
    let replaced = [
        "sub/other=FROM other\n",
        "sub/other.dockerignore=file\nDockerfile\n.dockerignore\n",
    ];
    assert_eq!(seen, replaced);

    let input = Cursor::new("FROM input\n");
    let opened = world.open(place, Some("-"), input).await.unwrap();
    assert_eq!(text(&opened), "FROM input\n");
    assert_eq!(opened.dockerfile.name, "standard input");
    assert_eq!(world.main(&opened).await, usual);

    fs_err::rename(world.path("c/Dockerfile"), world.path("c/dockerfile")).unwrap();
    let opened = world.open(place, None, nothing()).await.unwrap();
    assert_eq!(opened.dockerfile.name, format!("{place}/dockerfile"));
}

#[tokio::test]
async fn nothing_is_scanned_that_no_step_reads() {
    let world = World::new();
    directory(&world, "c");
    let place = world.path("c");
    let opened = world
        .open(place.to_str().unwrap(), None, nothing())
        .await
        .unwrap();
    fs_err::remove_dir_all(&place).unwrap();
    let files = world.files(&opened.contexts, &Source::Context, &[]).await;
    assert!(files.is_err());
}

#[tokio::test]
async fn standard_input_is_an_archive_or_a_dockerfile() {
    let world = World::new();
    directory(&world, "c");
    for arguments in [&[][..], &["-z"], &["-j"], &["-J"], &["--zstd"]] {
        let archive = Cursor::new(world.tar("c", arguments));
        let opened = world.open("-", None, archive).await.unwrap();
        assert_eq!(text(&opened), "FROM scratch\n");
        assert_eq!(opened.epoch, Some(1000));
        // An ignore file is for directories of this host.
        let seen = world.main(&opened).await;
        assert!(
            seen.contains(&"sub/other=FROM other\n".to_owned()),
            "{seen:?}"
        );
    }
    let archive = Cursor::new(world.tar("c", &["-z"]));
    let opened = world.open("-", Some("sub/other"), archive).await.unwrap();
    assert_eq!(text(&opened), "FROM other\n");
    assert_eq!(opened.dockerfile.name, "standard input:sub/other");

    // Longer than what is looked at to tell an archive.
    let long = format!("FROM scratch\n#{}\n", "x".repeat(300_000));
    let opened = world
        .open("-", None, Cursor::new(long.clone()))
        .await
        .unwrap();
    assert_eq!(text(&opened), long);
    assert_eq!(world.main(&opened).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_file_on_a_web_server_is_an_archive_or_a_dockerfile() {
    let world = World::new();
    directory(&world, "c");
    let archive = world.tar("c", &["-z"]);
    let modified = ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    let server = Server::start(move |asked| match asked.path.as_str() {
        "/context" => Answer::file(&archive),
        "/dated" => Answer::new("200 OK", &[modified], &archive),
        "/x/Dockerfile?y=/" => Answer::new("200 OK", &[modified], b"FROM scratch\n"),
        "/x/a%20b" => Answer::file(b"one"),
        "/x/sub/c" => Answer::file(b"two"),
        _ => Answer::status("404 Not Found"),
    });
    for (path, epoch) in [("/context", 1000), ("/dated", 784_111_777)] {
        let opened = world
            .open(&server.url(path), None, nothing())
            .await
            .unwrap();
        assert_eq!(text(&opened), "FROM scratch\n");
        assert_eq!(opened.epoch, Some(epoch), "{path}");
        let seen = world.main(&opened).await;
        assert!(seen.contains(&"file=text".to_owned()), "{seen:?}");
    }
    let url = server.url("/context");
    let opened = world
        .open(&url, Some("sub/other"), nothing())
        .await
        .unwrap();
    assert_eq!(opened.dockerfile.name, format!("{url}:sub/other"));

    let url = server.url("/x/Dockerfile?y=/");
    let opened = world.open(&url, None, nothing()).await.unwrap();
    assert_eq!(text(&opened), "FROM scratch\n");
    assert_eq!(opened.epoch, Some(784_111_777));
    let (contexts, main) = (&opened.contexts, &Source::Context);
    let seen = world.files(contexts, main, &["a b", "../sub/./c"]).await;
    assert_eq!(seen.unwrap(), ["a b=one", "sub/c=two"]);
    for path in ["sub/", "*", ".", "", "/", "sub/.", "a?"] {
        let error = world.files(contexts, main, &[path]).await.unwrap_err();
        assert!(
            error.to_string().contains("only single files"),
            "{path}: {error}"
        );
    }
    let error = world.files(contexts, main, &["none"]).await.unwrap_err();
    assert!(error.to_string().contains("404"), "{error}");

    // A directory of this host with a Dockerfile from there.
    let place = world.path("c");
    let place = place.to_str().unwrap();
    let opened = world.open(place, Some(&url), nothing()).await.unwrap();
    assert_eq!(opened.dockerfile.name, url);
    assert_eq!(world.main(&opened).await.len(), 3);
}

fn git(directory: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_COMMITTER_DATE", "1000000000 +0000")
        .args(["-c", "user.name=a", "-c", "user.email=a@host.example"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn a_repository_is_a_context_in_every_form() {
    let mut world = World::new();
    directory(&world, "r/a.git");
    let repository = world.path("r/a.git");
    git(&repository, &["init", "-q", "-b", "main"]);
    git(&repository, &["add", "-A"]);
    git(&repository, &["commit", "-qm", "message"]);
    let repositories = world.path("r");
    let server = Server::start(move |asked| git_backend(&repositories, asked));
    let remote = server.url("/a.git");

    let opened = world.open(&remote, None, nothing()).await.unwrap();
    assert_eq!(text(&opened), "FROM scratch\n");
    assert_eq!(opened.epoch, Some(1_000_000_000));
    let seen = world.main(&opened).await;
    assert!(
        seen.contains(&"sub/other=FROM other\n".to_owned()),
        "{seen:?}"
    );
    let original = format!("git+{remote}:/sub/other#main");
    for (place, file) in [
        (remote.as_str(), Some("sub/other")),
        (&format!("{remote}#main:sub"), Some("other")),
        (&format!("{remote}?branch=main&subdir=sub"), Some("other")),
        (&original, None),
    ] {
        let opened = world.open(place, file, nothing()).await.unwrap();
        assert_eq!(text(&opened), "FROM other\n", "{place}");
    }
    let opened = world.open(&original, None, nothing()).await.unwrap();
    assert_eq!(world.main(&opened).await, ["other=FROM other\n"]);
    let error = world
        .open(&format!("{remote}#main:sub"), None, nothing())
        .await;
    let error = error.unwrap_err().to_string();
    assert_eq!(
        error,
        format!("there is no Dockerfile `Dockerfile` in {remote}")
    );

    world.write("n/file", "named");
    world.write("n/hidden", "hidden");
    world.write("n/.dockerignore", ".dockerignore\nhidden\n");
    for (name, place) in [
        ("git", format!("{remote}#:sub")),
        ("local", path(&world, "n")),
    ] {
        let place = NamedPlace::parse(&place, Path::exists).unwrap();
        world.named.insert(name.to_owned(), place);
    }
    let opened = world
        .open(&path(&world, "r/a.git"), None, nothing())
        .await
        .unwrap();
    for (name, expected) in [("git", "other=FROM other\n"), ("local", "file=named")] {
        let source = Source::Named(name.to_owned());
        let seen = world.files(&opened.contexts, &source, &[]).await.unwrap();
        assert_eq!(seen, [expected]);
    }
    let unknown = Source::Named("unknown".to_owned());
    let error = world
        .files(&opened.contexts, &unknown, &[])
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "there is no context `unknown`");
}

fn path(world: &World, path: &str) -> String {
    world.path(path).to_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_is_no_context_is_said_to_be_none() {
    let world = World::new();
    directory(&world, "c");
    fs_err::create_dir(world.path("empty")).unwrap();
    let (place, empty) = (path(&world, "c"), path(&world, "empty"));
    let server = Server::start(|_| Answer::file(b"FROM scratch\n"));
    let web = server.url("/Dockerfile");
    let cases = [
        (
            format!("{place}/file"),
            None,
            "is a file, and the context has to be a directory",
        ),
        (format!("{place}/none"), None, "there is no directory"),
        (empty, None, "there is no Dockerfile"),
        (place.clone(), Some("none"), "there is no Dockerfile `none`"),
        (
            "-".to_owned(),
            Some("-"),
            "cannot both come from standard input",
        ),
        ("-".to_owned(), Some("x"), "`x` cannot be in it"),
        (web.clone(), Some("x"), "`x` cannot be in it"),
    ];
    for (place, file, expected) in cases {
        let input = Cursor::new("FROM scratch\n");
        let error = world
            .open(&place, file, input)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{place}: {error}");
    }
    let mut cut = world.tar("c", &[]);
    cut.truncate(700);
    let error = world.open("-", None, Cursor::new(cut)).await.unwrap_err();
    assert!(matches!(error, ContextError::Archive { .. }), "{error:?}");
}

#[tokio::test]
async fn a_layout_is_an_image_that_has_no_name() {
    let world = World::new();
    let made = Store::open(&world.path("other")).unwrap();
    let lease = made.lease().unwrap();
    let config = firebuild_core::ImageConfig::scratch(firebuild_core::Platform::host());
    let name = "one:v1".parse().unwrap();
    let image = firebuild_oci::write_image(&lease, config, &[], &[], &[name]).unwrap();
    let index = made.layout_path().join("index.json");
    let named = fs_err::read_to_string(&index).unwrap();
    // As other tools name images.
    fs_err::write(&index, named.replace("docker.io/library/one:v1", "v1")).unwrap();
    let layout = made.layout_path();
    let layout = layout.to_str().unwrap();
    let digest = image.manifest.digest;
    for value in [
        format!("oci-layout://{layout}"),
        format!("oci-layout://{layout}:v1"),
        format!("oci-layout://{layout}@{digest}"),
    ] {
        let place = NamedPlace::parse(&value, |_| false).unwrap();
        let named = BTreeMap::from([("x".to_owned(), place)]);
        let found = resolve_named(world.lease.store(), &named).unwrap();
        let NamedContext::Image(reference) = &found["x"] else {
            panic!("{found:?}");
        };
        firebuild_oci::find_image(world.lease.store(), reference).unwrap();
    }
}
