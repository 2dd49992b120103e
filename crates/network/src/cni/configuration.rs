//! A network's configuration: a list of plugins, from a `.conflist` or a single plugin's `.conf`.
//!
//! What must hold: names that become part of paths (the network's, the plugins') lead nowhere else,
//! and every plugin's configuration is kept as it was written, because only the plugin knows it.

use std::path::Path;

use serde_json::{Map, Value};

use super::version::Version;

/// As many plugins as a list may have.
const MOST_PLUGINS: usize = 64;

/// A network's configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NetworkList {
    pub(crate) name: String,
    /// The version in which its plugins are spoken to.
    pub(crate) version: Version,
    pub(crate) disable_check: bool,
    pub(crate) disable_gc: bool,
    pub(crate) plugins: Vec<Plugin>,
    /// The list as it was written, for the cache.
    pub(crate) text: Vec<u8>,
}

/// One plugin's configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plugin {
    /// The name of its program.
    pub(crate) kind: String,
    pub(crate) configuration: Map<String, Value>,
}

impl Plugin {
    /// Whether it wants a capability's value at run time.
    pub(crate) fn has_capability(&self, name: &str) -> bool {
        self.configuration
            .get("capabilities")
            .is_some_and(|capabilities| capabilities[name] == Value::Bool(true))
    }
}

impl NetworkList {
    /// Reads a file's text: a list, or one plugin, which is made a list of one.
    pub(crate) fn read(text: &[u8]) -> Result<Self, String> {
        let mut value: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let Some(object) = value.as_object_mut() else {
            return Err("it is no JSON object".to_owned());
        };
        if object.contains_key("plugins") {
            return Self::of_list(object, text);
        }
        if !object.contains_key("type") {
            return Err("it has neither `plugins` nor `type`".to_owned());
        }
        // A plugin alone says name and version itself.
        let mut list = Map::new();
        for key in ["name", "cniVersion"] {
            if let Some(value) = object.get(key) {
                list.insert(key.to_owned(), value.clone());
            }
        }
        list.insert("plugins".to_owned(), Value::Array(vec![value]));
        let text = serde_json::to_vec(&list).map_err(|error| error.to_string())?;
        Self::of_list(&mut list, &text)
    }

    /// Whether any plugin wants a capability's value.
    pub(crate) fn has_capability(&self, name: &str) -> bool {
        self.plugins
            .iter()
            .any(|plugin| plugin.has_capability(name))
    }

    fn of_list(object: &mut Map<String, Value>, text: &[u8]) -> Result<Self, String> {
        let name = match object.get("name") {
            Some(Value::String(name)) if is_network_name(name) => name.clone(),
            Some(Value::String(name)) => {
                let shown: String = name.chars().take(60).collect();
                return Err(format!(
                    "`{shown}` cannot name a network: letters, digits, `_`, `.` and `-` can, the first a letter or digit"
                ));
            }
            _ => return Err("it has no `name`".to_owned()),
        };
        let plugins = match object.remove("plugins") {
            Some(Value::Array(plugins)) => plugins,
            _ => return Err("`plugins` is no list".to_owned()),
        };
        if plugins.is_empty() || plugins.len() > MOST_PLUGINS {
            return Err(format!(
                "it has {} plugins, and 1 to {MOST_PLUGINS} can be",
                plugins.len()
            ));
        }
        Ok(Self {
            name,
            version: version(object)?,
            disable_check: flag(object, "disableCheck")?,
            disable_gc: flag(object, "disableGC")?,
            plugins: plugins.into_iter().map(plugin).collect::<Result<_, _>>()?,
            text: text.to_vec(),
        })
    }
}

/// The highest version that the list offers and that is known here.
fn version(object: &Map<String, Value>) -> Result<Version, String> {
    let offered = object.get("cniVersions").and_then(Value::as_array);
    let offered = offered.into_iter().flatten().filter_map(Value::as_str);
    let highest = offered
        .filter_map(|text| text.parse::<Version>().ok())
        .max();
    let named = match object.get("cniVersion") {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => text.parse().map(Some),
        Some(_) => return Err("`cniVersion` is no text".to_owned()),
    };
    match (named, highest) {
        (Ok(named), highest) => Ok(named.max(highest).unwrap_or(Version::UNNAMED)),
        (Err(_), Some(highest)) => Ok(highest),
        (Err(unknown), None) => Err(unknown.to_string()),
    }
}

/// A switch; written as a text, too, as plugins' own examples have it.
fn flag(object: &Map<String, Value>, name: &str) -> Result<bool, String> {
    match object.get(name) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::String(text)) if text == "true" => Ok(true),
        Some(Value::String(text)) if text == "false" => Ok(false),
        Some(_) => Err(format!("`{name}` is neither true nor false")),
    }
}

fn plugin(value: Value) -> Result<Plugin, String> {
    let Value::Object(configuration) = value else {
        return Err("one of its plugins is no JSON object".to_owned());
    };
    let kind = match configuration.get("type") {
        Some(Value::String(kind)) => kind.clone(),
        _ => return Err("one of its plugins has no `type`".to_owned()),
    };
    if !is_program_name(&kind) {
        let shown: String = kind.chars().take(60).collect();
        return Err(format!(
            "`{shown}` cannot name a plugin: it has to be a file's name"
        ));
    }
    Ok(Plugin {
        kind,
        configuration,
    })
}

/// What the specification lets a network be called (and a file's name hold).
pub(crate) fn is_network_name(name: &str) -> bool {
    name.len() <= 120
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn is_program_name(name: &str) -> bool {
    let path = Path::new(name);
    name.len() <= 120 && !name.contains('\0') && path.file_name() == Some(path.as_os_str())
}
