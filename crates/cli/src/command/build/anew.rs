//! `--no-cache`: what is done anew although its result is known.

use std::collections::BTreeSet;

use clap::Args;
use firebuild_builder::NoCache;
use firebuild_dockerfile::Dockerfile;
use firebuild_plan::{lower, suggest};

use crate::error::hinted;

#[derive(Debug, Args)]
pub(super) struct AnewArguments {
    /// Do everything anew, or only what these stages do
    #[arg(long, value_name = "STAGE", num_args = 0.., require_equals = true, value_delimiter = ',')]
    no_cache: Option<Vec<String>>,
}

impl AnewArguments {
    /// What they mean for a file. A stage that nobody needs may be named; one that is not there is
    /// a mistake in typing, which would go unnoticed.
    pub(super) fn of(
        &self,
        dockerfile: &Dockerfile,
        options: &lower::Options,
    ) -> anyhow::Result<NoCache> {
        let stages = match &self.no_cache {
            None => return Ok(NoCache::Nothing),
            Some(stages) if stages.is_empty() => return Ok(NoCache::All),
            Some(stages) => stages,
        };
        let outline = lower::outline(dockerfile, options)?;
        let names: BTreeSet<&str> = outline.stages.iter().map(|one| one.name.as_str()).collect();
        for stage in stages {
            if !names.iter().any(|name| name.eq_ignore_ascii_case(stage)) {
                let known: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                let hint = match suggest::nearest(stage, names) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => format!("its stages are {}", known.join(", ")),
                };
                let what = format!("`--no-cache={stage}`: the Dockerfile has no such stage");
                return Err(hinted(what, hint));
            }
        }
        Ok(NoCache::Stages(stages.iter().cloned().collect()))
    }
}
