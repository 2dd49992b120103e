//! A list of plugins as one network: added in its order, deleted in the other.

use std::os::fd::OwnedFd;

use serde_json::{Map, Value, json};

use super::cache::{Cache, Entry};
use super::configuration::{NetworkList, Plugin};
use super::error::CniError;
use super::plugin::{self, Sandbox, Verb};
use super::result::Outcome;
use super::stand_in;

/// The plugin that is built in.
pub(crate) const REDIRECT: &str = "tc-redirect-tap";

/// What makes the tap, at its place in the list.
pub(crate) type Redirect<'a> = &'a mut dyn FnMut(&mut Outcome) -> Result<OwnedFd, crate::Error>;

/// Asks whether a list's plugins are ready, if they can tell.
pub(crate) fn status(list: &NetworkList, sandbox: &Sandbox<'_>) -> Result<(), CniError> {
    if !list.version.has_status() {
        return Ok(());
    }
    for plugin in others(list) {
        plugin::ask(list, plugin, Verb::Status, sandbox, Map::new())?;
    }
    Ok(())
}

/// Adds, and writes what there is into the cache before each plugin. Returns the tap that was made
/// here, if the list names the plugin that is built in.
pub(crate) fn add(
    entry: &mut Entry,
    sandbox: &Sandbox<'_>,
    cache: &Cache,
    redirect: Redirect<'_>,
) -> Result<Option<OwnedFd>, crate::Error> {
    cache.write(entry)?;
    let list = entry.list.clone();
    let mut tap = None;
    for plugin in &list.plugins {
        let outcome = if plugin.kind == REDIRECT {
            let mut outcome = entry.outcome.clone().unwrap_or_default();
            tap = Some(redirect(&mut outcome)?);
            outcome
        } else {
            let previous = plugin::previous(entry.outcome.as_ref(), list.version);
            let answer = plugin::ask(&list, plugin, Verb::Add, sandbox, previous)?;
            plugin::outcome(&list, plugin, &answer)?
        };
        entry.outcome = Some(outcome);
        cache.write(entry)?;
    }
    Ok(tap)
}

/// Checks what was added.
pub(crate) fn check(entry: &Entry, sandbox: &Sandbox<'_>) -> Result<(), CniError> {
    let list = &entry.list;
    if list.disable_check || !list.version.has_check() {
        return Ok(());
    }
    for plugin in others(list) {
        let previous = plugin::previous(entry.outcome.as_ref(), list.version);
        plugin::ask(list, plugin, Verb::Check, sandbox, previous)?;
    }
    Ok(())
}

/// Deletes, last plugin first. Goes on after an error, and returns all of them.
pub(crate) fn delete(entry: &Entry, sandbox: &Sandbox<'_>) -> Vec<CniError> {
    let plugins = others(&entry.list).collect::<Vec<_>>();
    let asked = plugins.into_iter().rev().map(|plugin| {
        let first = delete_one(entry, plugin, sandbox);
        match first {
            // Something was missing, often, and is no more missed the second time: rules that
            // somebody else has flushed.
            Err(CniError::Refused { .. } | CniError::Failed { .. }) => {
                delete_one(entry, plugin, sandbox).or(first)
            }
            other => other,
        }
    });
    asked.filter_map(Result::err).collect()
}

/// Deletes once more what plugins masquerade, as far as there is anything.
pub(crate) fn delete_masquerading(entry: &Entry, sandbox: &Sandbox<'_>) {
    for plugin in others(&entry.list).filter(|plugin| stand_in::masquerades(plugin)) {
        let _ = delete_one(entry, plugin, sandbox);
    }
}

fn delete_one(entry: &Entry, plugin: &Plugin, sandbox: &Sandbox<'_>) -> Result<(), CniError> {
    let Entry { list, outcome, .. } = entry;
    let outcome = outcome.as_ref().filter(|_| list.version.has_check());
    let previous = plugin::previous(outcome, list.version);
    plugin::ask(list, plugin, Verb::Delete, sandbox, previous).map(drop)
}

/// Has a list's plugins remove what they have for anybody but `attachments`, if they can.
pub(crate) fn collect(
    list: &NetworkList,
    sandbox: &Sandbox<'_>,
    attachments: &[(String, String)],
) -> Vec<CniError> {
    if list.disable_gc || !list.version.has_status() {
        return Vec::new();
    }
    let attachments: Vec<Value> = attachments
        .iter()
        .map(|(container, device)| json!({"containerID": container, "ifname": device}))
        .collect();
    let valid = Map::from_iter([("cni.dev/valid-attachments".to_owned(), attachments.into())]);
    let asked =
        others(list).map(|plugin| plugin::ask(list, plugin, Verb::Collect, sandbox, valid.clone()));
    asked.filter_map(Result::err).collect()
}

fn others(list: &NetworkList) -> impl Iterator<Item = &Plugin> {
    list.plugins.iter().filter(|plugin| plugin.kind != REDIRECT)
}
