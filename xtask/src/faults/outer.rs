//! Chooses deaths, has worlds die them, and tells what was found.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::ensure;
use clap::{Args, ValueEnum as _};

use super::inner::{Died, Recorded};
use super::scenario::Scenario;
use super::trace::Death;
use super::worlds::Worlds;
use super::{Victim, choice, prepare};
use crate::shell;

/// Kills commands at each point, and looks at what is left.
#[derive(Debug, Args)]
pub(crate) struct Faults {
    /// Each death; else the first and the last of those at the same place in the code
    #[arg(long)]
    all: bool,
    /// Only so many deaths, evenly spread
    #[arg(long)]
    sample: Option<usize>,
    /// Only the death at this point
    #[arg(long)]
    point: Option<usize>,
    /// Only these deaths
    #[arg(long)]
    victim: Option<Victim>,
    /// How many worlds at once
    #[arg(long, default_value_t = 4)]
    jobs: usize,
    /// Tell of each death
    #[arg(long, short)]
    verbose: bool,
    /// How many VMs are started, listed and stopped at once when all else is done; 0 for none
    #[arg(long, default_value_t = 50)]
    crowd: usize,
    /// Whether what is left in one world is found there, and is not blamed on another
    #[arg(long, conflicts_with_all = ["sample", "point", "victim", "all"])]
    check: bool,
    /// Only these
    scenarios: Vec<Scenario>,
}

/// How much of what a death left is shown.
const SHOWN: usize = 12;

/// After how many deaths it is told how far it is.
const PROGRESS: usize = 200;

/// How many deaths a world dies at most: it takes a moment to make one.
const BATCH: usize = 40;

/// A command that is interrupted.
struct Interrupted {
    scenario: Scenario,
    points: Vec<Recorded>,
    deaths: Vec<Death>,
}

/// What has happened to deaths.
#[derive(Debug, Default)]
struct Tally {
    died: usize,
    missed: usize,
    failed: usize,
}

impl Faults {
    /// Does it all.
    ///
    /// # Errors
    /// Something was left, or a world could not be made.
    pub(crate) fn run(&self, root: &Path) -> anyhow::Result<()> {
        let scenarios = self.chosen();
        let wants_kvm = scenarios.iter().any(|scenario| scenario.wants_kvm());
        let directory: PathBuf = prepare::prepare(root, wants_kvm)?;
        let worlds = Worlds::of(directory.clone())?;
        let done = match self.check {
            true => self.check(&worlds),
            false => self.everything(&worlds, &scenarios),
        };
        fs_err::remove_dir_all(&directory)?;
        done
    }

    /// The commands to interrupt. Firecracker's stand-in is built for the whole run only, or when it is
    /// asked for.
    fn chosen(&self) -> Vec<Scenario> {
        if !self.scenarios.is_empty() || self.check {
            return self.scenarios.clone();
        }
        let has_kvm = Path::new("/dev/kvm").exists();
        let all = Scenario::value_variants().iter().copied();
        let chosen = all.filter(|it| !it.wants_kvm() || has_kvm && self.sample.is_none());
        chosen.collect()
    }

    fn everything(&self, worlds: &Worlds, scenarios: &[Scenario]) -> anyhow::Result<()> {
        let begin = Instant::now();
        let mut all = self.recorded(worlds, scenarios)?;
        self.choose(&mut all);
        let tally = self.die(worlds, &all)?;
        let seconds = begin.elapsed().as_secs_f64();
        shell::say(&format!(
            "{} deaths in {seconds:.0} s, {} of them left something; {} more did not come about",
            tally.died, tally.failed, tally.missed
        ));
        ensure!(tally.failed == 0, "{} deaths left something", tally.failed);
        self.crowd(worlds)
    }

    fn recorded(
        &self,
        worlds: &Worlds,
        scenarios: &[Scenario],
    ) -> anyhow::Result<Vec<Interrupted>> {
        let recorded = in_lanes(self.jobs, scenarios, |scenario| {
            let points = worlds.record(*scenario)?;
            Ok(Interrupted {
                scenario: *scenario,
                deaths: choice::all(&points),
                points,
            })
        });
        let mut recorded = recorded?;
        recorded.sort_by_key(|it| scenarios.iter().position(|one| *one == it.scenario));
        Ok(recorded)
    }

    /// Leaves only those deaths that are wanted.
    fn choose(&self, all: &mut [Interrupted]) {
        for one in &mut *all {
            let whole = one.deaths.len();
            if !self.all && self.point.is_none() {
                one.deaths = choice::representatives(std::mem::take(&mut one.deaths));
            }
            one.deaths.retain(|death| {
                self.point.is_none_or(|only| only == death.at)
                    && self.victim.is_none_or(|only| only == death.victim)
            });
            let classes: std::collections::BTreeSet<&str> =
                one.points.iter().map(|it| it.class.as_str()).collect();
            shell::say(&format!(
                "{:?}: {} points at {} places, {} of {whole} deaths",
                one.scenario,
                one.points.len(),
                classes.len(),
                one.deaths.len()
            ));
            if self.verbose {
                for (number, point) in one.points.iter().enumerate() {
                    shell::say(&format!("  {number} {}", point.text));
                }
            }
        }
        let Some(count) = self.sample else { return };
        let places: Vec<(usize, usize)> = all
            .iter()
            .enumerate()
            .flat_map(|(index, one)| (0..one.deaths.len()).map(move |death| (index, death)))
            .collect();
        let kept = choice::sample(&places, count);
        for (index, one) in all.iter_mut().enumerate() {
            let mut number = 0..;
            one.deaths
                .retain(|_| number.next().is_some_and(|it| kept.contains(&(index, it))));
        }
    }

    /// Has all deaths died. How it went.
    fn die(&self, worlds: &Worlds, all: &[Interrupted]) -> anyhow::Result<Tally> {
        let batches: Vec<(&Interrupted, &[Death])> = all
            .iter()
            .flat_map(|one| one.deaths.chunks(BATCH).map(move |deaths| (one, deaths)))
            .collect();
        let begin = Instant::now();
        let tally = Mutex::new(Tally::default());
        in_lanes(self.jobs, &batches, |(one, deaths)| {
            worlds.die(one.scenario, deaths, &mut |died| {
                if !died.trouble.is_empty() || self.verbose {
                    shell::say(&told(one, &died));
                }
                if let Ok(mut tally) = tally.lock() {
                    tally.tell(begin);
                    tally.died += usize::from(died.killed);
                    tally.missed += usize::from(!died.killed);
                    tally.failed += usize::from(!died.trouble.is_empty());
                }
            })
        })?;
        Ok(tally.into_inner().unwrap_or_default())
    }

    fn crowd(&self, worlds: &Worlds) -> anyhow::Result<()> {
        if self.crowd == 0 {
            return Ok(());
        }
        let begin = Instant::now();
        let trouble = worlds.crowd(self.crowd)?;
        ensure!(trouble.is_empty(), "a crowd left {trouble:#?}");
        shell::say(&format!(
            "{} VMs at once, and 100 commands in each other's way: {:.0} s, nothing left",
            self.crowd,
            begin.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    /// Whether a thing of each kind is found where it is left, and nowhere else.
    fn check(&self, worlds: &Worlds) -> anyhow::Result<()> {
        let scenario = Scenario::NetworkCreate;
        let missing = worlds.litter(|| {
            let deaths = choice::all(&worlds.record(scenario)?);
            let one = Interrupted {
                scenario,
                points: Vec::new(),
                deaths: choice::sample(&deaths, 3),
            };
            let tally = self.die(worlds, &[one])?;
            ensure!(tally.failed == 0, "what is another world's was blamed");
            ensure!(tally.died == 3, "nobody died beside it: {tally:?}");
            Ok(())
        })?;
        ensure!(missing.is_empty(), "nobody found {missing:#?}");
        shell::say("what is left is found, where it is left");
        Ok(())
    }
}

impl Tally {
    /// Tells from time to time how far it is.
    fn tell(&self, begin: Instant) {
        let done = self.died + self.missed;
        if done > 0 && done.is_multiple_of(PROGRESS) {
            let seconds = begin.elapsed().as_secs();
            shell::say(&format!("{done} deaths so far, in {seconds} s"));
        }
    }
}

/// A death and what it left, for people.
fn told(one: &Interrupted, died: &Died) -> String {
    let victim = died.death.victim.to_possible_value();
    let mut text = format!(
        "{:?} {}:{} at `{}`, status {}: {}",
        one.scenario,
        died.death.at,
        victim.as_ref().map_or("", |it| it.get_name()),
        one.points
            .get(died.death.at)
            .map_or(&died.death.class, |point| &point.text),
        died.status
            .map_or("none".to_owned(), |status| status.to_string()),
        match (died.killed, died.trouble.is_empty()) {
            (true, true) => "nothing left",
            (false, true) => "did not come about",
            (_, false) => "TROUBLE",
        }
    );
    for line in died.trouble.iter().take(SHOWN) {
        text.push_str("\n  ");
        text.push_str(line);
    }
    if died.trouble.len() > SHOWN {
        text.push_str(&format!("\n  and {} more", died.trouble.len() - SHOWN));
    }
    text
}

/// Does `work` for each, so many at once. The results, in the order in which they come, or the first
/// error.
fn in_lanes<T: Sync, R: Send>(
    lanes: usize,
    all: &[T],
    work: impl Fn(&T) -> anyhow::Result<R> + Sync,
) -> anyhow::Result<Vec<R>> {
    let waiting: Mutex<VecDeque<&T>> = Mutex::new(all.iter().collect());
    let next = || waiting.lock().ok().and_then(|mut all| all.pop_front());
    let lane = || -> anyhow::Result<Vec<R>> {
        let mut done = Vec::new();
        while let Some(one) = next() {
            match work(one) {
                Ok(result) => done.push(result),
                Err(error) => {
                    // The other lanes end with what they are at.
                    if let Ok(mut waiting) = waiting.lock() {
                        waiting.clear();
                    }
                    return Err(error);
                }
            }
        }
        Ok(done)
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes.max(1)).map(|_| scope.spawn(lane)).collect();
        let mut all = Vec::new();
        for lane in lanes {
            match lane.join() {
                Ok(done) => all.extend(done?),
                Err(_) => anyhow::bail!("a thread panicked"),
            }
        }
        Ok(all)
    })
}
