//! VMM drivers and the life of a microVM: record, supervise, connect the agent, stop, reconcile,
//! purge.
//!
//! * [`spec`]: what a VM is to be. [`record`]: what became of it, and the states of its life.
//! * [`change`]: what of that can change later. [`limits`]: what a VM may take of its host.
//! * [`host`]: what a host offers. [`vmm`]: what runs a VM. [`paths`]: where its files are.
//! * [`names`]: what a guest knows of names. [`mount`]: what a workload has mounted. [`volumes`]: the disks for that. [`share`]: directories of
//!   the host. [`secret`]: files that are never on a disk.
//! * [`boot`]: the kernel, the initramfs, the command line.
//! * [`machine`]: a VM in the hands of its owner: a supervisor, or a build.
//! * [`terminal`]: a user's end of a process in a guest.
//! * [`metadata`], [`agent`]: the services in a VM's own network namespace.
//! * [`supervisor`]: the process that owns a VM which runs a workload. [`client`]: what commands do
//!   with VMs. [`output`]: what workloads wrote.
//! * [`health`]: how workloads are. [`conversation`]: what commands have done in a VM beside its workload.
//! * [`events`]: what happened to VMs. [`phases`]: what took time.
//! * [`reconcile`]: cleaning up after owners that died. [`restart`]: who is started again, and when.

mod admission;
pub mod agent;
pub mod boot;
pub mod change;
pub mod client;
mod connections;
mod control;
pub mod conversation;
mod disk;
pub mod error;
pub mod events;
mod frames;
pub mod health;
pub mod host;
pub mod limits;
pub mod machine;
pub mod metadata;
pub mod mount;
pub mod names;
pub mod output;
pub mod paths;
pub mod phases;
mod rate;
pub mod reconcile;
pub mod record;
pub mod restart;
pub mod secret;
mod session;
pub mod share;
mod snapshot;
pub mod spec;
pub mod supervisor;
mod sys;
pub mod terminal;
#[cfg(feature = "testing")]
pub mod testing;
pub mod vmm;
pub mod volumes;
mod watch;

pub use admission::OVERCOMMIT;
pub use boot::BootError;
pub use error::{Error, Report};
pub use host::Host;
pub use machine::{Ended, Machine};
pub use phases::{Part, Phase, Watch};
pub use record::{Exit, Record, State};
pub use spec::{MachineSpec, Purpose};
pub use vmm::Vmm;

/// Bytes that nobody can guess.
fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|source| Error::io("get random bytes", source))?;
    Ok(bytes)
}
