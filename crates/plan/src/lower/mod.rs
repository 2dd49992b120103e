//! From a Dockerfile to a plan.
//!
//! Only the stages that the target needs are lowered. Every variable is expanded here, in the
//! environment of its line, which begins with that of the base image: so lowering asks for the
//! configurations of base images, and for nothing else.

mod error;
mod history;
mod scope;
mod stage;
mod stages;

use std::collections::{BTreeMap, BTreeSet};

use firebuild_core::{ImageConfig, Platform, Reference};
use firebuild_dockerfile::{Dockerfile, Expander};

pub use error::{LowerError, LowerErrorKind};
use scope::Scope;
use stage::Lowering;
use stages::{Source, Stages};

use crate::operation::{self, Base, Operation, Plan, VERSION};

/// An error of the caller's own, passed through.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What lowering has to know of base images.
pub trait Bases {
    /// The configuration of an image.
    ///
    /// # Errors
    /// Whatever keeps it from being known; it ends the lowering, with the place of the `FROM`.
    fn config(&self, image: &Reference) -> Result<ImageConfig, BoxError>;
}

/// What people choose beside the text.
#[derive(Debug, Clone)]
pub struct Options {
    /// The stage to build; the last one if none.
    pub target: Option<String>,
    /// Values for `ARG`s.
    pub build_args: BTreeMap<String, String>,
    /// What the image is for.
    pub platform: Platform,
}

/// Lowers a Dockerfile.
///
/// # Errors
/// [`LowerError`], with the place in the text.
pub fn lower(
    dockerfile: &Dockerfile,
    options: &Options,
    bases: &dyn Bases,
) -> Result<Plan, LowerError> {
    let expander = Expander::new(dockerfile.directives.escape);
    let mut global = Scope::global(options);
    let stages = Stages::collect(dockerfile, &expander, &mut global)?;
    let target = stages.target(options.target.as_deref())?;
    let needed = needed(&stages, target)?;

    let mut positions = BTreeMap::new();
    let mut lowered: Vec<Lowering<'_>> = Vec::new();
    for index in needed {
        let inherited = inherit(&stages, index, &positions, &lowered, bases)?;
        let lowering =
            Lowering::new(&stages, index, &expander, &global, inherited).run(&positions)?;
        positions.insert(index, lowered.len());
        lowered.push(lowering);
    }
    let target = positions.get(&target).copied().unwrap_or_default();
    let stages = lowered.into_iter().map(Lowering::finish).collect();
    Ok(Plan {
        version: VERSION,
        platform: options.platform.clone(),
        stages,
        target,
        labels: BTreeMap::new(),
        epoch: None,
    })
}

/// The stages that `target` depends on, in the order of the file.
fn needed(stages: &Stages<'_>, target: usize) -> Result<BTreeSet<usize>, LowerError> {
    let mut needed = BTreeSet::new();
    let mut todo = vec![target];
    while let Some(index) = todo.pop() {
        if needed.insert(index) {
            todo.extend(stages.dependencies(index)?);
        }
    }
    Ok(needed)
}

/// What a stage starts with.
pub(crate) struct Inherited {
    pub(crate) base: Base,
    pub(crate) config: ImageConfig,
    /// The build arguments in force at the end of the parent stage.
    pub(crate) scope: Option<Scope>,
}

fn inherit(
    stages: &Stages<'_>,
    index: usize,
    positions: &BTreeMap<usize, usize>,
    lowered: &[Lowering<'_>],
    bases: &dyn Bases,
) -> Result<Inherited, LowerError> {
    let stage = stages.get(index);
    let span = stage.from.image.span;
    match &stage.base {
        Source::Scratch => Ok(Inherited {
            base: Base::Scratch,
            config: ImageConfig::scratch(Platform::host()),
            scope: None,
        }),
        Source::Image(reference) => {
            let config = bases
                .config(reference)
                .map_err(|source| LowerError::new(span, LowerErrorKind::Base(source)))?;
            if !config.config.on_build.is_empty() {
                return Err(LowerError::unsupported(
                    span,
                    "a base image with ONBUILD instructions",
                ));
            }
            Ok(Inherited {
                base: Base::Image(reference.clone()),
                config,
                scope: None,
            })
        }
        Source::Stage(parent) => {
            let position = positions.get(parent).copied().unwrap_or_default();
            let parent = &lowered[position];
            Ok(Inherited {
                base: Base::Stage(position),
                config: parent.config().clone(),
                scope: Some(parent.scope().clone()),
            })
        }
    }
}

/// The stages and images that a plan's operations refer to.
impl Plan {
    /// Every image that the plan starts from or copies from.
    #[must_use]
    pub fn images(&self) -> BTreeSet<&Reference> {
        let bases = self.stages.iter().filter_map(|stage| match &stage.base {
            Base::Image(reference) => Some(reference),
            _ => None,
        });
        let copies = self
            .stages
            .iter()
            .flat_map(|stage| &stage.steps)
            .filter_map(|step| match &step.operation {
                Operation::Copy(copy) => match &copy.from {
                    operation::Source::Image(reference) => Some(reference),
                    _ => None,
                },
                _ => None,
            });
        bases.chain(copies).collect()
    }
}

#[cfg(test)]
mod tests;
