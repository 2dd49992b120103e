//! The capabilities of a step that is not privileged: those that container engines give.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use crate::error::{Doing as _, Result};

/// What a step's root user may do.
const ALLOWED: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Keeps the process and all that it becomes from ever having another capability. To be called
/// while it still has the one for that.
pub(super) fn limit() -> Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if ALLOWED.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            // The kernel has no more of them.
            Err(rustix::io::Errno::INVAL) => break,
            other => other.doing(|| format!("give up capability {number}"))?,
        }
    }
    Ok(())
}

/// Gives up what the process has itself beyond that. A user other than root has nothing left.
pub(super) fn drop_the_rest() -> Result<()> {
    let drop = || -> io::Result<()> {
        let now = capabilities(None)?;
        clear_ambient_capability_set()?;
        set_capabilities(
            None,
            CapabilitySets {
                effective: now.effective & ALLOWED,
                permitted: now.permitted & ALLOWED,
                inheritable: CapabilitySet::empty(),
            },
        )?;
        Ok(())
    };
    drop().doing(|| "give up capabilities".to_owned())
}
