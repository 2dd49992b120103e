//! Checks: what is legal in a Dockerfile and probably not meant.
//!
//! BuildKit's rules, in two parts: those that the text alone tells come with the parsed file; those
//! here need to know what is in force at a line. The stages are walked once more for that, beside
//! lowering and without its errors: a file that cannot be lowered can still be checked, and what
//! cannot be known of a base image that is not here is passed over or said to be unknown.

mod copied;
mod from;
mod odd;
mod secret;

pub use secret::is_secret;
mod stage;
mod unset;

use firebuild_dockerfile::{
    CheckOptions, Dockerfile, Expander, Instruction, InstructionKind, Rule, Warning,
};
use serde::Serialize;

use crate::ignore::Patterns;
use crate::lower::{self, Bases, Options, Scope, outline};
use from::Front;
use stage::{Parent, Stage};

/// The form of a [`Report`] as JSON; see docs/checks.md.
pub const VERSION: u32 = 1;

/// What checks have to know beside the text.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// What people chose. Only the stages that the target needs are checked, all without one where
    /// [`Facts::all_stages`] says so.
    pub options: &'a Options,
    /// The configurations of base images; an error means that one is not known.
    pub bases: &'a dyn Bases,
    /// What the build context leaves out.
    pub ignore: &'a Patterns,
    /// Without a target, all stages are checked, not only what the last one needs.
    pub all_stages: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// [`VERSION`]
    pub version: u32,
    /// What was found, in the order of the file.
    pub warnings: Vec<Warning>,
    /// Whether the file asks that what was found fails the build (`check=error=true`).
    pub error: bool,
}

impl Report {
    /// True if a build must not be done.
    #[must_use]
    pub fn fails(&self) -> bool {
        self.error && !self.warnings.is_empty()
    }

    /// The rules of which something was found, each once.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        let mut rules: Vec<Rule> = self.warnings.iter().map(|warning| warning.rule).collect();
        rules.sort();
        rules.dedup();
        rules
    }
}

/// The most variables that all stages together may inherit. No honest file comes near; of another,
/// the stages beyond are not checked.
const MAX_VARIABLES: usize = 500_000;

/// The build argument that overrides `# check=`.
pub const CHECK_ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// [`CHECK_ARGUMENT`] has an option that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` of the build argument `BUILDKIT_DOCKERFILE_CHECK` is not a check option")]
pub struct CheckArgumentError(String);

/// Checks a file.
///
/// # Errors
/// [`CheckArgumentError`]
pub fn check(dockerfile: &Dockerfile, facts: &Facts<'_>) -> Result<Report, CheckArgumentError> {
    let given = facts.options.build_args.get(CHECK_ARGUMENT);
    let given = given
        .map(|text| CheckOptions::parse(text).map_err(CheckArgumentError))
        .transpose()?;
    let options = given.as_ref().or(dockerfile.directives.check.as_ref());
    let mut warnings = dockerfile.warnings.clone();
    if !options.is_some_and(|options| options.skip_all) {
        warnings.extend(of_stages(dockerfile, facts));
    }
    Ok(Report {
        version: VERSION,
        warnings: dockerfile.asked_for(warnings, options),
        error: options.is_some_and(|options| options.error),
    })
}

/// A file's stages: the `FROM` and what follows it.
fn stages(dockerfile: &Dockerfile) -> (&[Instruction], Vec<&[Instruction]>) {
    let is_from = |i: &Instruction| matches!(i.kind, InstructionKind::From(_));
    let instructions = &dockerfile.instructions[..];
    let first = instructions.iter().position(is_from);
    let (before, mut rest) = instructions.split_at(first.unwrap_or(instructions.len()));
    let mut stages = Vec::new();
    while let Some((_, after)) = rest.split_first() {
        let length = 1 + after.iter().position(is_from).unwrap_or(after.len());
        stages.push(&rest[..length]);
        rest = &rest[length..];
    }
    (before, stages)
}

/// For each stage, whether it is looked at.
fn wanted(dockerfile: &Dockerfile, facts: &Facts<'_>, count: usize) -> Vec<bool> {
    if facts.all_stages && facts.options.target.is_none() {
        return vec![true; count];
    }
    match outline(dockerfile, facts.options) {
        Ok(outline) => outline.stages.iter().map(|stage| stage.needed).collect(),
        // Whoever lowers the file tells what is wrong.
        Err(_) => vec![true; count],
    }
}

fn of_stages(dockerfile: &Dockerfile, facts: &Facts<'_>) -> Vec<Warning> {
    let expander = Expander::new(dockerfile.directives.escape);
    let (before, stages) = stages(dockerfile);
    let wanted = wanted(dockerfile, facts, stages.len());
    let front = Front::new(dockerfile, before, &expander, facts);
    let mut warnings = Vec::new();
    let mut done: Vec<Option<Stage<'_>>> = Vec::new();
    let mut room = MAX_VARIABLES;
    for (index, lines) in stages.iter().enumerate() {
        let Some((line, rest)) = lines.split_first() else {
            continue;
        };
        let InstructionKind::From(from) = &line.kind else {
            continue;
        };
        front.check(from, &mut warnings);
        if !wanted.get(index).copied().unwrap_or(true) {
            done.push(None);
            continue;
        }
        let named = |name: &str| {
            let earlier = stages[..index].iter();
            earlier.rev().position(|lines| is_named(lines, name))
        };
        let parent = match front.base(from, named) {
            Parent::Stage(back) => match done.get(index - 1 - back) {
                Some(Some(stage)) => stage.child(),
                _ => Stage::of_image(&front, None),
            },
            Parent::Image(reference) => {
                let config = facts.bases.config(&reference).ok();
                if let Some(config) = &config {
                    front.platform(from, &reference, &config.platform, &mut warnings);
                }
                Stage::of_image(&front, config)
            }
            Parent::Nothing => Stage::of_nothing(&front),
            Parent::Unknown => Stage::of_image(&front, None),
        };
        let Some(rest_of_room) = room.checked_sub(parent.size()) else {
            done.push(None);
            continue;
        };
        room = rest_of_room;
        done.push(Some(parent.walk(rest, &mut warnings)));
    }
    warnings
}

fn is_named(lines: &[Instruction], wanted: &str) -> bool {
    let name = lines.first().and_then(|line| match &line.kind {
        InstructionKind::From(from) => from.name.as_ref(),
        _ => None,
    });
    name.is_some_and(|name| name.text.eq_ignore_ascii_case(wanted))
}

/// The scope before the first stage, as lowering has it, for these choices.
fn global(
    dockerfile: &Dockerfile,
    before: &[Instruction],
    expander: &Expander,
    options: &Options,
) -> Scope {
    let mut scope = Scope::global(options, lower::last_name(dockerfile));
    for instruction in before {
        let InstructionKind::Arg(arguments) = &instruction.kind else {
            continue;
        };
        for argument in &arguments.arguments {
            let value = argument.value.as_ref();
            let value = value.and_then(|value| expander.word(value, &scope).ok());
            scope.declare_global(&argument.name.text, value.map(|value| value.value));
        }
    }
    scope
}

#[cfg(test)]
mod tests;
