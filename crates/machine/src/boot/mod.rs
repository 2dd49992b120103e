//! What a microVM boots: a kernel, an initramfs made for that kernel, a command line.
//!
//! * [`agent`]: `vminit`, which this crate carries inside itself.
//! * [`kernel`]: importing kernels from files and packages, and what is known of an imported one.
//! * [`distribution`]: fetching a distribution's kernel with the distribution's tools.
//! * [`initramfs`]: the archive that the kernel unpacks at boot; `kept`: the same, made once.
//! * `memory`: how little of it is too little.
//! * [`CommandLine`]: what the kernel and the agent are told; [`TscMeasurement`]: what an emulated one needs.
//!
//! The initramfs holds the agent and just those modules that this kernel does not have built in
//! and that a VM needs; nothing is looked for at boot, and nothing is loaded in vain.

mod command_line;
mod compression;
pub mod distribution;
mod elf;
mod error;
mod image;
mod initramfs;
pub(crate) mod kept;
pub mod kernel;
pub(crate) mod memory;
mod modules;
mod sys;
mod ticks;

pub use command_line::{CommandLine, Restart};
pub use error::BootError;
pub use initramfs::initramfs;
pub use kernel::{Kernel, KernelFacts, Needs};
pub use ticks::TscMeasurement;

/// The agent: a static ELF program that is `/init` of every initramfs.
#[must_use]
pub fn agent() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/vminit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_a_program_of_a_few_megabytes() {
        let program = elf::Elf::parse(agent()).unwrap();
        assert!(program.segment(elf::INTERPRETER).is_none());
        assert!(agent().len() < 5 << 20, "{} bytes", agent().len());
    }
}
