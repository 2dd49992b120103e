//! What `FROM` says, and the arguments before the first of them.

use std::cell::Cell;

use firebuild_core::{Platform, Reference};
use firebuild_dockerfile::{
    Dockerfile, Environment as _, Expander, FromImage, Instruction, Rule, Warning, Word, nearest,
};

use super::stage::Parent;
use super::{Facts, global, unset};
use crate::ignore::Patterns;
use crate::lower::{NamedContext, Options, Scope, usual};
use crate::platform;

/// The most comparisons of names that suggestions may cost: some tenths of a second.
const MAX_COMPARISONS: usize = 50_000;

/// What stands before the first stage, and what is the same in all of them.
pub(super) struct Front<'a> {
    pub(super) expander: &'a Expander,
    pub(super) options: &'a Options,
    pub(super) ignore: &'a Patterns,
    /// So many names may still be compared to find what was meant.
    comparisons: Cell<usize>,
    /// With the arguments that people gave.
    scope: Scope,
    /// As if they had given none.
    defaults: Scope,
}

impl<'a> Front<'a> {
    pub(super) fn new(
        dockerfile: &Dockerfile,
        before: &[Instruction],
        expander: &'a Expander,
        facts: &Facts<'a>,
    ) -> Self {
        let mut without = Options::new(facts.options.platform.clone());
        without.target.clone_from(&facts.options.target);
        Self {
            expander,
            options: facts.options,
            ignore: facts.ignore,
            comparisons: Cell::new(MAX_COMPARISONS),
            scope: global(dockerfile, before, expander, facts.options),
            defaults: global(dockerfile, before, expander, &without),
        }
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The variable that a name was probably meant to be.
    pub(super) fn nearest<'s>(&self, name: &str, scope: &'s Scope) -> Option<&'s str> {
        let cost = scope.names().count();
        let left = self.comparisons.get().checked_sub(cost)?;
        self.comparisons.set(left);
        nearest(name, scope.names())
    }

    /// What a `FROM` itself has that is odd.
    pub(super) fn check(&self, from: &FromImage, warnings: &mut Vec<Warning>) {
        self.undefined(&from.image, warnings);
        self.default(&from.image, warnings);
        if let Some(platform) = &from.platform {
            self.undefined(platform, warnings);
            self.redundant(platform, warnings);
            self.constant(from, platform, warnings);
        }
    }

    fn undefined(&self, word: &Word, warnings: &mut Vec<Warning>) {
        let Ok(expansion) = self.expander.word(word, &self.scope) else {
            return;
        };
        let undeclared = expansion
            .unset
            .iter()
            .filter(|name| !self.scope.declares(name));
        for name in undeclared {
            let suggestion = self.nearest(name, &self.scope).map_or_else(
                || "; it needs an `ARG` before the first FROM".to_owned(),
                |known| format!("; did you mean `{known}`?"),
            );
            warnings.push(Warning::new(
                Rule::UndefinedArgInFrom,
                unset::place(word, name),
                format!("FROM uses the argument `{name}`, which is not declared{suggestion}"),
            ));
        }
    }

    /// Without any argument, the name must be one.
    fn default(&self, image: &Word, warnings: &mut Vec<Warning>) {
        if !image.text.contains('$') {
            return;
        }
        let Ok(expansion) = self.expander.word(image, &self.defaults) else {
            return;
        };
        let name = expansion.value;
        if name.parse::<Reference>().is_ok() {
            return;
        }
        let what = match name.is_empty() {
            true => "an empty name".to_owned(),
            false => format!("`{name}`, which is no image's name"),
        };
        warnings.push(Warning::new(
            Rule::InvalidDefaultArgInFrom,
            image.span,
            format!("without a build argument, `{image}` gives {what}"),
        ));
    }

    fn redundant(&self, word: &Word, warnings: &mut Vec<Warning>) {
        let Ok(expansion) = self.expander.word(word, &self.scope) else {
            return;
        };
        let only = |name: &str| expansion.used.len() == 1 && expansion.used.contains(name);
        let same = self.scope.get("TARGETPLATFORM") == Some(expansion.value.as_str());
        if only("TARGETPLATFORM") && expansion.unset.is_empty() && same {
            let message = format!("`--platform={word}` is what FROM does without it");
            warnings.push(Warning::new(
                Rule::RedundantTargetPlatform,
                word.span,
                message,
            ));
        }
    }

    fn constant(&self, from: &FromImage, word: &Word, warnings: &mut Vec<Warning>) {
        let Ok(expansion) = self.expander.word(word, &self.scope) else {
            return;
        };
        if !(expansion.used.is_empty() && expansion.unset.is_empty()) {
            return;
        }
        let Some(platform) = platform::parse(&expansion.value) else {
            return;
        };
        // A stage that is named after its platform is meant to be tied to it.
        let named = from.name.as_ref().is_some_and(|name| {
            name.text.contains(&platform.os) || name.text.contains(&platform.architecture)
        });
        if !named {
            let message = format!("`--platform={word}` ties this stage to one platform");
            let rule = Rule::FromPlatformFlagConstDisallowed;
            warnings.push(Warning::new(rule, word.span, message));
        }
    }

    /// The base image is for something else.
    pub(super) fn platform(
        &self,
        from: &FromImage,
        image: &Reference,
        actual: &Platform,
        warnings: &mut Vec<Warning>,
    ) {
        let asked = from.platform.as_ref().and_then(|word| {
            let expansion = self.expander.word(word, &self.scope).ok()?;
            platform::parse(&expansion.value)
        });
        let expected = asked.as_ref().unwrap_or(&self.options.platform);
        if expected.os == actual.os && expected.architecture == actual.architecture {
            return;
        }
        let message = format!(
            "the base image `{}` is for `{actual}`, not for `{expected}`",
            image.familiar()
        );
        let rule = Rule::InvalidBaseImagePlatform;
        warnings.push(Warning::new(rule, from.image.span, message));
    }

    /// What a stage starts from. `named` gives how far back the last stage of a name is.
    pub(super) fn base(&self, from: &FromImage, named: impl Fn(&str) -> Option<usize>) -> Parent {
        let own = from.name.as_ref().and_then(|name| self.context(&name.text));
        if let Some(given) = own {
            return given;
        }
        let Ok(expansion) = self.expander.word(&from.image, &self.scope) else {
            return Parent::Unknown;
        };
        let name = expansion.value;
        if name == "scratch" {
            return Parent::Nothing;
        }
        if let Some(back) = named(&name) {
            return Parent::Stage(back);
        }
        match (self.context(&name), name.parse()) {
            (Some(given), _) => given,
            (None, Ok(reference)) => Parent::Image(reference),
            (None, Err(_)) => Parent::Unknown,
        }
    }

    /// The context that people gave under this name.
    fn context(&self, name: &str) -> Option<Parent> {
        let wanted = usual(name);
        let mut contexts = self.options.contexts.iter();
        let (_, context) = contexts.find(|(name, _)| usual(name) == wanted)?;
        Some(match context {
            NamedContext::Image(reference) => Parent::Image(reference.clone()),
            NamedContext::Files => Parent::Nothing,
        })
    }
}
