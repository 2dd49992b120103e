//! Which VMM and which acceleration this host has.
//!
//! KVM is usable when `/dev/kvm` can be opened, speaks the one version of its interface that there
//! is, and the processor says that it virtualises (`vmx` or `svm`): a nested host may have a
//! `/dev/kvm` that runs only kernels made for it, and its processor says neither. Then emulation is
//! right.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::qemu::{self, Qemu};
use super::{Acceleration, Vmm, VmmFacts};
use crate::{Error, sys};

/// KVM's device.
pub const KVM: &str = "/dev/kvm";

/// The only version of KVM's interface since Linux 2.6.22.
const KVM_VERSION: i32 = 12;

/// What a host says about its hardware virtualisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kvm {
    /// It can be used.
    Usable,
    /// There is no `/dev/kvm`.
    Missing,
    /// This process may not open it.
    Denied,
    /// It cannot be opened for another reason.
    Broken(String),
    /// It speaks another version.
    Version(i32),
    /// The processor has neither `vmx` nor `svm`.
    NoFlag,
}

/// Finds the VMM for this host.
///
/// # Errors
/// [`Error::VmmMissing`] if none is installed.
pub fn detect() -> Result<Arc<dyn Vmm>, Error> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths)
        .map(|directory| directory.join(qemu::program()))
        .find(|program| program.is_file());
    let facts = choose(found, &probe())?;
    Ok(Arc::new(Qemu::new(facts)))
}

/// What is best, of what there is.
fn choose(qemu: Option<PathBuf>, kvm: &Kvm) -> Result<VmmFacts, Error> {
    let program = qemu.ok_or_else(|| Error::VmmMissing {
        program: qemu::program().to_owned(),
    })?;
    let (acceleration, how) = match kvm {
        Kvm::Usable => (Acceleration::Kvm, "QEMU with KVM"),
        _ => (Acceleration::Tcg, "QEMU's emulation"),
    };
    Ok(VmmFacts {
        name: "qemu".to_owned(),
        program,
        acceleration,
        reason: format!("{how}, because {kvm}"),
    })
}

/// Asks this host.
#[must_use]
pub fn probe() -> Kvm {
    let opened = fs_err::OpenOptions::new().read(true).write(true).open(KVM);
    let version = match opened {
        Ok(kvm) => sys::kvm_version(kvm.file()),
        Err(error) => Err(error),
    };
    // A processor that cannot be asked is taken to be able: KVM has said so.
    let flags = fs_err::read_to_string("/proc/cpuinfo").ok();
    assess(version, flags.as_deref())
}

fn assess(version: io::Result<i32>, cpuinfo: Option<&str>) -> Kvm {
    match version {
        Ok(KVM_VERSION) if cpuinfo.is_none_or(virtualises) => Kvm::Usable,
        Ok(KVM_VERSION) => Kvm::NoFlag,
        Ok(version) => Kvm::Version(version),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => Kvm::Missing,
            io::ErrorKind::PermissionDenied => Kvm::Denied,
            _ => Kvm::Broken(error.to_string()),
        },
    }
}

/// Whether `/proc/cpuinfo` shows a processor that virtualises. Only x86 tells.
fn virtualises(cpuinfo: &str) -> bool {
    let mut flags = cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.trim() == "flags")
        .map(|(_, flags)| flags)
        .peekable();
    flags.peek().is_none()
        || flags.any(|flags| {
            flags
                .split_ascii_whitespace()
                .any(|flag| flag == "vmx" || flag == "svm")
        })
}

impl fmt::Display for Kvm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usable => write!(f, "`{KVM}` can be used"),
            Self::Missing => write!(f, "there is no `{KVM}`"),
            Self::Denied => write!(f, "this user may not open `{KVM}`"),
            Self::Broken(why) => write!(f, "`{KVM}` cannot be used: {why}"),
            Self::Version(version) => {
                write!(f, "`{KVM}` speaks version {version}, not {KVM_VERSION}")
            }
            Self::NoFlag => write!(
                f,
                "`{KVM}` is there, but the processor shows neither `vmx` nor `svm`"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTEL: &str = "processor\t: 0\nflags\t\t: fpu vmx sse\n";
    const NESTED: &str = "processor\t: 0\nflags\t\t: fpu hypervisor vmxx\nbugs\t\t: svm\n";
    const ARM: &str = "processor\t: 0\nFeatures\t: fp asimd\n";

    #[test]
    fn kvm_has_to_be_there_speak_and_virtualise() {
        let error = |kind: io::ErrorKind| Err(io::Error::from(kind));
        for (version, cpuinfo, expected) in [
            (Ok(12), Some(INTEL), Kvm::Usable),
            (Ok(12), Some(ARM), Kvm::Usable),
            (Ok(12), None, Kvm::Usable),
            (Ok(12), Some(NESTED), Kvm::NoFlag),
            (Ok(13), Some(INTEL), Kvm::Version(13)),
            (error(io::ErrorKind::NotFound), Some(INTEL), Kvm::Missing),
            (
                error(io::ErrorKind::PermissionDenied),
                Some(INTEL),
                Kvm::Denied,
            ),
            (
                error(io::ErrorKind::TimedOut),
                Some(INTEL),
                Kvm::Broken("timed out".into()),
            ),
        ] {
            assert_eq!(assess(version, cpuinfo), expected);
        }
    }

    #[test]
    fn says_which_and_why() {
        let qemu = || Some(PathBuf::from("/usr/bin/qemu"));
        let facts = choose(qemu(), &Kvm::NoFlag).unwrap();
        assert_eq!(facts.acceleration, Acceleration::Tcg);
        assert_eq!(
            facts.reason,
            "QEMU's emulation, because `/dev/kvm` is there, but the processor shows neither `vmx` nor `svm`"
        );
        let facts = choose(qemu(), &Kvm::Usable).unwrap();
        assert_eq!(facts.acceleration, Acceleration::Kvm);
        let missing = choose(None, &Kvm::Usable).unwrap_err();
        assert!(
            missing
                .hint()
                .unwrap()
                .contains("apt-get install qemu-system-x86")
        );
    }

    #[test]
    fn this_host_can_be_asked() {
        // Whatever it says, it says something.
        assert!(!probe().to_string().is_empty());
        let null = fs_err::File::open("/dev/null").unwrap();
        assert!(sys::kvm_version(null.file()).is_err());
    }
}
