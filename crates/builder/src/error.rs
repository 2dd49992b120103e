//! Why a build failed.

use std::time::Duration;

use firebuild_core::Reference;
use firebuild_core::tree::TreeError;
use firebuild_core::user::UserError;
use firebuild_plan::Origin;

use crate::archive::ArchiveError;
use crate::bootstrap::Output;
use crate::copy::CopyError;

/// Why a build, or the making of a base or of a root file system, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The build context could not be read.
    #[error("cannot read the build context")]
    Context(#[source] std::io::Error),
    /// A context, or the Dockerfile in it, could not be had.
    #[error(transparent)]
    Contexts(#[from] crate::contexts::ContextError),
    /// Something that comes from elsewhere could not be fetched.
    #[error(transparent)]
    Fetch(#[from] crate::fetch::FetchError),
    /// A storage provider could not give or keep something.
    #[error(transparent)]
    Provider(#[from] Box<crate::provider::ProviderError>),
    /// An image is not in the store.
    #[error("image `{familiar}` is not in the store; looked for `{reference}`", familiar = .reference.familiar())]
    NoImage {
        /// Its name.
        reference: Reference,
    },
    /// An image is not in the store, and its registry does not give it.
    #[error("image `{}` cannot be pulled", .reference.familiar())]
    Pull {
        /// Its name.
        reference: Box<Reference>,
        /// Why.
        #[source]
        source: Box<firebuild_oci::Error>,
    },
    /// A step could not be done.
    #[error("step `{}` of stage `{stage}` failed", .origin.text)]
    Step {
        /// The stage's name.
        stage: String,
        /// Where the step is written.
        origin: Box<Origin>,
        /// Why.
        #[source]
        source: Box<StepError>,
    },
    /// Something that firebuild does not do yet.
    #[error("{0} is not supported yet")]
    Unsupported(&'static str),
    /// A layer's times could not be changed.
    #[error("cannot change the times of a layer")]
    Dated(#[source] std::io::Error),
    /// The store failed.
    #[error("the build's results could not be kept")]
    Store(#[from] firebuild_store::Error),
    /// An image in the store cannot be read.
    #[error("an image could not be read or written")]
    Image(#[from] firebuild_oci::Error),
    /// The package tool's archive could not be taken.
    #[error("cannot take the package tool's archive")]
    Archive(#[source] std::io::Error),
    /// A root file system could not be made.
    #[error("cannot make the root file system")]
    RootFs(#[source] firebuild_disk::Error),
    /// A root file system's tree of hashes could not be written.
    #[error("cannot read or write the tree of hashes of the root file system")]
    Verity(#[source] std::io::Error),
    /// An image's root file system is not the one that was asked for.
    #[error(
        "the root file system of `{}` has the root hash `{found}`, not `{wanted}`",
        .reference.familiar()
    )]
    RootHash {
        /// The image.
        reference: Box<Reference>,
        /// What it has.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// An image's root file system was changed on the host's disk.
    #[error("the root file system of `{}` was changed on this host's disk", .reference.familiar())]
    RootDamaged {
        /// The image.
        reference: Box<Reference>,
    },
    /// There is no kernel that a build VM could boot.
    #[error("there is no kernel for the build VM")]
    Kernel(#[source] firebuild_plan::lower::BoxError),
    /// The build VM failed.
    #[error("the build VM failed")]
    Machine(#[from] firebuild_machine::Error),
    /// The package tool that makes bases failed.
    #[error("cannot make a base image of {distribution}")]
    Bootstrap {
        /// The distribution and its suite.
        distribution: String,
        /// Why.
        #[source]
        source: crate::base::BootstrapError,
    },
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// A rule of COPY forbids it.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A path that leads nowhere.
    #[error(transparent)]
    Path(#[from] TreeError),
    /// A user or group that is not there.
    #[error(transparent)]
    User(#[from] UserError),
    /// A file could not be read.
    #[error("cannot read what is to be copied")]
    Read(#[source] std::io::Error),
    /// Something that firebuild does not do yet.
    #[error("{0} is not supported yet")]
    Unsupported(&'static str),
    /// One of a copy's sources cannot be copied.
    #[error("{error}")]
    Source {
        /// Which of the operation's items it is, from 0.
        item: usize,
        /// Whether it is there and an ignore file leaves it out.
        ignored: bool,
        /// Why.
        error: CopyError,
    },
    /// ADD of an archive that cannot be unpacked.
    #[error("cannot unpack `{name}`")]
    Archive {
        /// The archive's name.
        name: String,
        /// Why.
        #[source]
        source: ArchiveError,
    },
    /// A bind mount of something that is not there.
    #[error("`{path}` is not there to be mounted, in {source_name}, as a file or directory")]
    MountSource {
        /// The path.
        path: String,
        /// Where it was looked for.
        source_name: String,
    },
    /// A name that means something else in a layer.
    #[error(
        "`/{0}` cannot be in an image: in a layer, a name that begins with `.wh.` says that another file is removed"
    )]
    Whiteout(String),
    /// A required secret that nobody gave.
    #[error("the build has no secret `{0}`")]
    NoSecret(String),
    /// A secret's file that cannot be read.
    #[error("cannot read secret `{id}`")]
    SecretFile {
        /// The secret.
        id: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A secret of more bytes than any.
    #[error("secret `{0}` has more than 500 KiB")]
    LargeSecret(String),
    /// A required agent that nobody gave.
    #[error("the build has no SSH agent `{0}`")]
    NoAgent(String),
    /// A cache that is not there.
    #[error("there is no cache mount `{0}`")]
    NoCache(String),
    /// A cache that is there.
    #[error("there is a cache mount `{0}` already")]
    CacheExists(String),
    /// A cache that a VM has.
    #[error("cache mount `{0}` is in use")]
    CacheInUse(String),
    /// A cache whose disk no guest can mount.
    #[error("cache mount `{id}` is damaged: {reason}")]
    DamagedCache {
        /// The cache.
        id: String,
        /// What the guest says.
        reason: String,
    },
    /// What was asked for could not be written.
    #[error("cannot write the archive")]
    Write(#[source] std::io::Error),
    /// A RUN with too many caches.
    #[error("one RUN can have {0} caches")]
    TooManyCaches(usize),
    /// A process ended with something else than 0.
    #[error("the command {exit}")]
    Command {
        /// How it ended, as a sentence's end.
        exit: Exit,
        /// The last lines that it wrote.
        tail: Vec<(Output, Vec<u8>)>,
    },
    /// A failed step could not be looked into: its shell could not be started.
    #[error("cannot start a shell in the failed step: {reason}")]
    NoShell {
        /// As the guest says it.
        reason: String,
        /// Whether it is the program that is missing, or cannot be executed.
        program: bool,
    },
    /// A failed step could not be looked into: the person's end could not be opened.
    #[error("cannot open the terminal")]
    Terminal(#[source] std::io::Error),
    /// The agent gave up, for this reason.
    #[error("the build VM's agent gave up: {0}")]
    Abort(String),
    /// The guest did what no agent does.
    #[error("the build VM broke the protocol: {0}")]
    Violation(String),
    /// The guest said nothing any more.
    #[error("the build VM has not been heard of for {} s", .0.as_secs())]
    Silent(Duration),
    /// The VM ended before its work.
    #[error("the build VM ended before its work was done{}", console(.0))]
    Ended(Vec<String>),
    /// What the guest sent could not be kept.
    #[error("what the build VM sent could not be kept: {0}")]
    Host(String),
    /// An error that is not the step's own.
    #[error(transparent)]
    Other(Box<Error>),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With a status.
    Status(u32),
    /// By a signal.
    Signal(u32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exited with status {status}"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
        }
    }
}

fn console(lines: &[String]) -> String {
    if lines.is_empty() {
        String::new()
    } else {
        format!("; its console ends with: {}", lines.join(" | "))
    }
}

impl<E: Into<Error>> From<E> for StepError {
    fn from(error: E) -> Self {
        Self::Other(Box::new(error.into()))
    }
}

impl Error {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoImage { reference } => Some(missing_image_hint(reference)),
            // One that can be made here need not be had from elsewhere.
            Self::Pull { reference, source } if reference.repository() != "library/debian" => {
                source
                    .hint()
                    .or_else(|| Some(missing_image_hint(reference)))
            }
            Self::Pull { reference, .. } => Some(missing_image_hint(reference)),
            Self::Image(error) => error.hint(),
            Self::RootHash { .. } => Some(
                "`firebuild image export --type ext4 --verity` prints an image's root hash".to_owned(),
            ),
            Self::RootDamaged { .. } => Some(
                "`firebuild system verify --repair` removes it; it is then made again from the image"
                    .to_owned(),
            ),
            Self::Contexts(error) => error.hint(),
            Self::Fetch(error) => error.hint(),
            Self::Provider(error) => error.hint(),
            _ => None,
        }
    }
}

impl From<crate::provider::ProviderError> for Error {
    fn from(error: crate::provider::ProviderError) -> Self {
        Self::Provider(Box::new(error))
    }
}

impl StepError {
    /// The word of the instruction that it is about, as far as it is known.
    #[must_use]
    pub fn word(&self) -> Option<&str> {
        match self {
            Self::Source {
                error: CopyError::NotFound { word, .. } | CopyError::Pattern(word),
                ..
            } => Some(word),
            Self::Source {
                error: CopyError::Tree(TreeError::Loop(path)),
                ..
            } => Some(path),
            Self::Archive { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Which of a copy's items it is about, from 0.
    #[must_use]
    pub fn item(&self) -> Option<usize> {
        match self {
            Self::Source { item, .. } => Some(*item),
            _ => None,
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Other(error) => error.hint(),
            Self::Source { ignored: true, .. } => {
                Some("it is in the context, but `.dockerignore` leaves it out".to_owned())
            }
            Self::Source { error, .. } | Self::Copy(error) => error.hint(),
            Self::Archive { .. } => {
                Some("`COPY`, or `ADD --unpack=false`, copies an archive as it is".to_owned())
            }
            Self::Whiteout(_) => Some(
                "leave it out, by an ignore file or `--exclude`, or give it another name".to_owned(),
            ),
            Self::NoShell { program: true, .. } => {
                Some("`--debug=PROGRAM` starts another program that the step has".to_owned())
            }
            Self::NoCache(_) => Some("`firebuild build cache ls` lists those that there are".to_owned()),
            Self::CacheExists(id) => Some(format!(
                "remove it with `firebuild build cache rm {id}`, or give another id"
            )),
            Self::DamagedCache { id, .. } => Some(format!(
                "remove it with `firebuild build cache rm {id}`: the next build begins with an empty one"
            )),
            Self::CacheInUse(_) => Some("wait until the build that uses it has ended".to_owned()),
            Self::NoSecret(id) => Some(format!(
                "give it with `--secret id={id},src=FILE` or `--secret id={id},env=NAME`"
            )),
            Self::NoAgent(id) => Some(format!(
                "give it with `--ssh {id}` (the agent of `SSH_AUTH_SOCK`), `--ssh {id}=SOCKET` or `--ssh {id}=KEY`"
            )),
            Self::Silent(_) => Some(
                "a command that needs all of the VM's memory or processors can keep the agent from answering; \
                 give the build VM more of them"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

fn missing_image_hint(reference: &Reference) -> String {
    let name = reference.familiar();
    let suite = reference
        .tag()
        .and_then(|tag| tag.split('-').next())
        .unwrap_or("bookworm");
    if reference.repository() == "library/debian" {
        format!("make it with `firebuild baseos --bootstrap debian:{suite} --tag {name}`")
    } else {
        format!(
            "import it with `firebuild image import FILE --tag {name}`, or build it with `firebuild build -t {name} …`"
        )
    }
}
