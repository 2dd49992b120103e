//! What is interrupted: commands, each with what has to be there before it.

use clap::ValueEnum;

use super::world::{IMAGE, World};

/// The name of the VM that commands are about.
pub(super) const VM: &str = "faulty";

/// A command that is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// `run` in the foreground, to the workload's end
    Run,
    /// `run -d`, until the workload has started
    Detach,
    /// `run --rm`
    RunRm,
    /// `stop` of a running VM
    Stop,
    /// `kill` of a running VM
    Kill,
    /// `rm -f` of a running VM
    Remove,
    /// `purge` after a supervisor has died and a VM has ended
    Purge,
    /// `ls`, which cleans up after a supervisor that has died
    Reconcile,
    /// `exec` in a running VM
    Exec,
    /// `start` of a VM that has ended
    Start,
    /// `restart` of a running VM
    Restart,
    /// `run` in two networks that people defined
    Networks,
    /// `run` in a network by CNI, of Debian's plugins
    Cni,
    /// `rm -f` of a running VM in a network by CNI
    CniRemove,
    /// `run` on Firecracker's stand-in, under its jailer
    Firecracker,
    /// `rm -f` of a running VM on Firecracker's stand-in
    FirecrackerRemove,
    /// `pause` of a running VM
    Pause,
    /// `unpause` of a paused VM
    Unpause,
    /// `run` of a workload that fails, and is started once more by its restart policy
    Policy,
    /// `system boot` with a VM that is to run
    Boot,
    /// `system halt` with a VM that runs
    Halt,
    /// `network create`
    NetworkCreate,
    /// `network rm`
    NetworkRm,
    /// `run` with a volume that is made for it
    Volume,
    /// `volume create`
    VolumeCreate,
    /// `volume rm`
    VolumeRm,
    /// `build` with steps that run and steps that copy
    Build,
    /// `image rm`
    ImageRm,
    /// `system prune`
    Prune,
}

const RUNNING: [&str; 7] = ["run", "-d", "--name", VM, IMAGE, "--", "sleep"];
const ALWAYS: [&str; 9] = [
    "run",
    "-d",
    "--restart",
    "always",
    "--name",
    VM,
    IMAGE,
    "--",
    "sleep",
];
const CNI: [&str; 9] = [
    "run",
    "-d",
    "--cni-network-name",
    "machines",
    "--name",
    VM,
    IMAGE,
    "--",
    "sleep",
];
const FIRECRACKER: [&str; 11] = [
    "run",
    "-d",
    "--vmm",
    "firecracker",
    "--binary-firecracker",
    "/mnt/bin/stand-in/firecracker",
    "--name",
    VM,
    IMAGE,
    "--",
    "sleep",
];
const BUILD: [&str; 5] = ["build", "--no-cache", "-t", "test/built", "context"];

impl Scenario {
    /// Does what has to be done before, undisturbed.
    pub(super) fn prepare(self, world: &mut World) -> anyhow::Result<()> {
        let ended = ["run", "--name", "ended", IMAGE, "--", "say", "hi", "0"];
        let before: &[&[&str]] = match self {
            Self::Stop | Self::Kill | Self::Remove | Self::Exec | Self::Restart => &[&RUNNING],
            Self::Reconcile | Self::Pause => &[&RUNNING],
            Self::Unpause => &[&RUNNING, &["pause", VM]],
            Self::Boot => &[&ALWAYS, &["system", "halt"]],
            Self::Halt => &[&ALWAYS],
            Self::CniRemove => &[&CNI],
            Self::FirecrackerRemove => &[&FIRECRACKER],
            Self::Purge => &[&ended, &RUNNING],
            Self::Start => &[&RUNNING, &["stop", VM]],
            Self::Networks => &[
                &["network", "create", "first"],
                &["network", "create", "second"],
            ],
            Self::NetworkRm => &[&["network", "create", "first"]],
            Self::VolumeRm => &[&["volume", "create", "data"]],
            Self::ImageRm | Self::Prune => &[&BUILD],
            _ => &[],
        };
        for words in before {
            world.ok(words)?;
        }
        if matches!(self, Self::Purge | Self::Reconcile) {
            world.kill_supervisor(VM)?;
        }
        Ok(())
    }

    /// The command that is interrupted.
    pub(super) fn command(self) -> Vec<&'static str> {
        let words: &[&str] = match self {
            Self::Run => &[
                "run", "--name", VM, "-p", "18080:80", IMAGE, "--", "say", "hello", "0",
            ],
            Self::Detach => &[
                "run", "-d", "--name", VM, "-p", "18080:80", IMAGE, "--", "sleep",
            ],
            Self::RunRm => &["run", "--rm", "--name", VM, IMAGE, "--", "say", "hi", "0"],
            Self::Stop => &["stop", VM],
            Self::Kill => &["kill", VM],
            Self::Remove | Self::CniRemove | Self::FirecrackerRemove => &["rm", "-f", VM],
            Self::Cni => &CNI,
            Self::Firecracker => &FIRECRACKER,
            Self::Pause => &["pause", VM],
            Self::Unpause => &["unpause", VM],
            Self::Policy => &[
                "run",
                "--restart",
                "on-failure:1",
                "--name",
                VM,
                IMAGE,
                "--",
                "say",
                "no",
                "1",
            ],
            Self::Boot => &["system", "boot"],
            Self::Halt => &["system", "halt"],
            Self::Purge => &["purge"],
            Self::Reconcile => &["ls"],
            Self::Exec => &["exec", VM, "anything"],
            Self::Start => &["start", VM],
            Self::Restart => &["restart", VM],
            Self::Networks => &[
                "run",
                "-d",
                "--name",
                VM,
                "--network",
                "first",
                "--network",
                "second",
                IMAGE,
                "--",
                "sleep",
            ],
            Self::NetworkCreate => &["network", "create", "first"],
            Self::NetworkRm => &["network", "rm", "first"],
            Self::Volume => &[
                "run",
                "-d",
                "--name",
                VM,
                "-v",
                "data:/data",
                IMAGE,
                "--",
                "sleep",
            ],
            Self::VolumeCreate => &["volume", "create", "data"],
            Self::VolumeRm => &["volume", "rm", "data"],
            Self::Build => &BUILD,
            Self::ImageRm => &["image", "rm", "test/built"],
            Self::Prune => &["system", "prune"],
        };
        words.to_vec()
    }

    /// How it ends if nobody disturbs it.
    pub(super) fn status(self) -> i32 {
        match self {
            // What processes of the simulated guest end with.
            Self::Exec => 3,
            Self::Policy => 1,
            _ => 0,
        }
    }

    /// What takes away what it and its preparation leave on purpose. Whether there is anything to
    /// take away depends on when it was interrupted.
    pub(super) fn tidy(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Networks => &[&["network", "rm", "first"], &["network", "rm", "second"]],
            Self::NetworkCreate | Self::NetworkRm => &[&["network", "rm", "first"]],
            Self::Volume | Self::VolumeCreate | Self::VolumeRm => &[&["volume", "rm", "data"]],
            _ => &[],
        }
    }

    /// Whether the VM's supervisor, which runs already, has a part in it.
    pub(super) fn follows_supervisor(self) -> bool {
        matches!(
            self,
            Self::Stop
                | Self::Kill
                | Self::Remove
                | Self::Exec
                | Self::Restart
                | Self::CniRemove
                | Self::FirecrackerRemove
                | Self::Pause
                | Self::Unpause
                | Self::Halt
        )
    }

    /// Whether its VMM runs only where VMs can.
    pub(super) fn wants_kvm(self) -> bool {
        matches!(self, Self::Firecracker | Self::FirecrackerRemove)
    }

    /// Whether it may leave more in the store than there was: what was finished of a build, or an
    /// image that was not removed yet.
    pub(super) fn keeps(self) -> bool {
        matches!(self, Self::Build | Self::ImageRm | Self::Prune)
    }

    /// Whether it takes images away.
    pub(super) fn removes(self) -> bool {
        matches!(self, Self::ImageRm | Self::Prune)
    }
}
