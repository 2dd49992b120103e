//! Which VMM and which acceleration this host has.
//!
//! KVM is usable when `/dev/kvm` can be opened, speaks the one version of its interface that there
//! is, and the processor says that it virtualises (`vmx` or `svm`): a nested host may have a
//! `/dev/kvm` that runs only kernels made for it, and its processor says neither. Then emulation is
//! right.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::firecracker::{self, Firecracker, FirecrackerOptions};
use super::qemu::{self, Qemu};
use super::{Acceleration, Vmm, VmmFacts, VmmKind};
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

/// The programs of VMMs that a host has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Programs {
    qemu: Option<PathBuf>,
    /// Firecracker and its jailer: one is of no use without the other.
    firecracker: [Option<PathBuf>; 2],
}

/// What is best, of what there is.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Qemu(VmmFacts),
    Firecracker { facts: VmmFacts, jailer: PathBuf },
}

/// Finds the VMM for this host: the one that was asked for, or else Firecracker where hardware
/// virtualisation can be used and it is installed, or else QEMU.
///
/// # Errors
/// [`Error::VmmMissing`] if none is installed, or not the one that was asked for;
/// [`Error::VmmUnusable`], [`Error::VmmVersion`].
pub fn detect(
    wanted: Option<VmmKind>,
    options: &FirecrackerOptions,
) -> Result<Arc<dyn Vmm>, Error> {
    let [program, jailer] = firecracker::PROGRAMS;
    let jailer = beside(options.firecracker.as_deref(), jailer);
    let programs = Programs {
        qemu: installed(qemu::program()),
        firecracker: [
            named(options.firecracker.as_deref(), installed(program)),
            named(options.jailer.as_deref(), jailer),
        ],
    };
    let is_root = rustix::process::geteuid().is_root();
    match choose(wanted, &programs, &probe(), is_root)? {
        Choice::Qemu(facts) => Ok(Arc::new(Qemu::new(facts))),
        Choice::Firecracker { facts, jailer } => match Firecracker::new(facts, jailer) {
            Ok(vmm) => Ok(Arc::new(vmm)),
            // One that nobody asked for need not be of use.
            Err(error) if wanted.is_none() && programs.qemu.is_some() => {
                let mut facts = choose_qemu(&programs, &probe(), None)?;
                facts.reason = format!("{}; {error}", facts.reason);
                Ok(Arc::new(Qemu::new(facts)))
            }
            Err(error) => Err(error),
        },
    }
}

fn installed(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths)
        .map(|directory| directory.join(program))
        .find(|program| program.is_file())
}

/// A program that a person named, which has to be what they say, or else the one that was found.
fn named(name: Option<&Path>, found: Option<PathBuf>) -> Option<PathBuf> {
    name.map(Path::to_owned).or(found)
}

/// The jailer is looked for beside a Firecracker that was named: they are released together.
fn beside(firecracker: Option<&Path>, jailer: &str) -> Option<PathBuf> {
    let beside = firecracker.map(|program| program.with_file_name(jailer));
    beside
        .filter(|path| path.is_file())
        .or_else(|| installed(jailer))
}

fn choose(
    wanted: Option<VmmKind>,
    programs: &Programs,
    kvm: &Kvm,
    is_root: bool,
) -> Result<Choice, Error> {
    let [program, jailer] = &programs.firecracker;
    let missing = || match (program, jailer) {
        (None, _) => Some(firecracker::PROGRAMS[0]),
        (_, None) => Some(firecracker::PROGRAMS[1]),
        _ => None,
    };
    let unusable = match kvm {
        Kvm::Usable if is_root => None,
        Kvm::Usable => Some("its jailer needs root".to_owned()),
        _ => Some(kvm.to_string()),
    };
    match (wanted, missing(), unusable, program, jailer) {
        (Some(VmmKind::Qemu), ..) => {
            choose_qemu(programs, kvm, Some("it was asked for")).map(Choice::Qemu)
        }
        (_, None, None, Some(program), Some(jailer)) => Ok(Choice::Firecracker {
            facts: VmmFacts {
                name: firecracker::NAME.to_owned(),
                program: program.clone(),
                acceleration: Acceleration::Kvm,
                reason: format!(
                    "Firecracker, because {kvm} and `{}` is there",
                    program.display()
                ),
            },
            jailer: jailer.clone(),
        }),
        (Some(VmmKind::Firecracker), Some(program), ..) => Err(Error::VmmMissing {
            program: program.to_owned(),
        }),
        (Some(VmmKind::Firecracker), _, why, ..) => Err(Error::VmmUnusable {
            vmm: firecracker::NAME,
            why: why.unwrap_or_default(),
        }),
        (None, ..) => choose_qemu(programs, kvm, None).map(Choice::Qemu),
    }
}

fn choose_qemu(programs: &Programs, kvm: &Kvm, more: Option<&str>) -> Result<VmmFacts, Error> {
    let program = programs.qemu.clone().ok_or_else(|| Error::VmmMissing {
        program: qemu::program().to_owned(),
    })?;
    let (acceleration, how) = match kvm {
        Kvm::Usable => (Acceleration::Kvm, "QEMU with KVM"),
        _ => (Acceleration::Tcg, "QEMU's emulation"),
    };
    let more = more.map(|more| format!("{more} and ")).unwrap_or_default();
    Ok(VmmFacts {
        name: "qemu".to_owned(),
        program,
        acceleration,
        reason: format!("{how}, because {more}{kvm}"),
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

    fn programs(qemu: bool, firecracker: bool, jailer: bool) -> Programs {
        let program = |there: bool, name: &str| there.then(|| PathBuf::from("/usr/bin").join(name));
        Programs {
            qemu: program(qemu, "qemu"),
            firecracker: [
                program(firecracker, "firecracker"),
                program(jailer, "jailer"),
            ],
        }
    }

    #[test]
    fn says_which_and_why() {
        let (all, two) = (programs(true, true, true), programs(true, true, false));
        let (kvm, none) = (Kvm::Usable, Kvm::NoFlag);
        let no_flag =
            "`/dev/kvm` is there, but the processor shows neither `vmx` nor `svm`".to_owned();
        let tcg = format!("QEMU's emulation, because {no_flag}");
        let fire =
            "Firecracker, because `/dev/kvm` can be used and `/usr/bin/firecracker` is there";
        let asked = "QEMU with KVM, because it was asked for and `/dev/kvm` can be used";
        let root = "`firecracker` cannot be used on this host: its jailer needs root";
        let unusable = format!("`firecracker` cannot be used on this host: {no_flag}");
        let forced = Some(VmmKind::Firecracker);
        for (wanted, programs, kvm, is_root, expected) in [
            (None, &all, &kvm, true, fire),
            (
                None,
                &all,
                &kvm,
                false,
                "QEMU with KVM, because `/dev/kvm` can be used",
            ),
            (None, &all, &none, true, tcg.as_str()),
            (
                None,
                &two,
                &kvm,
                true,
                "QEMU with KVM, because `/dev/kvm` can be used",
            ),
            (Some(VmmKind::Qemu), &all, &kvm, true, asked),
            (forced, &all, &kvm, true, fire),
            (forced, &all, &none, true, unusable.as_str()),
            (forced, &all, &kvm, false, root),
            (forced, &two, &kvm, true, "`jailer` is not installed"),
        ] {
            let chosen = match choose(wanted, programs, kvm, is_root) {
                Ok(Choice::Qemu(facts) | Choice::Firecracker { facts, .. }) => facts.reason,
                Err(error) => {
                    assert!(error.hint().is_some(), "{error}");
                    error.to_string()
                }
            };
            assert_eq!(chosen, expected);
        }
        let missing = choose(None, &programs(false, true, true), &none, true).unwrap_err();
        let hint = missing.hint().unwrap();
        assert!(hint.contains("apt-get install qemu-system-x86"), "{hint}");
    }

    #[test]
    fn this_host_can_be_asked() {
        // Whatever it says, it says something.
        assert!(!probe().to_string().is_empty());
        let null = fs_err::File::open("/dev/null").unwrap();
        assert!(sys::kvm_version(null.file()).is_err());
    }
}
