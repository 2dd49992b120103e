//! What people write for a context: pure, one table of forms.

use std::path::{Path, PathBuf};

use firebuild_core::{Digest, Reference};
use firebuild_plan::{GitSource, ParseSourceError, SourceKind, classify};

use super::ContextError;

/// Where a context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory of this host.
    Directory(PathBuf),
    /// Standard input: an archive, or a Dockerfile without a context.
    StandardInput,
    /// A file on a web server: an archive, or a Dockerfile, whose context is the folder it is in.
    Http(String),
    /// A repository.
    Git {
        /// Where it is and what of it is wanted.
        source: GitSource,
        /// The Dockerfile in it, where the address names one.
        dockerfile: Option<String>,
    },
}

/// What a named context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedPlace {
    /// An image.
    Image(Reference),
    /// An image in an OCI image layout.
    Layout {
        /// The layout's directory.
        directory: PathBuf,
        /// Which of its images.
        image: LayoutImage,
    },
    /// Files.
    Files(Place),
}

/// An image of an OCI image layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayoutImage {
    /// The only one.
    Only,
    /// The one of this name.
    Tag(String),
    /// The one of this digest.
    Digest(Digest),
}

/// The host whose repositories may be written without a scheme.
const SCHEMELESS: &str = "github.com/";

impl Place {
    /// Reads a context as it is written on the command line. `exists` says whether a path is there:
    /// what is one is taken for one, even if it looks like an address.
    ///
    /// # Errors
    /// [`ContextError::Address`] for a repository's address with queries that cannot be understood.
    pub fn parse(text: &str, exists: impl Fn(&Path) -> bool) -> Result<Self, ContextError> {
        let path = Path::new(text);
        if text == "-" {
            return Ok(Self::StandardInput);
        }
        if let Some(place) = original(text)? {
            return Ok(place);
        }
        match classify(text).map_err(|error| wrong(text, error))? {
            SourceKind::Git(source) if !exists(path) => Ok(Self::Git {
                source,
                dockerfile: None,
            }),
            SourceKind::Http { url, .. } => Ok(Self::Http(url)),
            _ if text.starts_with(SCHEMELESS) && !exists(path) => repository(text),
            _ => Ok(Self::Directory(path.to_owned())),
        }
    }
}

/// `github.com/…`: a repository, with or without `.git`.
fn repository(text: &str) -> Result<Place, ContextError> {
    let (address, rest) = match text.find(['?', '#']) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let address = address.trim_end_matches(".git").trim_end_matches('/');
    git(text, &format!("https://{address}.git{rest}"), None)
}

/// The forms of the original tool: `git+https://host/repo.git:/path/Dockerfile#reference`, and the
/// same with `git+http`, `git+ssh`, `ssh` and `git`. What the Dockerfile copies lies beside it.
fn original(text: &str) -> Result<Option<Place>, ContextError> {
    let plain = text.strip_prefix("git+");
    let address = plain.unwrap_or(text);
    let scheme = address.split_once("://").map(|(scheme, _)| scheme);
    let known = match scheme {
        Some("ssh" | "git") => true,
        Some("http" | "https") => plain.is_some(),
        _ => false,
    };
    if !known {
        return Ok(None);
    }
    let (address, fragment) = match address.find('#') {
        Some(at) => address.split_at(at),
        None => (address, ""),
    };
    let Some((repository, path)) = address.split_once(".git:/") else {
        return match plain {
            Some(plain) => git(text, plain, None).map(Some),
            None => Ok(None),
        };
    };
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    if name.is_empty() {
        return Err(ContextError::NoFile(super::shown(text)));
    }
    let mut place = git(text, &format!("{repository}.git{fragment}"), Some(name))?;
    if let Place::Git { source, .. } = &mut place {
        let folder = folder.trim_matches('/');
        source.subdirectory = (!folder.is_empty()).then(|| folder.to_owned());
    }
    Ok(Some(place))
}

fn git(text: &str, address: &str, dockerfile: Option<&str>) -> Result<Place, ContextError> {
    match classify(address).map_err(|error| wrong(text, error))? {
        SourceKind::Git(source) => Ok(Place::Git {
            source,
            dockerfile: dockerfile.map(str::to_owned),
        }),
        _ => Err(ContextError::NoRepository(super::shown(text))),
    }
}

fn wrong(text: &str, source: ParseSourceError) -> ContextError {
    ContextError::Address {
        address: super::shown(text),
        source,
    }
}

impl NamedPlace {
    /// Reads what stands behind `NAME=`.
    ///
    /// # Errors
    /// [`ContextError::Named`] for a reference or layout that cannot be understood; those of
    /// [`Place::parse`].
    pub fn parse(text: &str, exists: impl Fn(&Path) -> bool) -> Result<Self, ContextError> {
        let wrong = |reason: String| ContextError::Named {
            value: super::shown(text),
            reason,
        };
        if let Some(reference) = text.strip_prefix("docker-image://") {
            let reference = reference.parse::<Reference>();
            return Ok(Self::Image(
                reference.map_err(|error| wrong(error.to_string()))?,
            ));
        }
        if let Some(layout) = text.strip_prefix("oci-layout://") {
            return layout_image(layout).map_err(wrong);
        }
        match Place::parse(text, exists)? {
            Place::StandardInput => Err(wrong("standard input has no name".to_owned())),
            place => Ok(Self::Files(place)),
        }
    }
}

/// `PATH`, `PATH:TAG` or `PATH@DIGEST`.
fn layout_image(text: &str) -> Result<NamedPlace, String> {
    let (path, image) = if let Some((path, digest)) = text.rsplit_once('@') {
        let digest = digest
            .parse::<Digest>()
            .map_err(|error| error.to_string())?;
        (path, LayoutImage::Digest(digest))
    } else {
        match text.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') && !tag.is_empty() => {
                (path, LayoutImage::Tag(tag.to_owned()))
            }
            _ => (text, LayoutImage::Only),
        }
    };
    match path {
        "" => Err("it names no directory".to_owned()),
        path => Ok(NamedPlace::Layout {
            directory: PathBuf::from(path),
            image,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The place in one line.
    fn told(place: &Place) -> String {
        match place {
            Place::Directory(path) => format!("directory {}", path.display()),
            Place::StandardInput => "standard input".to_owned(),
            Place::Http(url) => format!("http {url}"),
            Place::Git { source, dockerfile } => {
                let mut text = format!("git {}", source.remote);
                for (mark, part) in [
                    ("#", &source.reference),
                    (":", &source.subdirectory),
                    (" -f ", dockerfile),
                ] {
                    if let Some(part) = part {
                        text.push_str(&format!("{mark}{part}"));
                    }
                }
                text
            }
        }
    }

    #[test]
    fn every_form_is_one_kind_of_place() {
        for (text, expected) in [
            (".", "directory ."),
            ("dir/there", "directory dir/there"),
            ("/abs", "directory /abs"),
            ("a.git", "directory a.git"),
            ("-", "standard input"),
            (
                "https://host.example/c.tar.gz",
                "http https://host.example/c.tar.gz",
            ),
            (
                "http://host.example/x/Dockerfile",
                "http http://host.example/x/Dockerfile",
            ),
            ("https://host.example/a", "http https://host.example/a"),
            (
                "https://host.example/a.git",
                "git https://host.example/a.git",
            ),
            (
                "https://host.example/a.git#main:sub",
                "git https://host.example/a.git#main:sub",
            ),
            (
                "https://host.example/a.git#:sub",
                "git https://host.example/a.git:sub",
            ),
            (
                "https://host.example/a.git?branch=b",
                "git https://host.example/a.git#refs/heads/b",
            ),
            (
                "git@host.example:a/b.git#v1",
                "git git@host.example:a/b.git#v1",
            ),
            (
                "ssh://git@host.example/a#v1",
                "git ssh://git@host.example/a#v1",
            ),
            ("git://host.example/a", "git git://host.example/a"),
            ("github.com/a/b", "git https://github.com/a/b.git"),
            (
                "github.com/a/b.git#v1:x",
                "git https://github.com/a/b.git#v1:x",
            ),
            ("github.com/there", "directory github.com/there"),
            (
                "git+https://host.example/a.git:/Dockerfile",
                "git https://host.example/a.git -f Dockerfile",
            ),
            (
                "git+https://host.example:81/a.git:/x/y/Dockerfile.z#v1",
                "git https://host.example:81/a.git#v1:x/y -f Dockerfile.z",
            ),
            (
                "git+http://host.example/a.git:/x/Dockerfile#feature/x",
                "git http://host.example/a.git#feature/x:x -f Dockerfile",
            ),
            (
                "git+ssh://git@host.example:22/a.git:/Dockerfile",
                "git ssh://git@host.example:22/a.git -f Dockerfile",
            ),
            (
                "ssh://git@host.example/a.git:/x/Dockerfile#v1",
                "git ssh://git@host.example/a.git#v1:x -f Dockerfile",
            ),
            (
                "git://host.example/a.git:/Dockerfile",
                "git git://host.example/a.git -f Dockerfile",
            ),
            (
                "git+https://host.example/a.git#v1",
                "git https://host.example/a.git#v1",
            ),
            ("git+file:///a.git", "directory git+file:///a.git"),
        ] {
            let place = Place::parse(text, |path| path.ends_with("there")).unwrap();
            assert_eq!(told(&place), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_an_error() {
        for text in [
            "https://host.example/a.git?depth=1",
            "git+https://host.example/a.git:/x/",
            "git+https://host.example/a",
        ] {
            assert!(Place::parse(text, |_| false).is_err(), "{text}");
        }
    }

    #[test]
    fn named_contexts_are_images_or_files() {
        let digest = Digest::of(b"");
        let layout = |directory: &str, image| NamedPlace::Layout {
            directory: directory.into(),
            image,
        };
        for (text, expected) in [
            (
                "docker-image://alpine:3",
                NamedPlace::Image("alpine:3".parse().unwrap()),
            ),
            ("oci-layout:///a/b", layout("/a/b", LayoutImage::Only)),
            (
                "oci-layout://a:v1",
                layout("a", LayoutImage::Tag("v1".into())),
            ),
            ("oci-layout://a:b/c", layout("a:b/c", LayoutImage::Only)),
            (
                &format!("oci-layout://a@{digest}"),
                layout("a", LayoutImage::Digest(digest)),
            ),
            (
                "../dir",
                NamedPlace::Files(Place::Directory("../dir".into())),
            ),
            (
                "https://host.example/a.tar",
                NamedPlace::Files(Place::Http("https://host.example/a.tar".into())),
            ),
        ] {
            assert_eq!(
                NamedPlace::parse(text, |_| false).unwrap(),
                expected,
                "{text}"
            );
        }
        for text in [
            "-",
            "docker-image://UPPER",
            "oci-layout://",
            "oci-layout://a@sha256:1",
        ] {
            assert!(NamedPlace::parse(text, |_| false).is_err(), "{text}");
        }
    }
}
