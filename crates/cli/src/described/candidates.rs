//! What shells are offered beside words: the names of VMs, images, kernels, networks, volumes and
//! profiles.
//!
//! Nothing is made where there is no store, and where anything is wrong nothing is offered: a person
//! is in the middle of typing.

use std::path::{Path, PathBuf};

use clap::builder::ValueParser;
use clap::{Arg, Command, value_parser};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use firebuild_core::Reference;
use firebuild_network::{Join, NetworkName};
use firebuild_store::{KernelId, Store, VolumeName};

use crate::arguments;
use crate::command::{DEFAULT_ROOT, PROFILES};
use crate::profile::ProfileName;
use crate::profile::directory::Profiles;

/// The most that is offered.
const MOST: usize = 500;

/// All commands, with what they can be offered.
pub(crate) fn command() -> Command {
    taught(arguments::command())
}

fn taught(command: Command) -> Command {
    // Names that are made are none that are there.
    let makes = command.get_name() == "create";
    command
        .mut_args(|arg| match makes {
            true => arg,
            false => offered(arg),
        })
        .mut_subcommands(taught)
}

fn offered(arg: Arg) -> Arg {
    let of = |parser: ValueParser| arg.get_value_parser().type_id() == parser.type_id();
    let named = arg.get_value_names().unwrap_or_default();
    let first = named.first().map(|name| name.as_str().to_owned());
    let first = first.unwrap_or_else(|| arg.get_id().as_str().to_ascii_uppercase());
    let list = match first.as_str() {
        "VM" | "VMS" | "VM..." => machines,
        _ if first.starts_with("IMAGE") || of(value_parser!(Reference).into()) => images,
        _ if of(value_parser!(KernelId).into()) => kernels,
        _ if of(value_parser!(ProfileName).into()) => profiles,
        _ if of(value_parser!(NetworkName).into()) || of(value_parser!(Join).into()) => networks,
        _ if of(value_parser!(VolumeName).into()) => volumes,
        _ if first.starts_with("[SOURCE:]") => mounted,
        _ => return arg,
    };
    arg.add(ArgValueCandidates::new(move || {
        let names = list().unwrap_or_default().into_iter().take(MOST);
        names.map(CompletionCandidate::new).collect()
    }))
}

/// A directory from the environment, or else the usual one.
fn directory(flag: &str, usual: &str) -> PathBuf {
    let set = std::env::var_os(arguments::variable(flag));
    set.map_or_else(|| PathBuf::from(usual), PathBuf::from)
}

fn store() -> Option<Store> {
    let root = directory("root", DEFAULT_ROOT);
    let there = Path::new(&root).is_dir();
    there.then(|| Store::open(&root).ok()).flatten()
}

fn machines() -> Option<Vec<String>> {
    let identities = store()?.machines().identities().ok()?;
    let name = |identity: firebuild_store::Identity| match identity.name {
        Some(name) => name.to_string(),
        None => identity.id.to_string(),
    };
    Some(identities.into_iter().map(name).collect())
}

fn images() -> Option<Vec<String>> {
    let tagged = store()?.tags().list().ok()?;
    let names = tagged.into_iter().filter_map(|image| image.reference);
    Some(names.map(|reference| reference.familiar()).collect())
}

fn kernels() -> Option<Vec<String>> {
    let kernels = store()?.kernels().list().ok()?;
    Some(kernels.iter().map(ToString::to_string).collect())
}

fn networks() -> Option<Vec<String>> {
    let settings = firebuild_network::Settings::of_host(store()?.path());
    let all = firebuild_network::Builtin::new(settings).networks().ok()?;
    Some(all.iter().map(|network| network.name.to_string()).collect())
}

fn volumes() -> Option<Vec<String>> {
    let all = store()?.volumes().list().ok()?;
    Some(all.iter().map(|volume| volume.name.to_string()).collect())
}

/// The beginning of what says where a volume goes.
fn mounted() -> Option<Vec<String>> {
    let names = volumes()?.into_iter();
    Some(names.map(|name| format!("{name}:")).collect())
}

fn profiles() -> Option<Vec<String>> {
    let directory = directory("profile-conf-dir", PROFILES);
    let names = Profiles::at(&directory).list().ok()?;
    Some(names.iter().map(ToString::to_string).collect())
}
