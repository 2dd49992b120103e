//! Base images from a distribution's packages.
//!
//! The package tool (`mmdebstrap`) downloads, verifies signatures and unpacks; what it gives is
//! made into an image of one layer, the same for the same packages: entries sorted, no times later
//! than the newest package's, no logs and caches.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};

use firebuild_core::tree::{Kind, NodeId, Timestamp, Tree};
use firebuild_core::{Digest, ImageConfig, Platform, Reference};
use firebuild_oci::Changes;
use firebuild_store::{Lease, StagedBlob, Store};

use crate::progress::{Event, Progress};
use crate::sources::Files;
use crate::stage::{Layer, StageState};
use crate::{Error, image};

/// How many of the tool's last lines an error shows.
const SHOWN_LINES: usize = 5;

/// Takes away what the tool copies from the host, and the one date that accounts hold: it becomes
/// that of the newest package.
const HOOK: &str = r#"set -e
rm -f "$1/etc/hostname" "$1/etc/resolv.conf" "$1/etc/passwd-" "$1/etc/group-" "$1/etc/shadow-" "$1/etc/gshadow-"
newest=$(find "$1/usr/share/doc" -name copyright -type f -printf '%T@\n' | sort -n | tail -n 1)
days=$(( ${newest%.*} / 86400 ))
sed -i "s/^\([^:]*:[^:]*\):[0-9]*:/\1:$days:/" "$1/etc/shadow"
"#;

/// What slim images leave out, as Debian's own do.
const SLIM: [&str; 6] = [
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/lintian/*",
];

/// What to make a base from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// The distribution's suite, such as `bookworm`.
    pub suite: String,
    /// Packages beside the minimal ones.
    pub include: Vec<String>,
    /// Where packages come from; the tool's own default if none.
    pub mirror: Option<String>,
    /// Leave manuals, translations and documentation out.
    pub slim: bool,
}

/// Why the package tool did not give a base.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootstrapError {
    /// The tool is not installed.
    #[error("`mmdebstrap` is not installed")]
    NoTool,
    /// It could not be started.
    #[error("cannot start `mmdebstrap`")]
    Start(#[source] std::io::Error),
    /// It failed; its last lines follow.
    #[error("`mmdebstrap` failed: {0}")]
    Failed(String),
}

impl BootstrapError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoTool => Some("apt-get install mmdebstrap".to_owned()),
            Self::Failed(words) if words.contains("Could not resolve") || words.contains("Could not connect") => {
                Some("is the package mirror reachable? Give another with `--mirror URL` or FIREBUILD_MIRROR".to_owned())
            }
            _ => None,
        }
    }
}

/// Makes a base image under these names. The result is the image's digest.
///
/// # Errors
/// [`Error::Bootstrap`] if the tool fails; those of the store. Nothing is left of a failed one.
pub fn bootstrap(
    store: &Store,
    wanted: &Bootstrap,
    tags: &[Reference],
    progress: &dyn Progress,
) -> Result<Digest, Error> {
    let failed = |source| Error::Bootstrap {
        distribution: format!("Debian {}", wanted.suite),
        source,
    };
    let lease = store.lease()?;
    let mut child = start(wanted).map_err(failed)?;
    let staged = match child.stdout.take() {
        Some(stdout) => {
            receive(&lease, &mut child, stdout, progress).map_err(|problem| match problem {
                Problem::Tool(source) => failed(source),
                Problem::Other(error) => error,
            })?
        }
        None => return Err(failed(BootstrapError::NoTool)),
    };
    let (files, newest) = normalised(&staged)?;
    let writer = Changes::whole(files.tree).write(&files.sources, lease.blob_writer()?)?;
    let blob = writer.commit(None)?;
    let layer = Layer {
        digest: blob.digest,
        size: blob.size,
    };
    let mut config = ImageConfig::scratch(Platform::host());
    config.config.working_dir.clear();
    config.config.cmd = Some(vec!["bash".to_owned()]);
    let mut state = StageState::new(Vec::new(), config, newest);
    state.push(
        Some(layer),
        newest,
        Some(&format!(
            "firebuild baseos --bootstrap debian:{}",
            wanted.suite
        )),
    );
    image::save(&lease, state, tags)
}

fn start(wanted: &Bootstrap) -> Result<Child, BootstrapError> {
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--variant=minbase", "--format=tar"])
        .arg(format!("--customize-hook={HOOK}"));
    if wanted.slim {
        command.args(SLIM.map(|option| format!("--dpkgopt={option}")));
    }
    if !wanted.include.is_empty() {
        command.arg(format!("--include={}", wanted.include.join(",")));
    }
    command
        .args([wanted.suite.as_str(), "-"])
        .args(&wanted.mirror);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    log::debug!("start {}", firebuild_core::words(&command));
    command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => BootstrapError::NoTool,
        _ => BootstrapError::Start(error),
    })
}

enum Problem {
    Tool(BootstrapError),
    Other(Error),
}

/// Takes the tool's archive into the store while its words are passed on.
fn receive(
    lease: &Lease,
    child: &mut Child,
    mut stdout: impl Read + Send,
    progress: &dyn Progress,
) -> Result<StagedBlob, Problem> {
    let stderr = child.stderr.take();
    let (archive, last) = std::thread::scope(|scope| {
        let archive = scope.spawn(move || -> Result<StagedBlob, Error> {
            let mut writer = lease.blob_writer()?;
            std::io::copy(&mut stdout, &mut writer).map_err(Error::Archive)?;
            Ok(writer.finish()?)
        });
        let mut last = VecDeque::new();
        for line in stderr
            .map(BufReader::new)
            .into_iter()
            .flat_map(|stderr| stderr.lines().map_while(Result::ok))
        {
            progress.event(Event::Note {
                stage: None,
                text: &line,
            });
            last.push_back(line);
            if last.len() > SHOWN_LINES {
                last.pop_front();
            }
        }
        (archive.join(), last)
    });
    let status = child
        .wait()
        .map_err(|error| Problem::Tool(BootstrapError::Start(error)))?;
    if !status.success() {
        let words: Vec<String> = last.into();
        return Err(Problem::Tool(BootstrapError::Failed(words.join(" | "))));
    }
    match archive {
        Ok(archive) => archive.map_err(Problem::Other),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// The archive as a tree without what differs between two runs: no time is later than the newest
/// package's, which is also given.
fn normalised(staged: &StagedBlob) -> Result<(Files, u64), Error> {
    let mut files = Files::default();
    let archive = staged.file().try_clone().map_err(Error::Archive)?;
    let index = image::index(&archive, 0, &staged.blob().digest)?;
    files.sources.add_file(archive);
    firebuild_oci::apply(&mut files.tree, index)?;
    let newest = newest_package(&files.tree);
    let mut late: Vec<NodeId> = Vec::new();
    files.tree.walk(&mut |_, id| {
        if files.tree.node(id).metadata.mtime > newest {
            late.push(id);
        }
    });
    for id in late {
        files.tree.metadata_mut(id).mtime = newest;
    }
    Ok((files, u64::try_from(newest.seconds).unwrap_or_default()))
}

/// The time of the newest package, by the files that every package has.
fn newest_package(tree: &Tree) -> Timestamp {
    let documents = tree
        .lookup(b"usr/share/doc")
        .into_iter()
        .flat_map(|id| tree.entries(id));
    let copyrights = documents.filter_map(|(_, package)| tree.child(package, b"copyright"));
    let files = copyrights
        .map(|id| tree.node(id))
        .filter(|node| matches!(node.kind, Kind::File(_)));
    files
        .map(|node| node.metadata.mtime)
        .max()
        .unwrap_or_default()
}
