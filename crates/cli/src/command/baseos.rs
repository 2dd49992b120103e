//! `firebuild baseos`: base images from a distribution's packages.

use clap::Args;
use firebuild_builder::base::Bootstrap;
use firebuild_builder::progress::{Event, Progress};
use firebuild_core::Reference;

use super::Global;
use crate::error::hinted;
use crate::terminal;

#[derive(Debug, Args)]
pub(crate) struct Baseos {
    /// The distribution and its suite: `debian:bookworm`
    #[arg(long, value_name = "DISTRIBUTION:SUITE")]
    bootstrap: String,
    /// Packages beside the minimal ones
    #[arg(long, value_delimiter = ',', value_name = "PKG,PKG")]
    include: Vec<String>,
    /// The image's name; the distribution and suite if none. A tag that ends in `-slim` leaves
    /// documentation and translations out, as Debian's own slim images do
    #[arg(long, short)]
    tag: Option<Reference>,
    /// Where packages come from; the package tool's default if none
    #[arg(long, env = "FIREBUILD_MIRROR", value_name = "URL")]
    mirror: Option<String>,
}

impl Baseos {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let suite = suite(&self.bootstrap)?;
        let tag = match self.tag {
            Some(tag) => tag,
            None => self.bootstrap.parse()?,
        };
        let slim = tag.tag().is_some_and(|tag| tag.ends_with("-slim"));
        let wanted = Bootstrap {
            suite: suite.to_owned(),
            include: self.include,
            mirror: self.mirror,
            slim,
        };
        let store = global.store()?;
        let digest = firebuild_builder::base::bootstrap(&store, &wanted, &tag, &Notes)?;
        terminal::say(format_args!("made `{}`", tag.familiar()));
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
