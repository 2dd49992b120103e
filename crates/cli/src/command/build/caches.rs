//! `--cache-from` and `--cache-to`: results of builds that other machines have done.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use firebuild_builder::Built;
use firebuild_core::Reference;
use firebuild_oci::registry::{PlainHttp, Registry};
use firebuild_oci::{Exported, Trust, export_cache, push_cache};
use firebuild_store::Store;

use super::super::block_on;
use crate::error::hint_of;
use crate::{registry, terminal};

#[derive(Debug, Args)]
pub(crate) struct CacheArguments {
    /// Take results that are not known here from another cache: `type=local,src=DIR`, or
    /// `type=registry,ref=NAME[:TAG][,registry.insecure=true]`, for which NAME alone will do
    #[arg(long, value_name = "CACHE", help_heading = "Cache")]
    cache_from: Vec<CacheFrom>,
    /// Write the results of this build to another cache: `type=local,dest=DIR[,mode=min|max]`, or
    /// `type=registry,ref=NAME[:TAG][,mode=min|max][,registry.insecure=true]`. `min` is what the
    /// image is made of, `max` every step; with `ignore-error=true` a failure is only told
    #[arg(long, value_name = "CACHE", help_heading = "Cache")]
    cache_to: Vec<CacheTo>,
}

/// Where a cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Local(PathBuf),
    Registry {
        reference: Reference,
        /// Whether it is spoken to without encryption.
        plain_http: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct CacheFrom(Place);

#[derive(Debug, Clone, PartialEq, Eq)]
struct CacheTo {
    place: Place,
    everything: bool,
    ignore_error: bool,
}

/// What a description says beside the place.
#[derive(Debug, Default)]
struct Further {
    mode: Option<String>,
    ignore_error: bool,
}

/// The fields of a description. `place` is how a directory is named.
fn parse(text: &str, place: [&str; 2]) -> Result<(Place, Further), String> {
    let (mut kind, mut directory, mut reference) = (None, None, None);
    let (mut plain_http, mut further) = (false, Further::default());
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("type", value)) => kind = Some(value),
            Some(("mode", value)) => further.mode = Some(value.to_owned()),
            Some(("ref", value)) => reference = Some(value),
            Some(("registry.insecure", value)) => plain_http = truth(field, value)?,
            Some(("ignore-error", value)) => further.ignore_error = truth(field, value)?,
            // Here it is never otherwise, so what BuildKit would do is done.
            Some(("oci-mediatypes" | "image-manifest", "true")) | Some(("compression", "zstd")) => {
            }
            Some((key, value)) if place.contains(&key) => directory = Some(PathBuf::from(value)),
            _ => {
                let place = place[0];
                return Err(format!(
                    "`{field}` is none of type=, {place}=, ref=, mode=, registry.insecure= and ignore-error="
                ));
            }
        }
    }
    let place = match (kind, directory, reference) {
        (Some("local"), Some(directory), _) => Place::Local(directory),
        (Some("local"), None, _) => return Err(format!("`{}=DIR` is missing", place[0])),
        (Some("registry"), _, Some(reference)) => Place::Registry {
            reference: parse_reference(reference)?,
            plain_http,
        },
        (Some("registry"), _, None) => return Err("`ref=NAME` is missing".to_owned()),
        (Some(kind), _, _) => {
            return Err(format!(
                "a cache of type `{kind}` is not supported; there are `local` and `registry`"
            ));
        }
        (None, _, _) => return Err("`type=local` or `type=registry` is missing".to_owned()),
    };
    Ok((place, further))
}

fn truth(field: &str, value: &str) -> Result<bool, String> {
    let read = value.parse();
    read.map_err(|_| format!("`{field}` is neither true nor false"))
}

fn parse_reference(text: &str) -> Result<Reference, String> {
    text.parse::<Reference>().map_err(|error| error.to_string())
}

impl FromStr for CacheFrom {
    type Err = String;

    /// A description without any field is the name of an image, as it is for buildx.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('=') {
            return parse(text, ["src", "source"]).map(|(place, _)| Self(place));
        }
        Ok(Self(Place::Registry {
            reference: parse_reference(text)?,
            plain_http: false,
        }))
    }
}

impl FromStr for CacheTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (place, further) = if text.contains('=') {
            parse(text, ["dest", "destination"])?
        } else {
            parse(
                &format!("type=registry,ref={text}"),
                ["dest", "destination"],
            )?
        };
        let everything = match further.mode.as_deref() {
            None | Some("min") => false,
            Some("max") => true,
            Some(other) => return Err(format!("`{other}` is no mode; there are min and max")),
        };
        if let Place::Registry { reference, .. } = &place
            && reference.digest().is_some()
        {
            return Err("a cache is written under a tag, not under a digest".to_owned());
        }
        Ok(Self {
            place,
            everything,
            ignore_error: further.ignore_error,
        })
    }
}

impl Place {
    /// The client for a registry.
    fn client(plain_http: bool, trust: &Trust) -> Registry {
        let mut options = registry::options(trust.clone());
        if plain_http {
            options.plain_http = PlainHttp::All;
        }
        Registry::new(options)
    }

    fn name(&self) -> String {
        match self {
            Self::Local(directory) => directory.display().to_string(),
            Self::Registry { reference, .. } => reference.familiar(),
        }
    }

    fn open(&self, trust: &Trust) -> anyhow::Result<Option<Exported>> {
        match self {
            Self::Local(directory) => {
                Exported::open(directory).context("cannot use the cache of `--cache-from`")
            }
            Self::Registry {
                reference,
                plain_http,
            } => {
                let client = Self::client(*plain_http, trust);
                Ok(block_on(Exported::fetch(&client, reference))??)
            }
        }
    }
}

impl CacheTo {
    fn export(&self, store: &Store, built: &Built, trust: &Trust) -> anyhow::Result<usize> {
        let keys = if self.everything {
            &built.keys
        } else {
            &built.own_keys
        };
        let lease = store.lease()?;
        let count = match &self.place {
            Place::Local(directory) => export_cache(&lease, keys, directory)?,
            Place::Registry {
                reference,
                plain_http,
            } => {
                let client = Place::client(*plain_http, trust);
                block_on(push_cache(&lease, keys, &client, reference))??
            }
        };
        Ok(count)
    }
}

impl CacheArguments {
    /// The caches to ask. One that is not there yet, as on the first run of a pipeline, is none; a
    /// registry that does not answer stops nobody.
    pub(super) fn open(&self, trust: &Trust) -> anyhow::Result<Arc<[Exported]>> {
        let mut caches = Vec::new();
        for CacheFrom(place) in &self.cache_from {
            match (place.open(trust), place) {
                (Ok(Some(cache)), _) => caches.push(cache),
                (Ok(None), _) => {
                    let name = place.name();
                    terminal::say(format_args!("there is no cache in `{name}` yet"));
                }
                (Err(error), Place::Local(_)) => return Err(error),
                (Err(error), Place::Registry { .. }) => warn(place, "used", &error),
            }
        }
        Ok(caches.into())
    }

    /// Writes the results of a build.
    pub(super) fn export(&self, store: &Store, built: &Built, trust: &Trust) -> anyhow::Result<()> {
        for cache in &self.cache_to {
            match cache.export(store, built, trust) {
                Ok(count) => terminal::say(format_args!(
                    "wrote {count} results to the cache `{}`",
                    cache.place.name()
                )),
                Err(error) if cache.ignore_error => warn(&cache.place, "written", &error),
                Err(error) => {
                    return Err(error)
                        .context("the image is built, but its cache could not be written");
                }
            }
        }
        Ok(())
    }
}

/// Tells what was not done with a cache, and why.
fn warn(place: &Place, done: &str, error: &anyhow::Error) {
    let name = place.name();
    terminal::say(format_args!(
        "warning: the cache `{name}` cannot be {done}: {error:#}"
    ));
    if let Some(hint) = hint_of(error) {
        terminal::say(format_args!("hint: {hint}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(directory: &str) -> Place {
        Place::Local(directory.into())
    }

    fn registry(reference: &str, plain_http: bool) -> Place {
        let reference = reference.parse().unwrap();
        Place::Registry {
            reference,
            plain_http,
        }
    }

    #[test]
    fn caches_are_described_as_for_buildx() {
        for (text, place, everything, ignore_error) in [
            ("type=local,dest=d", local("d"), false, false),
            ("type=local,mode=max,dest=d", local("d"), true, false),
            (
                "type=registry,ref=a/b:c",
                registry("a/b:c", false),
                false,
                false,
            ),
            ("a/b:c", registry("a/b:c", false), false, false),
            (
                "type=registry,ref=h:1/b,registry.insecure=true,mode=max,ignore-error=true,image-manifest=true,oci-mediatypes=true",
                registry("h:1/b", true),
                true,
                true,
            ),
        ] {
            let expected = CacheTo {
                place,
                everything,
                ignore_error,
            };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        assert_eq!("type=local,src=/s".parse(), Ok(CacheFrom(local("/s"))));
        assert_eq!("a/b".parse(), Ok(CacheFrom(registry("a/b", false))));
    }

    #[test]
    fn what_is_no_description() {
        let pinned = format!("type=registry,ref=a@sha256:{}", "0".repeat(64));
        for (text, expected) in [
            ("D", "repository names are lower-case"),
            ("type=local", "`dest=DIR` is missing"),
            ("type=local,dest=d,mode=most", "there are min and max"),
            ("dest=d", "is missing"),
            ("type=gha,dest=d", "is not supported"),
            ("type=registry,dest=d", "`ref=NAME` is missing"),
            (
                "type=registry,ref=a,registry.insecure=yes",
                "neither true nor false",
            ),
            ("type=registry,ref=a,oci-mediatypes=false", "is none of"),
            (&pinned, "not under a digest"),
        ] {
            let error = text.parse::<CacheTo>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
