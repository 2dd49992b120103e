//! What is interrupted: commands, each with what has to be there before it.

use clap::ValueEnum;

use super::world::World;

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
    /// `build` with steps that run and steps that copy
    Build,
    /// `image rm`
    ImageRm,
    /// `system prune`
    Prune,
}

impl Scenario {
    /// Does what has to be done before, undisturbed.
    pub(super) fn prepare(self, world: &mut World) -> anyhow::Result<()> {
        let running = ["run", "-d", "--name", VM, world.image(), "--", "sleep"];
        let ended = [
            "run",
            "--name",
            "ended",
            world.image(),
            "--",
            "say",
            "hi",
            "0",
        ];
        match self {
            Self::Run | Self::Detach | Self::RunRm | Self::Build => Ok(()),
            Self::Stop | Self::Kill | Self::Remove => world.ok(&running).map(drop),
            Self::Purge => {
                world.ok(&ended)?;
                world.ok(&running)?;
                world.kill_supervisor(VM)
            }
            Self::Reconcile => {
                world.ok(&running)?;
                world.kill_supervisor(VM)
            }
            Self::ImageRm | Self::Prune => world
                .ok(&["build", "--no-cache", "-t", "test/built", "context"])
                .map(drop),
        }
    }

    /// The command that is interrupted.
    pub(super) fn command(self, world: &World) -> Vec<String> {
        let image = world.image();
        let words: &[&str] = match self {
            Self::Run => &[
                "run", "--name", VM, "-p", "18080:80", image, "--", "say", "hello", "0",
            ],
            Self::Detach => &[
                "run", "-d", "--name", VM, "-p", "18080:80", image, "--", "sleep",
            ],
            Self::RunRm => &[
                "run", "--rm", "--name", VM, image, "--", "say", "hello", "0",
            ],
            Self::Stop => &["stop", VM],
            Self::Kill => &["kill", VM],
            Self::Remove => &["rm", "-f", VM],
            Self::Purge => &["purge"],
            Self::Reconcile => &["ls"],
            Self::Build => &["build", "--no-cache", "-t", "test/built", "context"],
            Self::ImageRm => &["image", "rm", "test/built"],
            Self::Prune => &["system", "prune"],
        };
        words.iter().map(|&word| word.to_owned()).collect()
    }

    /// Whether the VM's supervisor, which runs already, has a part in it.
    pub(super) fn follows_supervisor(self) -> bool {
        matches!(self, Self::Stop | Self::Kill | Self::Remove)
    }

    /// Whether it may leave more in the store than there was: what was finished of a build.
    pub(super) fn keeps(self) -> bool {
        matches!(self, Self::Build)
    }

    /// Whether it takes images away.
    pub(super) fn removes(self) -> bool {
        matches!(self, Self::ImageRm | Self::Prune)
    }
}
