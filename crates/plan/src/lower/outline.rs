//! A Dockerfile's stages at a glance: what each starts from and needs, without a look at any image.

use std::collections::BTreeSet;

use firebuild_dockerfile::{Dockerfile, Expander};
use serde::Serialize;

use super::stages::Stages;
use super::{LowerError, Options, Scope, last_name};
use crate::operation::{Base, VERSION};

/// All stages of a file, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outline {
    /// [`VERSION`]: outlines and plans change together.
    pub version: u32,
    /// The stage that would be built.
    pub target: String,
    /// The stages.
    pub stages: Vec<OutlinedStage>,
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct OutlinedStage {
    /// Its name, or `stage-N` by its position.
    pub name: String,
    /// The line of its `FROM`, from 1.
    pub line: u32,
    /// What it starts from: an image, a stage's name, `scratch`, or a named context.
    pub base: String,
    /// What a comment above its `FROM` says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The stages that it needs, by their names; those of an image's triggers are not known here.
    pub needs: Vec<String>,
    /// Whether the target needs it.
    pub needed: bool,
}

/// Reads the stages of a file.
///
/// # Errors
/// As [`lower`](super::lower), but for what only the base images' configurations tell.
pub fn outline(dockerfile: &Dockerfile, options: &Options) -> Result<Outline, LowerError> {
    let expander = Expander::new(dockerfile.directives.escape);
    let mut global = Scope::global(options, last_name(dockerfile));
    let stages = Stages::collect(dockerfile, &options.contexts, &expander, &mut global)?;
    let target = stages.target(options.target.as_deref())?;
    let dependencies = (0..stages.len())
        .map(|index| stages.dependencies(index, &[]))
        .collect::<Result<Vec<_>, _>>()?;
    let mut needed = BTreeSet::new();
    let mut todo = vec![target];
    while let Some(index) = todo.pop() {
        if needed.insert(index) {
            todo.extend(&dependencies[index]);
        }
    }
    let outlined = dependencies.iter().enumerate().map(|(index, needs)| {
        let stage = stages.get(index);
        OutlinedStage {
            name: stages.name(index),
            line: stage.line.span.start.line,
            base: match &stage.base {
                Base::Scratch => "scratch".to_owned(),
                Base::Image(reference) => reference.familiar(),
                Base::Stage(parent) => stages.name(*parent),
                Base::Context(name) => name.clone(),
            },
            description: stage.from.description.clone(),
            needs: needs.iter().map(|stage| stages.name(*stage)).collect(),
            needed: needed.contains(&index),
        }
    });
    Ok(Outline {
        version: VERSION,
        target: stages.name(target),
        stages: outlined.collect(),
    })
}
