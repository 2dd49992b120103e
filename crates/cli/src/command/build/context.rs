//! Where a build's files and its Dockerfile come from: the context, `-f`, named contexts.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use firebuild_builder::contexts::{self, NamedPlace, Opened, Opening, Place};
use firebuild_builder::fetch::Fetcher;
use firebuild_builder::progress::Progress;
use firebuild_plan::lower::NamedContext;

use crate::command::Global;
use crate::error::hinted;

#[derive(Debug, Args)]
pub(super) struct ContextArguments {
    /// The Dockerfile; `-` reads standard input, an address fetches it, and for a context from
    /// elsewhere it is a path in that
    #[arg(long, short, visible_alias = "dockerfile", value_name = "FILE")]
    file: Option<String>,
    /// Give files or an image a name that `FROM`, `COPY --from` and mounts can use: a directory, a
    /// repository, an archive's address, `docker-image://REFERENCE` or `oci-layout://DIRECTORY`
    #[arg(long = "build-context", value_name = "NAME=CONTEXT")]
    named: Vec<Named>,
    /// The directory whose files COPY and ADD may take, `-` for an archive or a Dockerfile on
    /// standard input, or the address of an archive, of a Dockerfile or of a repository
    #[arg(value_name = "CONTEXT", required_unless_present_any = ["file", "docker_image"])]
    context: Option<String>,
}

/// `NAME=CONTEXT`
#[derive(Debug, Clone)]
struct Named(String, NamedPlace);

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            // Those are the language's own: what was given for them would never be read.
            Some((name, _)) if ["scratch", "context"].contains(&&*name.to_ascii_lowercase()) => {
                Err(format!("`{name}` cannot be the name of a named context"))
            }
            Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                let place = NamedPlace::parse(value, Path::exists);
                // A flag's error is one line.
                let place = place.map_err(|error| match std::error::Error::source(&error) {
                    Some(cause) => format!("{error}: {cause}"),
                    None => error.to_string(),
                })?;
                Ok(Self(name.to_owned(), place))
            }
            _ => Err("a named context has the form NAME=CONTEXT".to_owned()),
        }
    }
}

impl ContextArguments {
    /// Takes a Dockerfile's own folder for the context, as the original tool does, if there is no
    /// other.
    pub(super) fn or_folder(&mut self) {
        let (None, Some(text)) = (&self.context, &self.file) else {
            return;
        };
        let file = Path::new(text);
        // What is not there is looked for in its folder, so that it is what is said to be missing.
        if file.is_file() || matches!(Place::parse(text, Path::exists), Ok(Place::Directory(_))) {
            let folder = file.parent().and_then(Path::to_str);
            let folder = folder.filter(|folder| !folder.is_empty()).unwrap_or(".");
            self.context = Some(folder.to_owned());
        }
    }

    /// Whether a context or a Dockerfile is named.
    pub(super) fn is_given(&self) -> bool {
        self.file.is_some() || self.context.is_some()
    }

    /// Whether the build reads standard input.
    pub(super) fn reads_input(&self) -> bool {
        [&self.file, &self.context]
            .into_iter()
            .any(|place| place.as_deref() == Some("-"))
    }

    /// Finds the Dockerfile and its contexts; fetches what has to be fetched for that. With a `text`
    /// that is the Dockerfile, and there are no files.
    pub(super) async fn open(
        &self,
        global: &Global,
        (text, build_args): (Option<String>, &BTreeMap<String, String>),
        fetcher: Fetcher,
        progress: &dyn Progress,
    ) -> anyhow::Result<Opened> {
        let (place, file) = match text {
            Some(_) => (Place::StandardInput, None),
            None => self.place()?,
        };
        let input: Box<dyn Read + Send> = match text {
            Some(text) => Box::new(Cursor::new(text)),
            None => Box::new(std::io::stdin()),
        };
        let opening = Opening {
            place: &place,
            file,
            named: &self.places(),
            keep_git_dir: build_args
                .get("BUILDKIT_CONTEXT_KEEP_GIT_DIR")
                .is_some_and(|value| !matches!(value.as_str(), "" | "0" | "false")),
            input,
            // A directory needs no store, and may be checked where there is none.
            lease: &|| Ok(global.store()?.lease()?),
            progress,
        };
        Ok(contexts::open(opening, Arc::new(fetcher)).await?)
    }

    /// What the named contexts are to lowering.
    pub(super) fn named(&self, global: &Global) -> anyhow::Result<BTreeMap<String, NamedContext>> {
        let places = self.places();
        if places.is_empty() {
            return Ok(BTreeMap::new());
        }
        Ok(contexts::resolve_named(&global.store()?, &places)?)
    }

    /// The context, and the Dockerfile if it is not where one would look. A Dockerfile's address
    /// alone, as the original tool has it, is context and Dockerfile in one.
    fn place(&self) -> anyhow::Result<(Place, Option<&str>)> {
        if let Some(context) = &self.context {
            return Ok((Place::parse(context, Path::exists)?, self.file.as_deref()));
        }
        match Place::parse(self.file.as_deref().unwrap_or("."), Path::exists)? {
            Place::Directory(_) | Place::StandardInput => Err(hinted(
                "it is not said which files the Dockerfile may copy",
                "name a directory after all flags: `.` is the current one",
            )),
            place => Ok((place, None)),
        }
    }

    fn places(&self) -> BTreeMap<String, NamedPlace> {
        let named = self.named.iter().cloned();
        named.map(|Named(name, place)| (name, place)).collect()
    }
}
