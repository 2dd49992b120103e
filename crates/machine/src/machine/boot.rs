//! What the kernel is told, what a VMM has room for, and why a guest never called.

use std::time::Duration;

use firebuild_protocol::boot::BootArguments;

use super::{Machine, SHOWN_LINES};
use crate::Error;
use crate::boot::{CommandLine, TscMeasurement, memory};
use crate::host::Boot;
use crate::spec::CONNECT_TIME;
use crate::vmm::{Acceleration, Running, Vmm, VmmExit};
use crate::volumes::Layout;

impl Machine {
    /// Before anything is started that would only fail later, in words of the VMM's.
    pub(super) fn check_devices(&self, vmm: &dyn Vmm, acpi: bool) -> Result<(), Error> {
        /// The source of random numbers, the VM's own disk.
        const ALWAYS: usize = 2;
        let spec = &self.record.spec;
        let mounts = Layout::of(&spec.mounts).devices();
        // Without a network there is a device for the host alone.
        let networks = spec.networks.len().max(1);
        let needed = ALWAYS + spec.rootfs.len() + networks + self.attached.len() + mounts;
        let room = vmm.device_room(acpi);
        if needed <= room {
            return Ok(());
        }
        Err(Error::TooManyDevices {
            id: self.id().clone(),
            needed,
            vmm: vmm.facts().name.clone(),
            room,
        })
    }

    /// The same of its memory.
    pub(super) fn check_memory(&self, boot: &Boot) -> Result<(), Error> {
        let needed = memory::least(&boot.kernel, &boot.initramfs);
        let spec = &self.record.spec;
        if spec.memory >= needed {
            return Ok(());
        }
        Err(Error::TooLittleMemory {
            id: self.id().clone(),
            memory: spec.memory,
            kernel: spec.kernel.to_string(),
            needed,
        })
    }

    pub(super) fn command_line(&self, vmm: &dyn Vmm, tsc: TscMeasurement) -> Result<String, Error> {
        let attachment = self.attachment.as_ref();
        let interfaces = attachment.map_or(&[][..], |attachment| &attachment.interfaces);
        let first = interfaces.first();
        let first = first.ok_or_else(|| Error::NotRunning(self.id().clone()))?;
        let arguments = BootArguments {
            address: first.address,
            prefix: first.subnet.prefix(),
            mac: (interfaces.len() > 1).then(|| first.mac.octets()),
        };
        let emulated = vmm.facts().acceleration == Acceleration::Tcg;
        let mut line = CommandLine {
            arguments,
            restart: vmm.restart(),
            tsc_khz: emulated.then(|| tsc.khz()),
            debug: false,
        }
        .to_string();
        let spec = &self.record.spec;
        let verity = spec.verity.as_ref().map(ToString::to_string);
        for argument in verity.iter().chain(&spec.kernel_arguments) {
            line.push(' ');
            line.push_str(argument);
        }
        Ok(line)
    }

    pub(super) fn start_failed(&self, running: &Running, exit: VmmExit) -> Error {
        let id = self.id().clone();
        if exit == VmmExit::Status(0) {
            // The guest reset or powered off its machine: its console says why.
            let console = running.console(SHOWN_LINES);
            return Error::GuestFailed { id, console };
        }
        let vmm = self.record.vmm.as_ref();
        let meaning = self.vmm.as_ref().and_then(|vmm| vmm.explain(exit));
        let mut said: Vec<String> = meaning.into_iter().collect();
        said.extend(running.complaints(SHOWN_LINES));
        if said.is_empty() {
            said = running.console(SHOWN_LINES);
        }
        Error::VmmFailed {
            vmm: vmm.map_or_else(|| "the VMM".to_owned(), |vmm| format!("`{}`", vmm.name)),
            id,
            exit,
            said,
        }
    }

    pub(super) fn connect_time(&self) -> Duration {
        let given = self.record.spec.connect_time;
        given.unwrap_or(CONNECT_TIME * self.patience)
    }
}
