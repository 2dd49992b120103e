//! `--provenance FILE`: what went into an image, as an in-toto statement with a SLSA provenance
//! predicate (version 1).
//!
//! It tells inputs by their digests, so that somebody else can find the same ones. Secrets are told
//! by their ids; values of arguments that are named like secrets are left out.

use std::io::Write as _;

use anyhow::Context as _;
use firebuild_builder::Built;
use firebuild_builder::contexts::Contexts;
use firebuild_core::{Digest, Reference};
use firebuild_plan::operation::{Item, Operation, Plan};
use firebuild_plan::{Mount, lower};
use firebuild_store::{KernelId, Store};
use serde_json::{Value, json};

/// The kind of statement, of in-toto's attestation framework.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// The predicate that it makes.
const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// How `externalParameters` and `internalParameters` are to be read; docs/provenance.md says.
const BUILD_TYPE: &str = "urn:firebuild:dockerfile:v1";

/// Everything that the statement tells of.
pub(super) struct Facts<'a> {
    pub(super) store: &'a Store,
    pub(super) plan: &'a Plan,
    pub(super) options: &'a lower::Options,
    pub(super) contexts: &'a Contexts,
    /// The Dockerfile's name and text.
    pub(super) dockerfile: (&'a str, &'a [u8]),
    pub(super) tags: &'a [Reference],
    pub(super) kernel: Option<KernelId>,
    /// Seconds since 1970.
    pub(super) started: u64,
    pub(super) built: &'a Built,
}

/// Writes the statement.
pub(super) fn write(mut file: fs_err::File, facts: &Facts<'_>) -> anyhow::Result<()> {
    let lease = facts.store.lease()?;
    let context = super::super::block_on(facts.contexts.digest(&lease))?
        .context("cannot hash the build context for `--provenance`")?;
    let statement = statement(facts, context)?;
    let text = serde_json::to_string_pretty(&statement)?;
    writeln!(file, "{text}").context("the image is built, but its provenance could not be written")
}

fn statement(facts: &Facts<'_>, context: Option<Digest>) -> anyhow::Result<Value> {
    let hex = facts.built.digest.hex();
    let subject = |name: String| json!({ "name": name, "digest": { "sha256": hex } });
    let subjects: Vec<Value> = match facts.tags {
        [] => vec![subject("image".to_owned())],
        tags => tags.iter().map(|tag| subject(tag.to_string())).collect(),
    };
    Ok(json!({
        "_type": STATEMENT,
        "subject": subjects,
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": external(facts),
                "internalParameters": {
                    "kernel": facts.kernel.as_ref().map(ToString::to_string),
                    "agent": format!("vminit {}", env!("CARGO_PKG_VERSION")),
                    "planVersion": facts.plan.version,
                },
                "resolvedDependencies": dependencies(facts, context)?,
            },
            "runDetails": {
                "builder": {
                    "id": "urn:firebuild:command",
                    "version": { "firebuild": env!("CARGO_PKG_VERSION") },
                },
                "metadata": {
                    "startedOn": timestamp(facts.started),
                    "finishedOn": timestamp(facts.started + facts.built.duration.as_secs()),
                },
            },
        },
    }))
}

fn external(facts: &Facts<'_>) -> Value {
    let arguments = facts.options.build_args.iter();
    let arguments: serde_json::Map<String, Value> = arguments
        .map(|(name, value)| {
            let shown = if firebuild_plan::check::is_secret(name)
                || name.to_ascii_lowercase().ends_with("_proxy")
            {
                json!(null)
            } else {
                json!(value)
            };
            (name.clone(), shown)
        })
        .collect();
    let mounts = operations(facts.plan).flat_map(|operation| match operation {
        Operation::Run(run) => &run.mounts[..],
        _ => &[],
    });
    let secrets: std::collections::BTreeSet<&str> = mounts
        .filter_map(|mount| match mount {
            Mount::Secret(secret) => Some(secret.id.as_str()),
            _ => None,
        })
        .collect();
    json!({
        "dockerfile": facts.dockerfile.0,
        "target": facts.options.target,
        "platform": facts.plan.platform.to_string(),
        "buildArgs": arguments,
        "labels": facts.options.labels,
        "secrets": secrets,
        "sourceDateEpoch": facts.plan.epoch,
    })
}

/// Everything that the image was made of, by its digest.
fn dependencies(facts: &Facts<'_>, context: Option<Digest>) -> anyhow::Result<Vec<Value>> {
    let named =
        |name: &str, digest: &Digest| json!({ "name": name, "digest": { "sha256": digest.hex() } });
    let mut all = vec![named("dockerfile", &Digest::of(facts.dockerfile.1))];
    all.extend(context.map(|digest| named("context", &digest)));
    for image in facts.plan.images() {
        let descriptor = facts.store.tags().get(image)?;
        all.push(json!({
            "name": "base",
            "uri": format!("pkg:docker/{}", image.familiar()),
            "digest": descriptor.map(|found| json!({ "sha256": found.digest.hex() })),
        }));
    }
    for operation in operations(facts.plan) {
        let Operation::Copy(copy) = operation else {
            continue;
        };
        for item in &copy.items {
            match item {
                Item::Http { url, checksum, .. } => all.push(json!({
                    "name": "download",
                    "uri": url,
                    "digest": checksum.map(|digest| json!({ "sha256": digest.hex() })),
                })),
                Item::Git { source, .. } => all.push(json!({
                    "name": "repository",
                    "uri": format!("git+{}", source.remote),
                    "digest": source.checksum.as_ref().map(|commit| json!({ "gitCommit": commit })),
                })),
                Item::Path(_) | Item::Inline { .. } => {}
            }
        }
    }
    Ok(all)
}

fn operations(plan: &Plan) -> impl Iterator<Item = &Operation> {
    let steps = plan.stages.iter().flat_map(|stage| &stage.steps);
    steps.map(|step| &step.operation)
}

fn timestamp(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok();
    let time = time.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.unwrap_or_default().to_string()
}
