//! What the kernel and the agent are told when they start.

use std::fmt;

use firebuild_protocol::boot::{BootArguments, DEBUG};

/// How the kernel restarts the machine, which is how a VM ends: both VMMs exit when the guest
/// resets, and neither needs the guest to have a power button.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// A triple fault: QEMU's microvm, which has no keyboard controller, with `-no-reboot`.
    TripleFault,
    /// A reset by the keyboard controller: what Firecracker listens for.
    Keyboard,
}

/// A kernel command line. [`fmt::Display`] writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandLine {
    /// What the guest needs to reach its metadata.
    pub arguments: BootArguments,
    /// How the VM ends.
    pub restart: Restart,
    /// The rate of the time stamp counter, for a guest that is emulated and could not find it out
    /// ([`TscMeasurement`](super::TscMeasurement)); none where the hypervisor tells it.
    pub tsc_khz: Option<u32>,
    /// Whether kernel and agent tell on the console what they do. It makes the boot slower.
    pub debug: bool,
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // panic=-1: restart at once, so that a guest that died does not linger. The rest makes the
        // boot a fifth quicker under emulation: no tests of the kernel's own cryptography, no
        // waiting for grace periods.
        write!(
            f,
            "console=ttyS0 panic=-1 cryptomgr.notests rcupdate.rcu_expedited=1"
        )?;
        f.write_str(match self.restart {
            Restart::TripleFault => " reboot=t",
            Restart::Keyboard => " reboot=k",
        })?;
        if let Some(khz) = self.tsc_khz {
            // Reliable: an emulated guest misses ticks of its other clock when it is slow, and
            // would then take this one for the wrong one.
            write!(f, " tsc_early_khz={khz} tsc=reliable")?;
        }
        if self.debug {
            write!(f, " {DEBUG}")?;
        } else {
            // A panic raises the level itself; nothing else is worth the serial line's time.
            f.write_str(" loglevel=0")?;
        }
        write!(f, " {}", self.arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_short_and_tells_the_address() {
        let arguments = BootArguments {
            address: [10, 88, 0, 7].into(),
            prefix: 16,
            mac: None,
        };
        let mut line = CommandLine {
            arguments,
            restart: Restart::TripleFault,
            tsc_khz: None,
            debug: false,
        };
        let text = "console=ttyS0 panic=-1 cryptomgr.notests rcupdate.rcu_expedited=1 reboot=t \
                    loglevel=0 firebuild.ip=10.88.0.7/16";
        assert_eq!(line.to_string(), text);
        line.debug = true;
        line.restart = Restart::Keyboard;
        line.tsc_khz = Some(2_700_000);
        let text = "console=ttyS0 panic=-1 cryptomgr.notests rcupdate.rcu_expedited=1 reboot=k \
                    tsc_early_khz=2700000 tsc=reliable firebuild.debug firebuild.ip=10.88.0.7/16";
        assert_eq!(line.to_string(), text);
        assert_eq!(BootArguments::parse(text), Ok(arguments));
    }
}
