//! What people choose of a Dockerfile beside its text: target, arguments, labels, time.

use std::collections::BTreeMap;
use std::str::FromStr;

use clap::Args;
use firebuild_core::{Platform, Reference};
use firebuild_plan::{lower, platform};

use crate::error::hinted;

#[derive(Debug, Args)]
pub(crate) struct Choices {
    /// Build this stage instead of the last
    #[arg(long, visible_alias = "dockerfile-stage", value_name = "STAGE")]
    pub(super) target: Option<String>,
    /// Set a build argument; without a value it is taken from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    build_args: Vec<String>,
    /// Give every RUN the proxies that the environment names, without a trace in the image
    #[arg(long)]
    proxy_from_env: bool,
    /// Put a label on the image, over what the Dockerfile says
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<Assignment>,
    /// What the image is for; only the host's own architecture can be built so far
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Say that everything made is of this time, so that the same inputs give the same image: seconds
    /// since 1970, `context`, a named context, or a stage that does nothing but ADD one address
    #[arg(long, env = "SOURCE_DATE_EPOCH", value_name = "SECONDS|NAME")]
    source_date_epoch: Option<lower::Epoch>,
}

/// `NAME=VALUE`
#[derive(Debug, Clone)]
struct Assignment(String, String);

impl FromStr for Assignment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self(name.to_owned(), value.to_owned())),
            // Docker takes a name alone, too.
            None if !text.is_empty() => Ok(Self(text.to_owned(), String::new())),
            _ => Err("a label has the form NAME=VALUE"),
        }
    }
}

/// The variables that proxies are named by; each also in upper case.
const PROXIES: [&str; 5] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "all_proxy",
];

impl Choices {
    /// The values of build arguments: those from the environment, then those that were typed.
    pub(super) fn build_args(&self) -> BTreeMap<String, String> {
        let mut values = BTreeMap::new();
        if self.proxy_from_env {
            for name in PROXIES {
                let value = std::env::var(name).or_else(|_| std::env::var(name.to_uppercase()));
                values.extend(value.ok().map(|value| (name.to_owned(), value)));
            }
        }
        for argument in &self.build_args {
            match argument.split_once('=') {
                Some((name, value)) => values.insert(name.to_owned(), value.to_owned()),
                None => std::env::var(argument)
                    .ok()
                    .and_then(|value| values.insert(argument.clone(), value)),
            };
        }
        values
    }

    /// The same, without the values of those that are named like secrets, and of proxies, which may
    /// have passwords in them.
    pub(super) fn told_build_args(&self) -> BTreeMap<String, String> {
        let mut values = self.build_args();
        for (name, value) in &mut values {
            let is_proxy = PROXIES.contains(&&*name.to_ascii_lowercase());
            if is_proxy || firebuild_plan::check::is_secret(name) {
                value.clear();
            }
        }
        values
    }

    /// Everything that lowering takes.
    pub(super) fn lowering(
        &self,
        contexts: BTreeMap<String, lower::NamedContext>,
        context_time: Option<u64>,
    ) -> anyhow::Result<lower::Options> {
        let labels = self.labels.iter().cloned();
        Ok(lower::Options {
            target: self.target.clone(),
            build_args: self.build_args(),
            platform: self.platform()?,
            contexts,
            labels: labels
                .map(|Assignment(name, value)| (name, value))
                .collect(),
            // An empty variable is none.
            epoch: (self.source_date_epoch.clone())
                .filter(|epoch| *epoch != lower::Epoch::Of(String::new())),
            times: [(lower::CONTEXT.to_owned(), context_time)].into(),
        })
    }

    fn platform(&self) -> anyhow::Result<Platform> {
        let host = Platform::host();
        let Some(wanted) = &self.platform else {
            return Ok(host);
        };
        let is_host =
            platform::parse(wanted).is_some_and(|wanted| platform::is_same(&wanted, &host));
        if is_host {
            return Ok(host);
        }
        Err(hinted(
            format!(
                "cannot build for `{wanted}`: this host is `{host}`, and no other architecture is supported yet"
            ),
            format!("leave `--platform` out, or give `--platform {host}`"),
        ))
    }
}

/// `-t NAME[:TAG]`
pub(super) fn familiar(tags: &[Reference]) -> String {
    let names: Vec<String> = tags.iter().map(Reference::familiar).collect();
    names.join(", ")
}
