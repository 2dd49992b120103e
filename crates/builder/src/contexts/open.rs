//! From what was written on the command line to a Dockerfile and its contexts.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use firebuild_core::tree::Timestamp;
use firebuild_plan::lower::BoxError;
use firebuild_store::{Lease, Store};

use super::dockerfile::{self, DockerfileText, ignored, inside};
use super::web::Folder;
use super::{
    Context, ContextError, Contexts, NamedPlace, Origin, Place, archive_of, named, of_archive,
    of_checkout, shown, wrong_archive,
};
use crate::archive::{self, Limits};
use crate::fetch::{Destination, FetchError, Fetcher};
use crate::progress::Progress;
use crate::sources::Files;

/// The most bytes of an input that are read before it is known not to be an archive.
const HEAD: usize = 4 << 20;

/// What standard input is called in messages.
const INPUT: &str = "standard input";

/// What was chosen.
pub struct Opening<'a> {
    /// Where the main context is.
    pub place: &'a Place,
    /// The Dockerfile: a path, `-`, or a web address. For a context from elsewhere a path is one
    /// in it.
    pub file: Option<&'a str>,
    /// Named contexts.
    pub named: &'a BTreeMap<String, NamedPlace>,
    /// Whether a repository's `.git` is part of the context (`BUILDKIT_CONTEXT_KEEP_GIT_DIR`).
    pub keep_git_dir: bool,
    /// Standard input.
    pub input: Box<dyn Read + Send>,
    /// Opens the store; asked for a context from elsewhere.
    pub lease: &'a dyn Fn() -> Result<Lease, BoxError>,
    /// Is told what is fetched.
    pub progress: &'a dyn Progress,
}

/// What a build begins with.
#[derive(Debug)]
pub struct Opened {
    /// The Dockerfile.
    pub dockerfile: DockerfileText,
    /// The files that it may copy.
    pub contexts: Contexts,
    /// The time of the main context, in seconds since 1970, if it has one: what
    /// `SOURCE_DATE_EPOCH=context` means.
    pub epoch: Option<u64>,
}

/// The main context as it was found.
struct Main {
    origin: Origin,
    dockerfile: DockerfileText,
    epoch: Option<u64>,
}

/// Where the Dockerfile is, if not where the context is.
enum Elsewhere<'a> {
    Input,
    Web(&'a str),
}

/// Finds the Dockerfile and its contexts. A main context from elsewhere is fetched, because the
/// Dockerfile is in it; named ones are when a step reads them.
///
/// # Errors
/// [`ContextError`].
pub async fn open(opening: Opening<'_>, fetcher: Arc<Fetcher>) -> Result<Opened, ContextError> {
    let named = named::contexts(opening.named)?;
    let opener = Opener {
        file: opening.file,
        keep_git_dir: opening.keep_git_dir,
        fetcher: &fetcher,
        lease: opening.lease,
        progress: opening.progress,
    };
    let main = opener.main(opening.place, opening.input).await?;
    Ok(Opened {
        dockerfile: main.dockerfile,
        epoch: main.epoch,
        contexts: Contexts {
            main: Context::from(main.origin),
            named,
            fetcher,
        },
    })
}

struct Opener<'a> {
    file: Option<&'a str>,
    keep_git_dir: bool,
    fetcher: &'a Fetcher,
    lease: &'a dyn Fn() -> Result<Lease, BoxError>,
    progress: &'a dyn Progress,
}

impl Opener<'_> {
    async fn main(&self, place: &Place, input: Box<dyn Read + Send>) -> Result<Main, ContextError> {
        match place {
            Place::Directory(directory) => self.directory(directory, input).await,
            Place::StandardInput => self.input(input).await,
            Place::Http(url) => self.web(url, input).await,
            Place::Git { source, dockerfile } => {
                let mut source = source.clone();
                source.keep_git_dir = source.keep_git_dir.or(Some(self.keep_git_dir));
                let lease = self.lease()?;
                let checkout = self.fetcher.git(self.to(&lease), &source).await?;
                let name = shown(&source.remote);
                let epoch = Some(checkout.time);
                let files = of_checkout(self.fetcher.threads(), &lease, checkout).await?;
                let default = dockerfile.as_deref();
                let dockerfile = self.text(&files, default, &name, input).await?;
                Ok(Main {
                    origin: Origin::Files(Arc::new(files)),
                    dockerfile,
                    epoch,
                })
            }
        }
    }

    async fn directory(
        &self,
        directory: &Path,
        input: Box<dyn Read + Send>,
    ) -> Result<Main, ContextError> {
        check_directory(directory)?;
        let (dockerfile, path) = match self.elsewhere() {
            Some(elsewhere) => (self.fetch(elsewhere, input).await?, None),
            None => {
                let (text, path) = dockerfile::local(directory, self.file.map(Path::new))?;
                (text, Some(path))
            }
        };
        let ignore = ignored(directory, path.as_deref())?;
        Ok(Main {
            origin: Origin::Directory(directory.to_owned(), ignore),
            dockerfile,
            epoch: None,
        })
    }

    /// Standard input as context: an archive, or only a Dockerfile.
    async fn input(&self, input: Box<dyn Read + Send>) -> Result<Main, ContextError> {
        if matches!(self.elsewhere(), Some(Elsewhere::Input)) {
            return Err(ContextError::BothFromInput);
        }
        let store = self.lease()?.store().clone();
        let read = self
            .fetcher
            .threads()
            .run(move || read_input(&store, input))
            .await;
        let (files, newest) = match read? {
            Input::Archive(files, newest) => (files, newest),
            Input::Text(dockerfile) => return self.single(dockerfile),
        };
        let nothing = Box::new(io::empty());
        let dockerfile = self.text(&files, None, INPUT, nothing).await?;
        Ok(Main {
            origin: Origin::Files(Arc::new(files)),
            dockerfile,
            epoch: newest.and_then(|time| u64::try_from(time.seconds).ok()),
        })
    }

    /// An input that is no archive is the Dockerfile.
    fn single(&self, dockerfile: DockerfileText) -> Result<Main, ContextError> {
        if let Some(file) = self.file {
            return Err(ContextError::NotInside {
                place: INPUT.to_owned(),
                file: file.to_owned(),
            });
        }
        Ok(Main {
            origin: Origin::Empty,
            dockerfile,
            epoch: None,
        })
    }

    /// A file on a web server: an archive, or a Dockerfile beside what it copies.
    async fn web(&self, url: &str, input: Box<dyn Read + Send>) -> Result<Main, ContextError> {
        let lease = self.lease()?;
        let download = self.fetcher.http(self.to(&lease), url, None).await?;
        let seconds = |time: Timestamp| u64::try_from(time.seconds).ok();
        let modified = download.last_modified.and_then(seconds);
        let name = shown(url);
        let quoted = format!("`{name}`");
        if let Some((files, newest)) = archive_of(
            self.fetcher.threads(),
            &lease,
            &download.blob.digest,
            &quoted,
        )
        .await?
        {
            let dockerfile = self.text(&files, None, &name, input).await?;
            return Ok(Main {
                origin: Origin::Files(Arc::new(files)),
                dockerfile,
                epoch: modified.or(newest.and_then(seconds)),
            });
        }
        if let Some(file) = self.file {
            return Err(ContextError::NotInside {
                place: quoted,
                file: file.to_owned(),
            });
        }
        let blob = lease.store().blob(&download.blob.digest);
        let dockerfile = dockerfile::read_single(&name, blob.map_err(FetchError::from)?)?;
        // No instruction begins so, and no comment.
        if dockerfile.text.trim_ascii_start().starts_with(b"<") {
            return Err(ContextError::Page(name));
        }
        Ok(Main {
            origin: Origin::Web(Folder::of(url)?),
            dockerfile,
            epoch: modified,
        })
    }

    /// The Dockerfile of a context from elsewhere: `-f` names one in it, or somewhere else.
    async fn text(
        &self,
        files: &Files,
        default: Option<&str>,
        place: &str,
        input: Box<dyn Read + Send>,
    ) -> Result<DockerfileText, ContextError> {
        match self.elsewhere() {
            Some(elsewhere) => self.fetch(elsewhere, input).await,
            None => inside(files, self.file.or(default), place),
        }
    }

    fn lease(&self) -> Result<Lease, ContextError> {
        (self.lease)().map_err(ContextError::Store)
    }

    fn to<'l>(&'l self, lease: &'l Lease) -> Destination<'l> {
        let progress = self.progress;
        Destination { lease, progress }
    }

    fn elsewhere(&self) -> Option<Elsewhere<'_>> {
        match self.file? {
            "-" => Some(Elsewhere::Input),
            file if file.starts_with("http://") || file.starts_with("https://") => {
                Some(Elsewhere::Web(file))
            }
            _ => None,
        }
    }

    async fn fetch(
        &self,
        elsewhere: Elsewhere<'_>,
        input: Box<dyn Read + Send>,
    ) -> Result<DockerfileText, ContextError> {
        match elsewhere {
            Elsewhere::Input => {
                let read = move || dockerfile::read(INPUT, input);
                self.fetcher.threads().run(read).await
            }
            Elsewhere::Web(url) => {
                let lease = self.lease()?;
                let download = self.fetcher.http(self.to(&lease), url, None).await?;
                let blob = lease.store().blob(&download.blob.digest);
                dockerfile::read(&shown(url), blob.map_err(FetchError::from)?)
            }
        }
    }
}

/// A context that is a path has to be a directory.
pub(super) fn check_directory(directory: &Path) -> Result<(), ContextError> {
    match fs_err::metadata(directory) {
        Ok(status) if status.is_dir() => Ok(()),
        Ok(_) => Err(ContextError::File(directory.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(ContextError::NoDirectory(directory.to_owned()))
        }
        Err(error) => Err(ContextError::read("the context")(error)),
    }
}

/// What standard input turned out to be.
enum Input {
    Archive(Files, Option<Timestamp>),
    Text(DockerfileText),
}

fn read_input(store: &Store, input: Box<dyn Read + Send>) -> Result<Input, ContextError> {
    let head = Vec::new();
    let mut recorded = Recorded { input, head };
    let wrong = || wrong_archive(INPUT);
    let found = archive::open(store, &mut recorded, &Limits::default()).map_err(wrong())?;
    match found {
        Some(archive) => {
            let (files, newest) = of_archive(archive).map_err(wrong())?;
            Ok(Input::Archive(files, newest))
        }
        None => {
            let whole = io::Cursor::new(recorded.head).chain(recorded.input);
            Ok(Input::Text(dockerfile::read_single(INPUT, whole)?))
        }
    }
}

/// Remembers the beginning of what is read: what is looked at to tell an archive is far less.
struct Recorded {
    input: Box<dyn Read + Send>,
    head: Vec<u8>,
}

impl Read for Recorded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        let room = HEAD.saturating_sub(self.head.len());
        self.head.extend(&buffer[..count.min(room)]);
        Ok(count)
    }
}
