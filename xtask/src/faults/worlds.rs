//! Starts worlds, and hears what they tell.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};
use clap::ValueEnum as _;

use super::Victim;
use super::inner::{Died, Recorded, Task, Told};
use super::place::Groups;
use super::prepare;
use super::scenario::Scenario;
use super::trace::Death;

/// Where worlds come from.
#[derive(Debug)]
pub(super) struct Worlds {
    /// Where programs, the template of a store, and worlds are.
    directory: PathBuf,
    started: AtomicUsize,
}

/// A world that does its task.
struct Started {
    process: Child,
    /// Goes after its processes.
    _groups: Groups,
}

impl Worlds {
    /// Worlds that have in common what is in `directory`.
    pub(super) fn of(directory: PathBuf) -> anyhow::Result<Self> {
        Groups::remove_orphans()?;
        Ok(Self {
            directory,
            started: AtomicUsize::new(0),
        })
    }

    /// A number that no other world has.
    fn number(&self) -> usize {
        self.started.fetch_add(1, Ordering::Relaxed)
    }

    /// The points of a scenario.
    pub(super) fn record(&self, scenario: Scenario) -> anyhow::Result<Vec<Recorded>> {
        let mut points = Vec::new();
        self.once(scenario, &Task::Record, |told| {
            if let Told::Point(point) = told {
                points.push(point);
            }
        })?;
        Ok(points)
    }

    /// Many commands at once: what they left.
    pub(super) fn crowd(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let mut found = vec!["nothing was told".to_owned()];
        self.once(Scenario::Detach, &Task::Crowd(count), |told| {
            if let Told::Trouble(trouble) = told {
                found = trouble;
            }
        })?;
        Ok(found)
    }

    /// What of one thing of each kind that is left in a world is not found, while another world beside it
    /// has to find nothing.
    pub(super) fn litter(
        &self,
        beside: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<String>> {
        let directory = self.fresh()?;
        let mut world = self.start(&directory, Scenario::NetworkCreate, &Task::Litter)?;
        let mut words = Words::of(&mut world)?;
        let told = words.next().context("a world says nothing")??;
        let done = beside();
        drop(words.stdin);
        self.end(world, &directory)?;
        done?;
        match told {
            Told::Trouble(missing) => Ok(missing),
            other => anyhow::bail!("a world says {other:?}"),
        }
    }

    /// Dies deaths of one scenario, each in a world that is as it should be.
    pub(super) fn die(
        &self,
        scenario: Scenario,
        deaths: &[Death],
        hear: &mut dyn FnMut(Died),
    ) -> anyhow::Result<()> {
        let (reboots, deaths): (Vec<Death>, Vec<Death>) = deaths
            .iter()
            .cloned()
            .partition(|death| death.victim == Victim::Host);
        let mut rest = deaths;
        // A world ends where something was left.
        while !rest.is_empty() {
            let mut done = 0;
            let result = self.once(scenario, &Task::Die(rest.clone()), |told| {
                if let Told::Died(died) = told {
                    done += 1;
                    hear(died);
                }
            });
            if let Err(error) = result {
                // Of the death that it could not tell of any more.
                if let Some(death) = rest.get(done) {
                    hear(unheard(death, &error));
                    done += 1;
                }
            }
            ensure!(done > 0, "a world of {scenario:?} says nothing");
            rest.drain(..done);
        }
        if reboots.is_empty() {
            return Ok(());
        }
        let directory = self.fresh()?;
        for death in reboots {
            match self.reboot(&directory, scenario, &death) {
                Ok(died) => hear(died),
                Err(error) => hear(unheard(&death, &error)),
            }
        }
        self.remove(&directory)
    }

    /// Switches a host off, and on again.
    fn reboot(&self, directory: &str, scenario: Scenario, death: &Death) -> anyhow::Result<Died> {
        let mut last = None;
        for task in [Task::Die(vec![death.clone()]), Task::WakeUp(death.clone())] {
            self.world(directory, scenario, &task, |told| {
                if let Told::Died(died) = told {
                    last = Some(died);
                }
            })?;
            if last.as_ref().is_some_and(|died| !died.killed) {
                break;
            }
        }
        last.context("a world says nothing of its host's death")
    }

    /// A world on a store of its own.
    fn once(&self, scenario: Scenario, task: &Task, hear: impl FnMut(Told)) -> anyhow::Result<()> {
        let directory = self.fresh()?;
        let done = self.world(&directory, scenario, task, hear);
        self.remove(&directory)?;
        done
    }

    fn fresh(&self) -> anyhow::Result<String> {
        let name = format!("world-{}", self.number());
        prepare::fresh(&self.directory, &name)?;
        Ok(name)
    }

    fn remove(&self, name: &str) -> anyhow::Result<()> {
        Ok(fs_err::remove_dir_all(self.directory.join(name))?)
    }

    fn world(
        &self,
        directory: &str,
        scenario: Scenario,
        task: &Task,
        mut hear: impl FnMut(Told),
    ) -> anyhow::Result<()> {
        let mut world = self.start(directory, scenario, task)?;
        for told in Words::of(&mut world)? {
            hear(told?);
        }
        let status = world.process.wait()?;
        ensure!(
            status.success(),
            "a world of {scenario:?} ended with {status}"
        );
        Ok(())
    }

    fn end(&self, mut world: Started, directory: &str) -> anyhow::Result<()> {
        world.process.wait()?;
        self.remove(directory)
    }

    fn start(&self, directory: &str, scenario: Scenario, task: &Task) -> anyhow::Result<Started> {
        let groups = Groups::make(self.number())?;
        let scenario = scenario
            .to_possible_value()
            .context("a scenario has a name")?;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--net", "--pid", "--ipc", "--fork"])
            .args(["--kill-child=KILL", "--mount-proc"])
            .arg(std::env::current_exe()?)
            .arg("faults-world")
            .arg(&self.directory)
            .args([directory, &groups.name, scenario.get_name()])
            .arg(serde_json::to_string(task)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FIREBUILD_") {
                command.env_remove(name);
            }
        }
        Ok(Started {
            process: command.spawn().context("cannot start `unshare`")?,
            _groups: groups,
        })
    }
}

/// What a world says. It lives for as long as somebody listens.
struct Words {
    stdin: Option<ChildStdin>,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Words {
    fn of(world: &mut Started) -> anyhow::Result<Self> {
        let output = world.process.stdout.take();
        Ok(Self {
            stdin: world.process.stdin.take(),
            lines: BufReader::new(output.context("a world without a voice")?).lines(),
        })
    }
}

impl Iterator for Words {
    type Item = anyhow::Result<Told>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.lines.next()?;
        Some(
            line.map_err(Into::into)
                .and_then(|line| Ok(serde_json::from_str(&line)?)),
        )
    }
}

fn unheard(death: &Death, error: &anyhow::Error) -> Died {
    Died {
        death: death.clone(),
        killed: true,
        status: None,
        trouble: vec![format!("{error:#}")],
    }
}
