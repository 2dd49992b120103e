//! From a Dockerfile to a plan.
//!
//! Only the stages that the target needs are lowered, each after those that it depends on. Every
//! variable is expanded here, in the environment of its line, which begins with that of the base
//! image: so lowering asks for the configurations of base images, and for nothing else.

mod configure;
mod epoch;
mod error;
mod history;
mod outline;
mod path;
mod process;
mod proxy;
mod scope;
mod stage;
mod stages;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};

use firebuild_core::{ImageConfig, Platform, Reference};
use firebuild_dockerfile::{
    Dockerfile, Expander, Instruction, InstructionKind, Span, parse_trigger,
};

pub use epoch::{CONTEXT, Epoch, wanted_time};
pub use error::{LowerError, LowerErrorKind};
pub use outline::{Outline, OutlinedStage, outline};
pub use proxy::proxies;
pub(crate) use scope::Scope;
use stage::Lowering;
use stages::Stages;
pub(crate) use stages::usual;

use crate::mount::Mount;
use crate::operation::{Base, Operation, Plan, Source, Stage, VERSION};

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
    /// Contexts by their names, which take the place of stages and images of these names.
    pub contexts: BTreeMap<String, NamedContext>,
    /// Labels for the image, over those that the file sets.
    pub labels: BTreeMap<String, String>,
    /// The time that everything made is said to be of. What the build argument
    /// `SOURCE_DATE_EPOCH` says if none.
    pub epoch: Option<Epoch>,
    /// The times of what an [`Epoch`] may name, in seconds since 1970; none of what has no time, and
    /// then the present is meant. The build context is [`CONTEXT`].
    pub times: BTreeMap<String, Option<u64>>,
}

impl Options {
    /// The last stage, for this platform; nothing else chosen.
    #[must_use]
    pub fn new(platform: Platform) -> Self {
        Self {
            target: None,
            build_args: BTreeMap::new(),
            platform,
            contexts: BTreeMap::new(),
            labels: BTreeMap::new(),
            epoch: None,
            times: BTreeMap::new(),
        }
    }
}

/// What a named context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// An image.
    Image(Reference),
    /// A tree of files, which whoever executes the plan knows by the context's name.
    Files,
}

/// What build arguments say of the build itself.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// `BUILDKIT_SANDBOX_HOSTNAME`
    hostname: String,
    /// `BUILDKIT_CACHE_MOUNT_NS`
    cache_namespace: String,
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
    let mut global = Scope::global(options, last_name(dockerfile));
    let stages = Stages::collect(dockerfile, &options.contexts, &expander, &mut global)?;
    let target = stages.target(options.target.as_deref())?;
    stages.check_sources()?;
    let settings = Settings {
        hostname: global
            .given("BUILDKIT_SANDBOX_HOSTNAME")
            .unwrap_or("buildkitsandbox")
            .to_owned(),
        cache_namespace: global
            .given("BUILDKIT_CACHE_MOUNT_NS")
            .unwrap_or_default()
            .to_owned(),
    };
    let epoch = epoch::seconds(options, &global, dockerfile)?;
    let file = File {
        stages: &stages,
        expander: &expander,
        settings: &settings,
        global: &global,
        bases,
    };
    let lowered = file.lower(target)?;
    let (stages, target) = in_order(lowered, target);
    Ok(Plan {
        version: VERSION,
        platform: options.platform.clone(),
        stages,
        target,
        labels: options.labels.clone(),
        epoch,
    })
}

/// What a configuration gains and loses where a stage starts from it: there is always a `PATH`, and
/// its triggers are done with.
pub fn begin(config: &mut ImageConfig) {
    config.config.on_build.clear();
    if config.config.variable("PATH").is_none() {
        config
            .config
            .set_variable("PATH", firebuild_core::config::DEFAULT_PATH);
    }
}

/// What a stage starts with.
pub(crate) struct Inherited {
    base: Base,
    config: ImageConfig,
    scope: Scope,
    /// The base image's instructions for images built from it.
    triggers: Vec<Instruction>,
}

/// How many variables the stages of a file may begin with together. Each stage has its own copies,
/// and a short file can have many stages that inherit many.
const MOST_INHERITED: usize = 4 << 20;

/// A file whose stages are known.
struct File<'a> {
    stages: &'a Stages<'a>,
    expander: &'a Expander,
    settings: &'a Settings,
    global: &'a Scope,
    bases: &'a dyn Bases,
}

impl<'a> File<'a> {
    /// Lowers the target and all that it needs, which is known only while it is done: a base
    /// image's triggers may copy from any stage before.
    fn lower(&self, target: usize) -> Result<BTreeMap<usize, Lowering<'a>>, LowerError> {
        let mut lowered: BTreeMap<usize, Lowering<'_>> = BTreeMap::new();
        let mut waiting: BTreeMap<usize, Inherited> = BTreeMap::new();
        let mut todo = vec![target];
        let mut variables = 0;
        while let Some(&index) = todo.last() {
            if lowered.contains_key(&index) {
                todo.pop();
                continue;
            }
            if let Base::Stage(parent) = self.stages.get(index).base
                && !lowered.contains_key(&parent)
            {
                todo.push(parent);
                continue;
            }
            let inherited = match waiting.remove(&index) {
                Some(inherited) => inherited,
                None => self.inherit(index, &lowered)?,
            };
            let mut needed = self.stages.dependencies(index, &inherited.triggers)?;
            needed.retain(|stage| !lowered.contains_key(stage));
            if needed.is_empty() {
                variables += inherited.config.config.env.len() + inherited.scope.len();
                if variables > MOST_INHERITED {
                    let span = self.stages.get(index).from.image.span;
                    let what = format!(
                        "a file whose stages begin with more than {MOST_INHERITED} variables together"
                    );
                    return Err(LowerError::unsupported(span, what));
                }
                let triggers = inherited.triggers.clone();
                let lowering =
                    Lowering::new(self.stages, index, self.expander, self.settings, inherited);
                lowered.insert(index, lowering.run(&triggers)?);
            } else {
                waiting.insert(index, inherited);
                todo.extend(needed);
            }
        }
        Ok(lowered)
    }

    fn inherit(
        &self,
        index: usize,
        lowered: &BTreeMap<usize, Lowering<'_>>,
    ) -> Result<Inherited, LowerError> {
        let stage = self.stages.get(index);
        let span = stage.from.image.span;
        let parent = match &stage.base {
            Base::Stage(parent) => lowered.get(parent),
            _ => None,
        };
        let mut config = match (&stage.base, parent) {
            (_, Some(parent)) => parent.config().clone(),
            (Base::Image(reference), _) => self
                .bases
                .config(reference)
                .map_err(|source| LowerError::new(span, LowerErrorKind::Base(source)))?,
            _ => ImageConfig::scratch(Platform::host()),
        };
        let triggers = triggers(&config, span)?;
        begin(&mut config);
        let scope = match parent {
            Some(parent) => parent.scope().clone(),
            None => Scope::stage(self.global, &config.config),
        };
        Ok(Inherited {
            base: stage.base.clone(),
            config,
            scope,
            triggers,
        })
    }
}

fn triggers(config: &ImageConfig, place: Span) -> Result<Vec<Instruction>, LowerError> {
    let parse = |text: &String| {
        parse_trigger(text)
            .map_err(|error| LowerError::value(place, &error).in_trigger(text, place))
    };
    config.config.on_build.iter().map(parse).collect()
}

/// The stages in the order of the file, which is one in which each comes after those that it
/// depends on; and the target's place among them.
fn in_order(lowered: BTreeMap<usize, Lowering<'_>>, target: usize) -> (Vec<Stage>, usize) {
    let indices: Vec<usize> = lowered.keys().copied().collect();
    let place = |index: usize| indices.binary_search(&index).unwrap_or_default();
    let mut stages: Vec<Stage> = lowered.into_values().map(Lowering::finish).collect();
    for stage in &mut stages {
        if let Base::Stage(index) = &mut stage.base {
            *index = place(*index);
        }
        for source in stage
            .steps
            .iter_mut()
            .flat_map(|step| sources(&mut step.operation))
        {
            if let Source::Stage(index) = source {
                *index = place(*index);
            }
        }
    }
    (stages, place(target))
}

fn sources(operation: &mut Operation) -> Vec<&mut Source> {
    match operation {
        Operation::Copy(copy) => vec![&mut copy.from],
        Operation::Run(run) => run
            .mounts
            .iter_mut()
            .filter_map(Mount::source_mut)
            .collect(),
        Operation::Directory(_) | Operation::Configure(_) => Vec::new(),
    }
}

pub(crate) fn last_name(dockerfile: &Dockerfile) -> Option<&str> {
    let mut instructions = dockerfile.instructions.iter().rev();
    instructions.find_map(|instruction| match &instruction.kind {
        InstructionKind::From(from) => Some(from.name.as_ref().map(|name| name.text.as_str())),
        _ => None,
    })?
}

/// The stages and images that a plan's operations refer to.
impl Plan {
    /// Every image that the plan starts from or takes files from.
    #[must_use]
    pub fn images(&self) -> BTreeSet<&Reference> {
        let bases = self.stages.iter().filter_map(|stage| match &stage.base {
            Base::Image(reference) => Some(reference),
            _ => None,
        });
        let steps = self.stages.iter().flat_map(|stage| &stage.steps);
        let read =
            steps
                .flat_map(|step| step.operation.reads())
                .filter_map(|source| match source {
                    Source::Image(reference) => Some(reference),
                    _ => None,
                });
        bases.chain(read).collect()
    }
}

#[cfg(test)]
mod tests;
