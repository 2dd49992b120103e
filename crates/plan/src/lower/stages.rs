//! A Dockerfile's stages: what each starts from, and which others it needs.

use std::collections::{BTreeMap, BTreeSet};

use firebuild_core::Reference;
use firebuild_dockerfile::{
    Dockerfile, Expander, FromImage, Instruction, InstructionKind, Span, Word,
};

use super::{LowerError, LowerErrorKind, NamedContext, Scope};
use crate::operation::{Base, Source};
use crate::{platform, suggest};

/// Names of the language's own, whose places no context takes.
pub(crate) const RESERVED: [&str; 2] = ["scratch", "context"];

/// A `FROM` and the instructions up to the next.
#[derive(Debug)]
pub(crate) struct FileStage<'a> {
    pub(crate) from: &'a FromImage,
    pub(crate) line: &'a Instruction,
    /// A stage in it is given by its position in the file.
    pub(crate) base: Base,
    pub(crate) instructions: &'a [Instruction],
}

/// All stages of a file.
#[derive(Debug)]
pub(crate) struct Stages<'a> {
    stages: Vec<FileStage<'a>>,
    contexts: BTreeMap<String, (String, NamedContext)>,
    end: Span,
}

impl<'a> Stages<'a> {
    /// Finds the stages and their bases; the arguments before the first go into `global`.
    pub(crate) fn collect(
        dockerfile: &'a Dockerfile,
        contexts: &BTreeMap<String, NamedContext>,
        expander: &Expander,
        global: &mut Scope,
    ) -> Result<Self, LowerError> {
        let instructions = &dockerfile.instructions;
        let is_from =
            |instruction: &Instruction| matches!(instruction.kind, InstructionKind::From(_));
        let first = instructions
            .iter()
            .position(is_from)
            .unwrap_or(instructions.len());
        for instruction in &instructions[..first] {
            declare_global(instruction, expander, global)?;
        }
        let mut stages = Self {
            stages: Vec::new(),
            contexts: contexts
                .iter()
                .map(|(name, context)| (usual(name), (name.clone(), context.clone())))
                .collect(),
            end: instructions
                .last()
                .map(|last| last.span)
                .unwrap_or_default(),
        };
        let mut rest = &instructions[first..];
        while let Some((line, after)) = rest.split_first() {
            let length = after.iter().position(is_from).unwrap_or(after.len());
            if let InstructionKind::From(from) = &line.kind {
                // A named context takes the place of a whole stage.
                let given = from
                    .name
                    .as_ref()
                    .and_then(|name| stages.context(&name.text));
                let (base, length) = match given {
                    Some(Source::Image(reference)) => (Base::Image(reference), 0),
                    Some(Source::Named(name)) => (Base::Context(name), 0),
                    _ => (stages.base(from, expander, global)?, length),
                };
                stages.stages.push(FileStage {
                    from,
                    line,
                    base,
                    instructions: &after[..length],
                });
            }
            rest = &after[length..];
        }
        Ok(stages)
    }

    /// A stage by its position in the file.
    pub(crate) fn get(&self, index: usize) -> &FileStage<'a> {
        &self.stages[index]
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.stages.len()
    }

    /// What people call a stage.
    pub(crate) fn name(&self, index: usize) -> String {
        self.stages[index]
            .from
            .name
            .as_ref()
            .map_or_else(|| format!("stage-{index}"), |name| name.text.clone())
    }

    /// The stage to build.
    pub(crate) fn target(&self, wanted: Option<&str>) -> Result<usize, LowerError> {
        let last = self.stages.len().checked_sub(1);
        let last = last.ok_or_else(|| LowerError::new(self.end, LowerErrorKind::NoStage))?;
        let Some(wanted) = wanted else {
            return Ok(last);
        };
        self.named(wanted, self.stages.len()).ok_or_else(|| {
            let names = self
                .stages
                .iter()
                .filter_map(|stage| stage.from.name.as_ref())
                .map(|name| name.text.as_str());
            let suggestion = suggest::nearest(wanted, names)
                .map(|name| format!(" (did you mean `{name}`?)"))
                .unwrap_or_default();
            LowerError::new(
                self.end,
                LowerErrorKind::NoTarget {
                    name: wanted.to_owned(),
                    suggestion,
                },
            )
        })
    }

    /// The last stage called `name` before position `before`.
    fn named(&self, name: &str, before: usize) -> Option<usize> {
        let stages = self.stages.get(..before).unwrap_or(&self.stages);
        stages.iter().rposition(|stage| {
            stage
                .from
                .name
                .as_ref()
                .is_some_and(|own| own.text.eq_ignore_ascii_case(name))
        })
    }

    fn base(
        &self,
        from: &FromImage,
        expander: &Expander,
        global: &Scope,
    ) -> Result<Base, LowerError> {
        let span = from.image.span;
        if let Some(platform) = &from.platform {
            let wanted = expander.word(platform, global)?.value;
            Self::check_platform(&wanted, platform.span, global)?;
        }
        let name = expander.word(&from.image, global)?.value;
        if name.is_empty() {
            let hint = if from.image.text.contains('$') {
                ": a variable in it is not set before the first `FROM`"
            } else {
                ""
            };
            return Err(LowerError::new(
                span,
                LowerErrorKind::EmptyBase(hint.to_owned()),
            ));
        }
        if name == "scratch" {
            return Ok(Base::Scratch);
        }
        if let Some(index) = self.named(&name, self.stages.len()) {
            return Ok(Base::Stage(index));
        }
        match self.context(&name) {
            Some(Source::Named(name)) => Ok(Base::Context(name)),
            Some(Source::Image(reference)) => Ok(Base::Image(reference)),
            _ => self.image(&name, span).map(Base::Image),
        }
    }

    /// Refuses what is no platform, and every platform but the target's.
    fn check_platform(wanted: &str, span: Span, global: &Scope) -> Result<(), LowerError> {
        let Some(parsed) = platform::parse(wanted) else {
            let what = match wanted {
                "" => "the platform is empty".to_owned(),
                _ => format!("`{wanted}` is not a platform"),
            };
            return Err(LowerError::new(span, LowerErrorKind::Value(what)));
        };
        let target = global_platform(global);
        if platform::parse(target).is_some_and(|target| !platform::is_same(&parsed, &target)) {
            let what = format!("a platform other than the target's `{target}`");
            return Err(LowerError::unsupported(span, what));
        }
        Ok(())
    }

    /// The named context that people gave under this name, if they did.
    fn context(&self, name: &str) -> Option<Source> {
        if RESERVED.iter().any(|own| own.eq_ignore_ascii_case(name)) {
            return None;
        }
        let (name, context) = self.contexts.get(&usual(name))?;
        Some(match context {
            NamedContext::Files => Source::Named(name.clone()),
            NamedContext::Image(reference) => Source::Image(reference.clone()),
        })
    }

    fn image(&self, name: &str, span: Span) -> Result<Reference, LowerError> {
        name.parse()
            .map_err(|error| LowerError::new(span, LowerErrorKind::Reference(error)))
    }

    /// What `COPY --from=NAME` in stage `current` means. Stages are given by their positions in
    /// the file.
    pub(crate) fn copy_source(&self, from: &Word, current: usize) -> Result<Source, LowerError> {
        let name = from.text.as_str();
        match name.parse::<usize>() {
            Ok(index) if index < current => Ok(Source::Stage(index)),
            Ok(index) if index < self.stages.len() => Err(LowerError::new(
                from.span,
                LowerErrorKind::LaterStage(name.to_owned()),
            )),
            Ok(_) => Err(LowerError::new(
                from.span,
                LowerErrorKind::NoStageAt(name.to_owned(), self.stages.len()),
            )),
            Err(_) => self.mount_source(name, from.span, current),
        }
    }

    /// What `from=NAME` of a mount in stage `current` means: a stage by its name only, a named
    /// context, or an image.
    pub(crate) fn mount_source(
        &self,
        name: &str,
        span: Span,
        current: usize,
    ) -> Result<Source, LowerError> {
        if name == "scratch" {
            return Ok(Source::Empty);
        }
        if let Some(index) = self.named(name, current) {
            return Ok(Source::Stage(index));
        }
        if self.named(name, self.stages.len()).is_some() {
            let kind = LowerErrorKind::LaterStage(name.to_owned());
            return Err(LowerError::new(span, kind));
        }
        match self.context(name) {
            Some(source) => Ok(source),
            None => self.image(name, span).map(Source::Image),
        }
    }

    /// The stages that a stage with these triggers needs, by their positions in the file: all of
    /// them come before it.
    pub(crate) fn dependencies(
        &self,
        index: usize,
        triggers: &[Instruction],
    ) -> Result<BTreeSet<usize>, LowerError> {
        let stage = self.get(index);
        let mut found = BTreeSet::new();
        if let Base::Stage(parent) = stage.base {
            found.insert(parent);
        }
        for trigger in triggers {
            self.read_by(trigger, index, &mut found)
                .map_err(|error| error.in_trigger(&trigger.original, stage.from.image.span))?;
        }
        for instruction in stage.instructions {
            self.read_by(instruction, index, &mut found)?;
        }
        Ok(found)
    }

    /// Looks for sources that can be none, also in stages that nobody needs.
    pub(crate) fn check_sources(&self) -> Result<(), LowerError> {
        for index in 0..self.len() {
            match self.dependencies(index, &[]) {
                // As long as nobody needs it, it does not matter where a stage stands.
                Err(error) if !matches!(error.kind, LowerErrorKind::LaterStage(_)) => {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Adds the stages from which an instruction of stage `index` takes files.
    fn read_by(
        &self,
        instruction: &Instruction,
        index: usize,
        found: &mut BTreeSet<usize>,
    ) -> Result<(), LowerError> {
        let mut sources = Vec::new();
        match &instruction.kind {
            InstructionKind::Copy(copy) => {
                if let Some(from) = &copy.from {
                    sources.push(self.copy_source(from, index)?);
                }
            }
            InstructionKind::Run(run) => {
                for mount in &run.mounts {
                    if let Some(from) = mount.from() {
                        sources.push(self.mount_source(from, mount.word.span, index)?);
                    }
                }
            }
            _ => {}
        }
        found.extend(sources.into_iter().filter_map(|source| match source {
            Source::Stage(stage) => Some(stage),
            _ => None,
        }));
        Ok(())
    }
}

/// The form in which names of contexts are compared: `debian` is `docker.io/library/debian:latest`.
pub(crate) fn usual(name: &str) -> String {
    let familiar = name
        .parse::<Reference>()
        .map(|reference| reference.familiar());
    let name = familiar.unwrap_or_else(|_| name.to_lowercase());
    name.strip_suffix(":latest").unwrap_or(&name).to_owned()
}

fn global_platform(global: &Scope) -> &str {
    use firebuild_dockerfile::Environment as _;
    global.get("TARGETPLATFORM").unwrap_or_default()
}

fn declare_global(
    instruction: &Instruction,
    expander: &Expander,
    global: &mut Scope,
) -> Result<(), LowerError> {
    let InstructionKind::Arg(arguments) = &instruction.kind else {
        let name = instruction.kind.name().to_owned();
        return Err(LowerError::new(
            instruction.keyword.span,
            LowerErrorKind::BeforeFrom(name),
        ));
    };
    for argument in &arguments.arguments {
        let default = argument.value.as_ref();
        let default = default
            .filter(|_| !global.is_given(&argument.name.text))
            .map(|value| expander.word(value, global))
            .transpose()?
            .map(|expansion| expansion.value);
        global.declare_global(&argument.name.text, default);
    }
    Ok(())
}
