//! What runs a VM: the trait that every VMM implements, and the process that each of them is.
//!
//! * [`detect`]: which VMM and which acceleration a host has, and why.
//! * [`qemu`]: QEMU's `microvm` machine. [`firecracker`]: Firecracker, under its jailer.
//! * [`ids`]: the user that a VMM runs as.
//! * [`process`]: the running process: its end, its console, its death by our hand.
//! * [`console`]: the guest's console, in a file of bounded size.
//!
//! A VMM is one child process that prints the guest's console to its standard output and its own
//! complaints to its standard error, gets every file as an open descriptor, runs in the VM's
//! network namespace, and ends when the guest powers off or reboots.

pub mod console;
pub mod detect;
pub mod firecracker;
pub(crate) mod group;
pub mod ids;
pub mod process;
pub mod qemu;
mod qmp;

use std::fs::File;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;

use firebuild_core::MachineId;
use firebuild_network::{Mac, Namespace};
use firebuild_protocol::metadata::Document;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::boot::Restart;
use crate::limits::{DiskRates, Limits};
use crate::share::SharedDirectory;
use crate::spec::MachineSpec;
pub use process::{Running, VmmExit};

/// How a VMM executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Acceleration {
    /// By the processor, under the kernel's control.
    Kvm,
    /// By translation: some twenty times slower, and possible anywhere.
    Tcg,
}

/// A kind of VMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VmmKind {
    /// Firecracker, under its jailer.
    Firecracker,
    /// QEMU.
    Qemu,
}

/// Which VMM runs a VM, and why this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct VmmFacts {
    /// `qemu`, `firecracker`.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// How instructions are executed.
    pub acceleration: Acceleration,
    /// Why, for people: one line.
    pub reason: String,
}

/// Everything that a VMM needs to start one VM. What a VM is to be is all here; a VMM asks nobody.
#[derive(Debug)]
pub struct Launch {
    /// The VM.
    pub id: MachineId,
    /// Number of processors: 1 to 32.
    pub cpus: u8,
    /// Memory in MiB.
    pub memory: u32,
    /// A kernel that the VMM can load.
    pub kernel: File,
    /// The initramfs.
    pub initramfs: File,
    /// The kernel's command line.
    pub command_line: String,
    /// Whether the kernel finds its devices through ACPI; else they are on its command line.
    pub acpi: bool,
    /// The images of the root file system, the lowest first, all read-only: the disks with the
    /// serials `root`, `root1`, `root2` and so on.
    pub roots: Vec<File>,
    /// The VM's own disk: the one with the serial `disk`.
    pub disk: File,
    /// Whether that is kept when the VM has ended: then what the guest flushes has to reach the host's
    /// disk.
    pub disk_lasts: bool,
    /// Further disks.
    pub attached: Vec<AttachedDisk>,
    /// Directories of the host's. A VMM that cannot share them has refused before.
    pub shares: Vec<SharedDirectory>,
    /// What the VM may take of its host.
    pub limits: Limits,
    /// The network namespace to run in.
    pub namespace: Namespace,
    /// The guest's network devices, in the order in which it finds them.
    pub interfaces: Vec<GuestInterface>,
    /// The user to run as; none where the host does not allow it.
    pub ids: Option<ids::Ids>,
    /// An existing directory for sockets that only live as long as the VM.
    pub runtime: PathBuf,
    /// Where the guest's console is written.
    pub console: PathBuf,
    /// The metadata, for a VMM that serves it itself.
    pub metadata: Document,
    /// What is asked of Firecracker, if that is the VMM.
    pub firecracker: firecracker::FirecrackerOptions,
}

/// A network device of a guest.
#[derive(Debug)]
pub struct GuestInterface {
    /// The tap's name in the VM's network namespace, for a VMM that opens it by name.
    pub device: String,
    /// The open tap, for a VMM that inherits it.
    pub tap: OwnedFd,
    /// The hardware address that the guest sees.
    pub mac: Mac,
}

/// What a guest knows an image of its root file system by; 0 is the lowest.
#[must_use]
pub fn root_serial(index: usize) -> String {
    match index {
        0 => "root".to_owned(),
        index => format!("root{index}"),
    }
}

/// A disk of a VM's that outlives its run.
#[derive(Debug)]
pub struct AttachedDisk {
    /// What the guest knows it by: 1 to 20 of `a-z` and `0-9`, and neither `disk` nor `root`, with
    /// or without a number.
    pub serial: String,
    /// The disk, open for reading and, unless it is read-only, for writing.
    pub file: File,
    /// Whether the guest cannot write to it.
    pub read_only: bool,
}

/// What a VMM's start and its like return.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// A virtual machine monitor.
pub trait Vmm: Send + Sync {
    /// Which it is, and why.
    fn facts(&self) -> &VmmFacts;

    /// Whether it serves the metadata itself. If not, the VM's owner does.
    fn serves_metadata(&self) -> bool;

    /// How a guest's kernel ends its VM.
    fn restart(&self) -> Restart;

    /// Checks whether it could run a VM like this, before anything is made.
    ///
    /// # Errors
    /// [`Error::Spec`], [`Error::SocketPath`].
    fn check(&self, _: &MachineSpec) -> Result<(), Error> {
        Ok(())
    }

    /// What it means that its process ended like this, for people.
    fn explain(&self, _: VmmExit) -> Option<String> {
        None
    }

    /// How many devices a VM can have: network devices, drives, shared directories, the source of random
    /// numbers. `acpi` says whether the kernel finds them through ACPI. A VMM that tells no bound refuses
    /// by itself.
    fn device_room(&self, acpi: bool) -> usize {
        let _ = acpi;
        usize::MAX
    }

    /// Starts a VM.
    ///
    /// # Errors
    /// [`Error::VmmMissing`], [`Error::VmmFailed`], [`Error::Io`].
    fn start(&self, launch: Launch) -> Pending<'_, Running>;

    /// Replaces the metadata that the VMM serves itself.
    ///
    /// # Errors
    /// Those of the VMM's interface.
    fn set_metadata<'a>(&'a self, _: &'a Running, _: &'a Document) -> Pending<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Stops the guest's processors, until [`resume`](Self::resume). Pausing a paused VM changes
    /// nothing.
    ///
    /// # Errors
    /// [`Error::NotOffered`], and those of the VMM's interface.
    fn pause<'a>(&'a self, _: &'a Running) -> Pending<'a, ()> {
        Box::pin(std::future::ready(Err(self.offers_no("pausing"))))
    }

    /// Lets the guest's processors go on. Resuming a VM that runs changes nothing.
    ///
    /// # Errors
    /// [`Error::NotOffered`], and those of the VMM's interface.
    fn resume<'a>(&'a self, _: &'a Running) -> Pending<'a, ()> {
        Box::pin(std::future::ready(Err(self.offers_no("pausing"))))
    }

    /// Changes how fast the disks of a running VM are, all together.
    ///
    /// # Errors
    /// [`Error::NotOffered`], and those of the VMM's interface.
    fn set_rates<'a>(&'a self, _: &'a Running, _: &'a DiskRates) -> Pending<'a, ()> {
        let what = "changing the rates of disks while a VM runs";
        Box::pin(std::future::ready(Err(self.offers_no(what))))
    }

    /// The error for what this VMM can not do.
    fn offers_no(&self, what: &'static str) -> Error {
        let vmm = self.facts().name.clone();
        Error::NotOffered { vmm, what }
    }
}

impl std::fmt::Debug for dyn Vmm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.facts().fmt(f)
    }
}

impl Acceleration {
    /// By how much a guest's time-outs are longer than on the processor itself.
    #[must_use]
    pub fn patience(self) -> u32 {
        match self {
            Self::Kvm => 1,
            Self::Tcg => 4,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use firebuild_network::Namespace;
    use firebuild_protocol::metadata::Latest;

    use super::*;

    /// A VM with two images and an attached disk, of nothing.
    pub(crate) fn launch() -> Launch {
        let id = MachineId::from_random([0; 20]);
        let null = || fs_err::File::open("/dev/null").unwrap().into_parts().0;
        Launch {
            cpus: 2,
            memory: 512,
            kernel: null(),
            initramfs: null(),
            command_line: "console=ttyS0 a,b=c".to_owned(),
            acpi: true,
            roots: vec![null(), null()],
            shares: Vec::new(),
            disk: null(),
            disk_lasts: false,
            limits: Limits::default(),
            attached: vec![AttachedDisk {
                serial: "cache0".to_owned(),
                file: null(),
                read_only: false,
            }],
            namespace: Namespace::at("/run/netns/none"),
            interfaces: vec![GuestInterface {
                device: "tap0".to_owned(),
                tap: null().into(),
                mac: Mac::of_machine(&id),
            }],
            ids: None,
            runtime: "/none".into(),
            console: "/none".into(),
            metadata: Document {
                latest: Latest {
                    metadata: crate::metadata::tests::sample(),
                },
            },
            firecracker: crate::vmm::firecracker::FirecrackerOptions::default(),
            id,
        }
    }
}
