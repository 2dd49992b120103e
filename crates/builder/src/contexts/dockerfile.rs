//! Which file is the Dockerfile, and which files of its context it does not see.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use firebuild_core::tree::Kind;
use firebuild_plan::ignore::Patterns;

use super::ContextError;
use crate::sources::Files;

/// The names that a Dockerfile has if nobody says another.
pub(super) const USUAL: [&str; 2] = ["Dockerfile", "dockerfile"];

/// The most bytes that are taken for a Dockerfile: more than the language allows, so that it is the
/// parser that says so.
const MOST: u64 = 65 << 20;

/// A Dockerfile as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerfileText {
    /// What messages call it.
    pub name: String,
    /// Its bytes.
    pub text: Vec<u8>,
}

/// Reads a text from somewhere, up to the most that a Dockerfile can have.
pub(super) fn read(name: &str, input: impl Read) -> Result<DockerfileText, ContextError> {
    let mut text = Vec::new();
    let read = input.take(MOST).read_to_end(&mut text);
    read.map_err(ContextError::read(format!("the Dockerfile `{name}`")))?;
    Ok(DockerfileText {
        name: name.to_owned(),
        text,
    })
}

/// As [`read`], of something that could have been an archive.
pub(super) fn read_single(name: &str, input: impl Read) -> Result<DockerfileText, ContextError> {
    let found = read(name, input)?;
    // No text has such a byte, and hardly an archive has none.
    if found.text.contains(&0) {
        return Err(ContextError::Neither(name.to_owned()));
    }
    Ok(found)
}

/// The Dockerfile in a directory of this host, or the one that was named, and where it is.
pub(super) fn local(
    directory: &Path,
    file: Option<&Path>,
) -> Result<(DockerfileText, PathBuf), ContextError> {
    let path = match file {
        Some(file) => file.to_owned(),
        None => {
            let [usual, lower] = USUAL.map(|name| directory.join(name));
            if !usual.exists() && lower.exists() {
                lower
            } else {
                usual
            }
        }
    };
    let name = path.display().to_string();
    let file = match fs_err::File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ContextError::NoDockerfile(name));
        }
        other => other.map_err(ContextError::read("the Dockerfile"))?,
    };
    Ok((read(&name, file)?, path))
}

/// `<Dockerfile>.dockerignore`, or else `.dockerignore` of the context.
pub(super) fn ignored(
    directory: &Path,
    dockerfile: Option<&Path>,
) -> Result<Patterns, ContextError> {
    let beside = dockerfile.map(|path| {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".dockerignore");
        PathBuf::from(beside)
    });
    for path in beside.into_iter().chain([directory.join(".dockerignore")]) {
        match fs_err::read(&path) {
            Ok(text) => {
                return Patterns::parse(&text)
                    .map_err(|source| ContextError::Ignore { path, source });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ContextError::read("an ignore file")(error)),
        }
    }
    Ok(Patterns::default())
}

/// The Dockerfile in files from elsewhere. `place` is what messages call them.
pub(super) fn inside(
    files: &Files,
    file: Option<&str>,
    place: &str,
) -> Result<DockerfileText, ContextError> {
    let candidates = file.map_or_else(|| USUAL.to_vec(), |file| vec![file]);
    for path in &candidates {
        let Ok(id) = files.tree.resolve(path.as_bytes(), true) else {
            continue;
        };
        let Kind::File(content) = &files.tree.node(id).kind else {
            continue;
        };
        let name = format!("{place}:{}", path.trim_start_matches('/'));
        let reader = files.sources.open(content);
        let reader = reader.map_err(ContextError::read(format!("the Dockerfile `{name}`")))?;
        return read(&name, reader);
    }
    let wanted = candidates.first().copied().unwrap_or_default();
    Err(ContextError::NoDockerfileInside {
        place: place.to_owned(),
        file: wanted.to_owned(),
    })
}
