//! What a world does as it is told, and how it tells what happened.

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::Victim;
use super::crowd::crowd;
use super::litter::Litter;
use super::scenario::Scenario;
use super::trace::Death;
use super::world::World;

/// What a world is to do.
#[derive(Debug, Args)]
pub(crate) struct WorldArguments {
    /// What all worlds have
    base: PathBuf,
    /// This world's directory there
    directory: String,
    /// The name of its control groups
    groups: String,
    scenario: Scenario,
    /// JSON
    task: String,
}

/// One of the things that worlds do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Task {
    /// Tells the points.
    Record,
    /// Dies these deaths, one after the other, until one leaves something.
    Die(Vec<Death>),
    /// Looks at what a host's death has left.
    WakeUp(Death),
    /// So many VMs at once, and commands that get in each other's way.
    Crowd(usize),
    /// Leaves one thing of each kind, and tells whether they were found. Ends when it is told to.
    Litter,
}

/// What a world tells.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told {
    /// A point.
    Point(Recorded),
    /// How a death went.
    Died(Died),
    /// What is left of something else.
    Trouble(Vec<String>),
}

/// A point as it was recorded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Recorded {
    /// Who made which call on what: for people.
    pub(super) text: String,
    /// Which points are the same place in the code.
    pub(super) class: String,
    /// Who can die there.
    pub(super) victims: Vec<Victim>,
}

/// How a death went.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Died {
    /// Which.
    pub(super) death: Death,
    /// Whether it came about.
    pub(super) killed: bool,
    /// The command's status; none if it hangs, or went down with its host.
    pub(super) status: Option<i32>,
    /// What is wrong; nothing, if all is well.
    pub(super) trouble: Vec<String>,
}

impl WorldArguments {
    /// Is a world.
    ///
    /// # Errors
    /// What keeps it from being one.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let task: Task = serde_json::from_str(&self.task)?;
        let mut world = World::new(&self.base, &self.directory, &self.groups)?;
        if self.scenario.wants_kvm() {
            world.pretend_kvm()?;
        }
        match task {
            Task::Record => self.record(&mut world),
            Task::Die(deaths) => {
                world.begin(self.scenario)?;
                for death in deaths {
                    if !self.die(&mut world, death)? {
                        break;
                    }
                }
                Ok(())
            }
            Task::WakeUp(death) => {
                world.after_reboot()?;
                let trouble = self.trouble(&mut world);
                tell(&Told::Died(Died {
                    death,
                    killed: true,
                    status: None,
                    trouble,
                }))
            }
            Task::Crowd(count) => tell(&Told::Trouble(crowd(&mut world, count)?)),
            Task::Litter => {
                world.begin(self.scenario)?;
                let litter = Litter::leave(&world.root())?;
                let trouble = world.left(self.scenario)?;
                tell(&Told::Trouble(litter.missing(&trouble)))?;
                // Others look at themselves meanwhile.
                std::io::stdin().lock().read_line(&mut String::new())?;
                Ok(())
            }
        }
    }

    fn record(&self, world: &mut World) -> anyhow::Result<()> {
        world.begin(self.scenario)?;
        let done = world.interrupt(self.scenario, None)?;
        ensure!(
            done.status == Some(self.scenario.status()),
            "undisturbed it ended with {:?}: {}",
            done.status,
            done.said
        );
        for passed in done.passed {
            tell(&Told::Point(Recorded {
                text: format!("{} {} {}", passed.who, passed.point.name, passed.point.what),
                class: passed.class,
                victims: passed.victims.into_iter().collect(),
            }))?;
        }
        Ok(())
    }

    /// Whether the world is as it was.
    fn die(&self, world: &mut World, death: Death) -> anyhow::Result<bool> {
        let mut died = Died {
            death,
            killed: false,
            status: None,
            trouble: Vec::new(),
        };
        for attempt in attempts(&died.death) {
            let done = world.interrupt(self.scenario, Some(attempt))?;
            died.killed = done.killed;
            died.status = done.status;
            if died.killed && died.death.victim == Victim::Host {
                break;
            }
            died.trouble = match done.status {
                None => vec!["the command hangs".to_owned()],
                Some(_) => self.trouble(world),
            };
            if died.killed || !died.trouble.is_empty() {
                break;
            }
        }
        let is_whole = died.trouble.is_empty();
        tell(&Told::Died(died)).map(|()| is_whole)
    }

    fn trouble(&self, world: &mut World) -> Vec<String> {
        match world.trouble(self.scenario) {
            Ok(trouble) => trouble,
            Err(error) => vec![format!("{error:#}")],
        }
    }
}

/// How a death is tried until it comes about, because threads do not always do the same: as it was recorded,
/// at the first point of its class, at the point of its number.
fn attempts(death: &Death) -> [Death; 4] {
    let first = Death {
        nth: 0,
        ..death.clone()
    };
    let number = Death {
        class: String::new(),
        ..death.clone()
    };
    [death.clone(), death.clone(), first, number]
}

fn tell(told: &Told) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(told)?)?;
    Ok(out.flush()?)
}
