//! `--cache-from` and `--cache-to`: results of builds that other machines have done.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use firebuild_builder::Built;
use firebuild_oci::{Exported, export_cache};
use firebuild_store::Store;

use crate::terminal;

#[derive(Debug, Args)]
pub(crate) struct CacheArguments {
    /// Take results that are not known here from another cache: `type=local,src=DIR`
    #[arg(long, value_name = "CACHE", help_heading = "Cache")]
    cache_from: Vec<CacheFrom>,
    /// Write the results of this build to another cache: `type=local,dest=DIR[,mode=min|max]`.
    /// `min` is what the image is made of, `max` every step
    #[arg(long, value_name = "CACHE", help_heading = "Cache")]
    cache_to: Vec<CacheTo>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct CacheFrom(PathBuf);

#[derive(Debug, Clone, PartialEq, Eq)]
struct CacheTo {
    directory: PathBuf,
    everything: bool,
}

/// The directory and whatever else a cache's description says.
fn parse(text: &str, place: [&str; 2]) -> Result<(PathBuf, Option<String>), String> {
    let (mut kind, mut directory, mut mode) = (None, None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("type", value)) => kind = Some(value),
            Some(("mode", value)) => mode = Some(value.to_owned()),
            Some((key, value)) if place.contains(&key) => directory = Some(PathBuf::from(value)),
            _ => {
                return Err(format!(
                    "`{field}` is none of type=, {}= and mode=",
                    place[0]
                ));
            }
        }
    }
    match (kind, directory) {
        (Some("local"), Some(directory)) => Ok((directory, mode)),
        (Some("local"), None) => Err(format!("`{}=DIR` is missing", place[0])),
        (Some(kind), _) => Err(format!(
            "a cache of type `{kind}` is not supported yet; there is `local`"
        )),
        (None, _) => Err("`type=local` is missing".to_owned()),
    }
}

impl FromStr for CacheFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text, ["src", "source"]).map(|(directory, _)| Self(directory))
    }
}

impl FromStr for CacheTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (directory, mode) = parse(text, ["dest", "destination"])?;
        let everything = match mode.as_deref() {
            None | Some("min") => false,
            Some("max") => true,
            Some(other) => return Err(format!("`{other}` is no mode; there are min and max")),
        };
        Ok(Self {
            directory,
            everything,
        })
    }
}

impl CacheArguments {
    /// The caches to ask. One that is not there yet, as on the first run of a pipeline, is none.
    pub(super) fn open(&self) -> anyhow::Result<Arc<[Exported]>> {
        let mut caches = Vec::new();
        for CacheFrom(directory) in &self.cache_from {
            match Exported::open(directory).context("cannot use the cache of `--cache-from`")? {
                Some(cache) => caches.push(cache),
                None => terminal::say(format_args!(
                    "there is no cache in `{}` yet",
                    directory.display()
                )),
            }
        }
        Ok(caches.into())
    }

    /// Writes the results of a build.
    pub(super) fn export(&self, store: &Store, built: &Built) -> anyhow::Result<()> {
        for CacheTo {
            directory,
            everything,
        } in &self.cache_to
        {
            let keys = if *everything {
                &built.keys
            } else {
                &built.own_keys
            };
            let count = export_cache(&store.lease()?, keys, directory)
                .context("the image is built, but its cache could not be written")?;
            terminal::say(format_args!(
                "wrote {count} results to the cache `{}`",
                directory.display()
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_described_as_for_buildx() {
        let to = |text: &str| {
            text.parse::<CacheTo>()
                .map(|to| (to.directory, to.everything))
        };
        assert_eq!(to("type=local,dest=d"), Ok(("d".into(), false)));
        assert_eq!(to("type=local,mode=max,dest=d"), Ok(("d".into(), true)));
        assert_eq!("type=local,src=/s".parse(), Ok(CacheFrom("/s".into())));
        for text in [
            "d",
            "type=local",
            "type=local,dest=d,mode=most",
            "dest=d",
            "type=gha,dest=d",
        ] {
            assert!(to(text).is_err(), "{text}");
        }
        assert!(
            to("type=registry,dest=d")
                .unwrap_err()
                .contains("not supported yet")
        );
    }
}
