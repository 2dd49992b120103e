//! The variables that a line sees: build arguments and environment, by the order in which they
//! were set.

use std::collections::BTreeMap;

use firebuild_core::Platform;
use firebuild_core::config::ProcessConfig;
use firebuild_dockerfile::Environment;

use super::Options;

/// Arguments that speak to the builder: no line and no process sees them.
const OF_THE_BUILD: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Variables in force at some line.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// What `$NAME` gives.
    visible: BTreeMap<String, String>,
    /// Build arguments declared in this scope, in the order of their declaration; one without a
    /// value is declared and unset.
    arguments: Vec<(String, Option<String>)>,
    /// Values that people gave.
    given: BTreeMap<String, String>,
    /// Values that an `ARG` without a value takes: those before the first `FROM`, and the
    /// predefined ones.
    defaults: BTreeMap<String, String>,
}

impl Environment for Scope {
    fn get(&self, name: &str) -> Option<&str> {
        self.visible.get(name).map(String::as_str)
    }
}

impl Scope {
    /// The scope before the first `FROM`: only the predefined platform arguments.
    /// `last` is the name of the last stage.
    pub(crate) fn global(options: &Options, last: Option<&str>) -> Self {
        let mut predefined = platform("BUILD", &Platform::host());
        predefined.extend(platform("TARGET", &options.platform));
        let target = options.target.as_deref().or(last).unwrap_or("default");
        predefined.insert("TARGETSTAGE".to_owned(), target.to_owned());
        for (name, value) in &mut predefined {
            if let Some(given) = options.build_args.get(name) {
                value.clone_from(given);
            }
        }
        Self {
            visible: predefined.clone(),
            arguments: Vec::new(),
            given: options.build_args.clone(),
            defaults: predefined,
        }
    }

    /// The scope at the beginning of a stage, whose base has the given environment.
    pub(crate) fn stage(global: &Self, config: &ProcessConfig) -> Self {
        let visible = config.env.iter().filter_map(|entry| entry.split_once('='));
        Self {
            visible: visible
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            arguments: Vec::new(),
            given: global.given.clone(),
            defaults: global.defaults.clone(),
        }
    }

    /// Whether people gave a value for an argument, so that its default does not matter.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// `ARG name=default`, with the default expanded already. Without a value, what was declared
    /// before, here or in the stage that this one starts from, stays as it is.
    pub(crate) fn declare(&mut self, name: &str, default: Option<String>) -> Option<String> {
        let value = self
            .given
            .get(name)
            .cloned()
            .or(default)
            .or_else(|| self.defaults.get(name).cloned());
        let before = self.arguments.iter_mut().find(|(known, _)| known == name);
        match (before, &value) {
            (None, _) => self.arguments.push((name.to_owned(), value.clone())),
            (Some((_, before)), Some(_)) => before.clone_from(&value),
            (Some(_), None) => {}
        }
        if let Some(value) = &value
            && !OF_THE_BUILD.contains(&name)
        {
            self.visible.insert(name.to_owned(), value.clone());
        }
        value
    }

    /// `ARG` before the first `FROM`: the value becomes a default of every stage.
    pub(crate) fn declare_global(&mut self, name: &str, default: Option<String>) {
        if let Some(value) = self.declare(name, default) {
            self.defaults.insert(name.to_owned(), value);
        }
    }

    /// The variables that have a value.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.visible.keys().map(String::as_str)
    }

    /// Whether a build argument is declared in this scope, with a value or without one.
    pub(crate) fn declares(&self, name: &str) -> bool {
        self.arguments.iter().any(|(declared, _)| declared == name)
    }

    /// How many variables it holds.
    pub(crate) fn len(&self) -> usize {
        self.visible.len() + self.arguments.len() + self.given.len() + self.defaults.len()
    }

    /// `ENV name=value`.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.visible.insert(name.to_owned(), value.to_owned());
    }

    /// The build arguments that a process sees: those with a value that no later `ENV` covers.
    pub(crate) fn arguments(&self) -> Vec<(String, String)> {
        let seen = |(name, value): &(String, Option<String>)| {
            let value = value.as_ref()?;
            (self.visible.get(name) == Some(value)).then(|| (name.clone(), value.clone()))
        };
        self.arguments.iter().filter_map(seen).collect()
    }

    /// All declared build arguments with what `$NAME` gives, as the history lists them.
    pub(crate) fn declared(&self) -> Vec<(String, String)> {
        let seen = |(name, own): &(String, Option<String>)| {
            let value = self.visible.get(name).or(own.as_ref());
            (name.clone(), value.cloned().unwrap_or_default())
        };
        self.arguments.iter().map(seen).collect()
    }

    /// A value that people gave, or that the file gives before its first `FROM`.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        let value = self.given.get(name).or_else(|| self.defaults.get(name));
        value.map(String::as_str).filter(|value| !value.is_empty())
    }
}

fn platform(side: &str, platform: &Platform) -> BTreeMap<String, String> {
    let values = [
        ("PLATFORM", platform.to_string()),
        ("OS", platform.os.clone()),
        ("OSVERSION", String::new()),
        ("ARCH", platform.architecture.clone()),
        ("VARIANT", platform.variant.clone().unwrap_or_default()),
    ];
    values
        .into_iter()
        .map(|(name, value)| (format!("{side}{name}"), value))
        .collect()
}
