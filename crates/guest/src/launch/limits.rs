//! The limits of a process, and of all that it starts.

use firebuild_protocol::limits::{ProcessLimit, Resource as Told};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::error::{Doing as _, Result};

/// systemd's: high limits make programs slow that close every descriptor they could have, and a
/// core file would only fill the disk.
const USUAL: [(Resource, Option<u64>, Option<u64>); 2] = [
    (Resource::Nofile, Some(1024), Some(524_288)),
    (Resource::Core, Some(0), None),
];

/// Sets the usual limits, and then those that were told.
pub(super) fn set(told: &[ProcessLimit]) -> Result<()> {
    let told = told
        .iter()
        .map(|limit| (resource(limit.resource), limit.soft, limit.hard));
    for (resource, current, maximum) in USUAL.into_iter().chain(told) {
        setrlimit(resource, Rlimit { current, maximum }).doing(|| "set limits".to_owned())?;
    }
    Ok(())
}

fn resource(told: Told) -> Resource {
    match told {
        Told::As => Resource::As,
        Told::Core => Resource::Core,
        Told::Cpu => Resource::Cpu,
        Told::Data => Resource::Data,
        Told::Fsize => Resource::Fsize,
        Told::Locks => Resource::Locks,
        Told::Memlock => Resource::Memlock,
        Told::Msgqueue => Resource::Msgqueue,
        Told::Nice => Resource::Nice,
        Told::Nofile => Resource::Nofile,
        Told::Nproc => Resource::Nproc,
        Told::Rss => Resource::Rss,
        Told::Rtprio => Resource::Rtprio,
        Told::Rttime => Resource::Rttime,
        Told::Sigpending => Resource::Sigpending,
        Told::Stack => Resource::Stack,
    }
}
