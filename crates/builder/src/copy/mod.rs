//! What COPY and ADD of files mean, written once.
//!
//! A copy takes files from one tree (a build context or an image), and gives the tree of what it
//! adds to another: a layer. The rules are BuildKit's; the parts that people get wrong are each
//! named by a test. It never reads a file's bytes: content is passed on by reference.
//!
//! * `source`: what the instruction's words name.
//! * `prune`: what `--exclude` and `--parents` leave of it.
//! * `merge`: where it goes.
//! * `unpack`: what an archive becomes.

mod merge;
mod place;
mod prune;
mod source;
mod unpack;
mod upper;

use firebuild_core::layer::LayerEntry;
use firebuild_core::tree::{Timestamp, Tree, TreeError};
use firebuild_plan::ModeChange;

pub use place::make_directory;
pub use prune::Exclude;
pub use source::{Match, matches, matches_with_parents};

/// What to copy where.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// What is copied, in the order of the instruction's words.
    pub parts: &'a [Part<'a>],
    /// An absolute path; a trailing `/` or `/.` says that it is a directory.
    pub destination: &'a [u8],
    /// The owner of everything copied or made; none keeps what the source has.
    pub owner: Option<(u32, u32)>,
    /// The change of the permission bits of everything copied, but not of what an archive holds.
    pub mode: Option<&'a ModeChange>,
}

/// One thing that is copied.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// A file or directory.
    Match(&'a Match<'a>),
    /// What an archive holds.
    Archive {
        /// Its entries, in their order.
        entries: &'a [LayerEntry],
        /// The number that the source of their contents has.
        source: u32,
        /// The time of directories that it does not list.
        mtime: Timestamp,
    },
}

/// Why a copy is impossible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// A source without wildcards that is not there.
    #[error("`{word}` not found")]
    NotFound {
        /// As it is written.
        word: String,
        /// What is there and has a name like it.
        near: Vec<String>,
    },
    /// A directory was to be copied onto something that is none.
    #[error("cannot copy a directory to `{0}`, which is not a directory")]
    ToNonDirectory(String),
    /// A file was to replace a directory inside a merged directory.
    #[error("cannot replace the directory `{0}` with a file")]
    OverDirectory(String),
    /// A second file was to take the place of the first.
    #[error(
        "several files would be copied to the one path `{0}`; end the destination with `/` to copy them into a directory"
    )]
    Overwrites(String),
    /// A pattern that is malformed.
    #[error("`{0}` is not a pattern: a `[` is not closed, or a `\\` ends it")]
    Pattern(String),
    /// An archive's hard link to what it does not have.
    #[error("`{link}` is a hard link to `{target}`, which the archive does not have before it")]
    LinkToNothing {
        /// The link.
        link: String,
        /// What it should be another name of.
        target: String,
    },
    /// An archive's entry whose path leads out of the destination through a symbolic link.
    #[error("`{0}` leads out of the destination through a symbolic link")]
    LeadsOut(String),
    /// An owner's name, where no names are known.
    #[error("`{0}` has no number here: `--link` copies without looking at the image's users")]
    LinkedOwner(String),
    /// A path that leads nowhere.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl CopyError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { near, .. } => {
                let names: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
                (!names.is_empty()).then(|| format!("did you mean {}?", names.join(" or ")))
            }
            Self::LinkedOwner(_) => {
                Some("give `--chown` numbers, or leave `--link` out".to_owned())
            }
            _ => None,
        }
    }
}

/// Copies: the result is what `lower` gains, with every parent directory.
///
/// # Errors
/// [`CopyError`] where a rule forbids it.
pub fn copy(lower: &Tree, request: &Request<'_>) -> Result<Tree, CopyError> {
    let mut copier = merge::Copier::new(lower, request);
    for part in request.parts {
        copier.part(part)?;
    }
    Ok(copier.into_upper())
}

#[cfg(test)]
mod cases;
#[cfg(test)]
mod flags;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trees;
