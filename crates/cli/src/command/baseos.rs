//! `firebuild baseos`: base images, from a distribution's packages or from a Dockerfile.

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use firebuild_builder::base::Bootstrap;
use firebuild_builder::progress::{Event, Progress};
use firebuild_core::Reference;

use super::Global;
use super::build::ImageBuild;
use crate::error::hinted;
use crate::terminal;

/// What a base is made of: packages, or what `build` takes too.
#[derive(Debug)]
pub(crate) struct Baseos {
    packages: Packages,
    image: ImageBuild,
}

#[derive(Debug, Args)]
struct Packages {
    /// Make it from packages of this distribution and suite: `debian:bookworm`
    #[arg(long, value_name = "DISTRIBUTION:SUITE", conflicts_with_all = ["file", "context", "docker_image"], help_heading = "From packages")]
    bootstrap: Option<String>,
    /// Packages beside the minimal ones
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "PKG,PKG",
        requires = "bootstrap",
        conflicts_with_all = ["file", "context", "docker_image"],
        help_heading = "From packages"
    )]
    include: Vec<String>,
    /// Where packages come from; the package tool's default if none
    #[arg(
        long,
        env = "FIREBUILD_MIRROR",
        value_name = "URL",
        help_heading = "From packages"
    )]
    mirror: Option<String>,
}

impl Args for Baseos {
    fn augment_args(command: Command) -> Command {
        let command = ImageBuild::augment_args(command)
            // `--mirror` is that of packages.
            .mut_arg("mirrors", |mirrors| mirrors.long("registry-mirror"))
            // Other commands take an image as it is.
            .mut_arg("docker_image", |image| image.hide(true))
            .mut_arg("pre_build_command", |command| command.hide(true))
            .mut_arg("post_build_command", |command| command.hide(true))
            .mut_arg("file", |file| {
                file.long("dockerfile")
                    .visible_alias(None)
                    .visible_alias("file")
            })
            .mut_arg("tags", |tags| {
                tags.help("Give the base this name (may be repeated); the Dockerfile's FROM value, or distribution and suite, if none. Made from packages under a tag that ends in `-slim` it is without documentation and translations, as Debian's own slim images are")
            })
            .mut_arg("context", |_| {
                Arg::new("context").value_name("CONTEXT").help(
                    "The files that COPY and ADD may take; the Dockerfile's own folder if not given",
                )
            });
        Packages::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Baseos {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self {
            packages: Packages::from_arg_matches(matches)?,
            image: ImageBuild::from_arg_matches(matches)?,
        })
    }

    fn update_from_arg_matches(&mut self, _: &ArgMatches) -> Result<(), clap::Error> {
        // Nothing here is parsed twice.
        Err(clap::Error::new(ErrorKind::InvalidValue))
    }
}

impl Baseos {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        match self.packages.bootstrap.clone() {
            Some(distribution) => self.bootstrap(&distribution, global),
            None if self.image.names_a_dockerfile() => self.image.run_as_base(global),
            None => Err(hinted(
                "it is not said what the base is made of",
                "give `--dockerfile FILE`, or `--bootstrap debian:SUITE` to make it from packages",
            )),
        }
    }

    fn bootstrap(self, distribution: &str, global: &Global) -> anyhow::Result<()> {
        let suite = suite(distribution)?;
        let tags = match self.image.tags() {
            [] => vec![distribution.parse()?],
            tags => tags.to_vec(),
        };
        let is_slim = |tag: &Reference| tag.tag().is_some_and(|tag| tag.ends_with("-slim"));
        let wanted = Bootstrap {
            suite: suite.to_owned(),
            include: self.packages.include,
            mirror: self.packages.mirror,
            slim: tags.iter().any(is_slim),
        };
        let store = global.store()?;
        let digest = firebuild_builder::base::bootstrap(&store, &wanted, &tags, &Notes)?;
        let names: Vec<String> = tags.iter().map(Reference::familiar).collect();
        terminal::say(format_args!("made `{}`", names.join("`, `")));
        self.image.keep_base(&store, tags)?;
        terminal::print(format_args!("{digest}\n"))
    }
}

/// The suite of `debian:SUITE`.
pub(crate) fn suite(text: &str) -> anyhow::Result<&str> {
    let known = text.strip_prefix("debian:").filter(|suite| {
        !suite.is_empty()
            && suite
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    });
    known.ok_or_else(|| {
        hinted(
            format!("`{text}` is not a distribution that firebuild knows"),
            "write `debian:SUITE`, such as `debian:bookworm`",
        )
    })
}

/// Passes the package tool's words on.
struct Notes;

impl Progress for Notes {
    fn event(&self, event: Event<'_>) {
        if let Event::Note { text, .. } = event {
            terminal::say(text);
        }
    }
}
