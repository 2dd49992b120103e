//! Prepares a store and programs, starts worlds, and tells what was found.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum as _};
use serde_json::{Value, json};

use super::Victim;
use super::crowd::crowd;
use super::scenario::Scenario;
use super::trace::Death;
use super::world::{IMAGE, World};
use crate::shell;

/// Kills commands at each point, and looks at what is left.
#[derive(Debug, Args)]
pub(crate) struct Faults {
    /// Only so many deaths, evenly spread
    #[arg(long)]
    sample: Option<usize>,
    /// Only the death at this point
    #[arg(long)]
    point: Option<usize>,
    /// Only these deaths
    #[arg(long)]
    victim: Option<Victim>,
    /// Tell of each death
    #[arg(long, short)]
    verbose: bool,
    /// How many VMs are started, listed and stopped at once when all else is done; 0 for none
    #[arg(long, default_value_t = 50)]
    crowd: usize,
    /// Only these
    scenarios: Vec<Scenario>,
}

/// What a world is to do.
#[derive(Debug, Args)]
pub(crate) struct WorldArguments {
    directory: PathBuf,
    scenario: Scenario,
    /// `NUMBER:VICTIM`; without any, points are recorded
    deaths: Vec<String>,
    /// The host has started again
    #[arg(long)]
    rebooted: bool,
    /// So many VMs at once, and commands that get in each other's way
    #[arg(long)]
    crowd: Option<usize>,
}

/// How much of what a death left is shown.
const SHOWN: usize = 12;

/// A death, and in which scenario.
type Case = (Scenario, usize, Victim);

impl Faults {
    /// Does it all.
    ///
    /// # Errors
    /// Something was left, or a world could not be made.
    pub(crate) fn run(&self, root: &Path) -> anyhow::Result<()> {
        let directory = prepare(root)?;
        let done = self.all(&directory);
        fs_err::remove_dir_all(&directory)?;
        done
    }

    fn all(&self, directory: &Path) -> anyhow::Result<()> {
        let begin = Instant::now();
        let all = if self.scenarios.is_empty() {
            Scenario::value_variants()
        } else {
            &self.scenarios
        };
        let mut cases: Vec<Case> = Vec::new();
        for scenario in all {
            let points = self.record(directory, *scenario)?;
            shell::say(&format!("{scenario:?}: {} points", points.len()));
            for (number, point) in points.iter().enumerate() {
                if self.verbose {
                    shell::say(&format!("  {number} {point}"));
                }
                cases.extend(victims(point).map(|victim| (*scenario, number, victim)));
            }
        }
        cases.retain(|(_, number, victim)| {
            self.point.is_none_or(|only| only == *number)
                && self.victim.is_none_or(|only| only == *victim)
        });
        let whole = cases.len();
        if let Some(sample) = self.sample.filter(|sample| *sample < whole) {
            cases = (0..sample)
                .map(|index| cases[index * whole / sample])
                .collect();
        }
        shell::say(&format!("{} of {whole} deaths", cases.len()));
        let mut failed = 0;
        for scenario in all {
            failed += self.die(directory, *scenario, &cases)?;
        }
        shell::say(&format!(
            "{} deaths in {:.0} s, {failed} of them left something",
            cases.len(),
            begin.elapsed().as_secs_f64()
        ));
        ensure!(failed == 0, "{failed} deaths left something");
        self.crowd(directory)
    }

    fn crowd(&self, directory: &Path) -> anyhow::Result<()> {
        if self.crowd == 0 {
            return Ok(());
        }
        let begin = Instant::now();
        let count = self.crowd.to_string();
        let mut trouble = Value::Null;
        let words = ["--crowd", &count].map(str::to_owned);
        world(
            &fresh(directory)?,
            Scenario::Detach,
            &words,
            false,
            |line| {
                trouble = line;
            },
        )?;
        ensure!(trouble["Trouble"] == json!([]), "a crowd left {trouble:#}");
        shell::say(&format!(
            "{count} VMs at once, and 100 commands in each other's way: {:.0} s, nothing left",
            begin.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    fn record(&self, directory: &Path, scenario: Scenario) -> anyhow::Result<Vec<Value>> {
        let mut points = Vec::new();
        world(&fresh(directory)?, scenario, &[], false, |line| {
            points.push(line);
        })?;
        Ok(points)
    }

    /// Lets a scenario be interrupted by all its deaths. How many left something.
    fn die(&self, directory: &Path, scenario: Scenario, cases: &[Case]) -> anyhow::Result<usize> {
        let own = cases.iter().filter(|(of, _, _)| *of == scenario);
        let (reboots, deaths): (Vec<_>, Vec<_>) =
            own.partition(|(_, _, victim)| *victim == Victim::Host);
        let mut failed = 0;
        let mut hear = |line: Value| {
            let trouble = line["Trouble"]
                .as_array()
                .is_some_and(|all| !all.is_empty());
            failed += usize::from(trouble);
            if trouble || self.verbose {
                shell::say(&told(scenario, &line));
            }
        };
        let words = |(_, number, victim): &&Case| format!("{number}:{}", word(*victim));
        let deaths: Vec<String> = deaths.iter().map(words).collect();
        let mut done = 0;
        // A world ends where something was left.
        while done < deaths.len() {
            let before = done;
            world(
                &fresh(directory)?,
                scenario,
                &deaths[done..],
                false,
                |line| {
                    done += 1;
                    hear(line);
                },
            )?;
            ensure!(done > before, "a world of {scenario:?} says nothing");
        }
        if !reboots.is_empty() {
            let store = fresh(directory)?;
            for reboot in &reboots {
                world(&store, scenario, &[words(reboot)], false, |_| {})?;
                world(&store, scenario, &[words(reboot)], true, &mut hear)?;
            }
        }
        Ok(failed)
    }
}

/// A death and what it left, for people.
fn told(scenario: Scenario, line: &Value) -> String {
    let point = line["Point"].as_str().unwrap_or("the host is back");
    let trouble = line["Trouble"].as_array().map_or(&[][..], Vec::as_slice);
    let mut text = format!(
        "{scenario:?} {}:{} at `{point}`, status {}: {}",
        line["At"],
        line["Victim"].as_str().unwrap_or_default(),
        line["Status"],
        if trouble.is_empty() {
            "nothing left"
        } else {
            "TROUBLE"
        }
    );
    for line in trouble.iter().take(SHOWN) {
        text.push_str("\n  ");
        text.push_str(line.as_str().unwrap_or_default());
    }
    if trouble.len() > SHOWN {
        text.push_str(&format!("\n  and {} more", trouble.len() - SHOWN));
    }
    text
}

fn word(victim: Victim) -> String {
    victim
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

/// Who can die at a recorded point.
fn victims(point: &Value) -> impl Iterator<Item = Victim> {
    let named = point["Victims"].as_array().cloned().unwrap_or_default();
    let named = named
        .into_iter()
        .filter_map(|name| Victim::from_str(name.as_str()?, false).ok());
    named.chain([Victim::Host])
}

/// Builds what is run, and a store to copy.
fn prepare(root: &Path) -> anyhow::Result<PathBuf> {
    shell::cargo(&["build", "--quiet", "--package", "firebuild"])?;
    let guest = [
        "--package",
        "firebuild-builder",
        "--example",
        "process_guest",
    ];
    shell::cargo(&[&["build", "--quiet"], &guest[..]].concat())?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    // Where those who have given up their rights can get at it.
    let directory = std::env::temp_dir().join(format!("firebuild-faults-{}", std::process::id()));
    let programs = directory.join("bin");
    fs_err::create_dir_all(&programs)?;
    fs_err::copy(target.join("debug/firebuild"), programs.join("firebuild"))?;
    let guest = target.join("debug/examples/process_guest");
    fs_err::copy(guest, programs.join("process_guest"))?;
    let vmm = programs.join(format!("qemu-system-{}", std::env::consts::ARCH));
    fs_err::write(&vmm, vmm_script(&programs))?;
    shell::quiet(Command::new("chmod").arg("755").arg(&vmm))?;
    let template = directory.join("template");
    fs_err::create_dir_all(template.join("context"))?;
    fs_err::write(template.join("context/file"), "some content")?;
    fs_err::write(
        template.join("context/Dockerfile"),
        format!(
            "FROM {IMAGE}\nCOPY file /copied\nRUN touch first\nRUN touch second\nCOPY file /last\n"
        ),
    )?;
    fs_err::write(template.join("kernel"), kernel())?;
    fs_err::write(
        template.join("Smallfile"),
        "FROM scratch\nCOPY file /file\n",
    )?;
    std::os::unix::fs::symlink(&programs, template.join("bin"))?;
    let firebuild = |words: &[&str]| {
        let mut command = Command::new(programs.join("firebuild"));
        command
            .arg("--root")
            .arg(template.join("store"))
            .args(words);
        shell::quiet(command.current_dir(&template))
    };
    firebuild(&["kernel", "import", "--id", "stand-in", "kernel"])?;
    firebuild(&["build", "-t", IMAGE, "-f", "Smallfile", "context"])?;
    Ok(directory)
}

/// A program with the name of a VMM, that starts a process in place of a VM.
fn vmm_script(programs: &Path) -> String {
    format!(
        "#!/bin/sh\nwhile [ $# -gt 0 ]; do\n  case $1 in -append) export FIREBUILD_COMMAND_LINE=\"$2\";; esac\n  shift\ndone\necho guest\nexec {}/process_guest\n",
        programs.display()
    )
}

/// The least that is taken for a kernel: an ELF file for x86-64 with something to load, the note by
/// which it is entered, and a release.
fn kernel() -> Vec<u8> {
    const HEADERS: u8 = 0x40;
    const HEADER: u8 = 0x38;
    let notes = [&[4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0][..], b"Xen\0abcd"].concat();
    let mut file = vec![0; usize::from(HEADERS + 2 * HEADER)];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[0x12] = 62;
    file[0x20] = HEADERS;
    file[0x36] = HEADER;
    file[0x38] = 2;
    for (index, kind) in [1, 4].into_iter().enumerate() {
        let header = usize::from(HEADERS) + index * usize::from(HEADER);
        file[header] = kind;
        file[header + 8] = HEADERS + 2 * HEADER;
        file[header + 32] = 20;
    }
    file.extend(notes);
    file.extend(b"Linux version 6.1.0-stand-in (none) #1 SMP\n\0");
    file
}

/// A copy of the store that nobody has touched yet.
fn fresh(directory: &Path) -> anyhow::Result<PathBuf> {
    let copy = directory.join("world");
    if copy.exists() {
        fs_err::remove_dir_all(&copy)?;
    }
    let template = directory.join("template");
    shell::quiet(Command::new("cp").arg("-a").args([&template, &copy]))?;
    Ok(copy)
}

/// Starts a world and hears what it says.
fn world(
    directory: &Path,
    scenario: Scenario,
    deaths: &[String],
    rebooted: bool,
    mut hear: impl FnMut(Value),
) -> anyhow::Result<()> {
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child=KILL",
            "--mount-proc",
        ])
        .arg(std::env::current_exe()?)
        .arg("faults-world")
        .args(rebooted.then_some("--rebooted"))
        .arg(directory)
        .arg(
            scenario
                .to_possible_value()
                .context("a scenario has a name")?
                .get_name(),
        )
        .args(deaths)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FIREBUILD_") {
            command.env_remove(name);
        }
    }
    let mut child = command.spawn().context("cannot start `unshare`")?;
    let output = child.stdout.take().context("a world without a voice")?;
    for line in BufReader::new(output).lines() {
        hear(serde_json::from_str(&line?)?);
    }
    let status = child.wait()?;
    ensure!(
        status.success(),
        "a world of {scenario:?} ended with {status}"
    );
    Ok(())
}

impl WorldArguments {
    /// Is a world.
    ///
    /// # Errors
    /// What keeps it from being one.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut world = World::new(&self.directory)?;
        if let Some(count) = self.crowd {
            let trouble = crowd(&mut world, count)?;
            return tell(&json!({ "Trouble": trouble }));
        }
        if self.rebooted {
            world.after_reboot()?;
        } else {
            world.begin(self.scenario)?;
        }
        if self.deaths.is_empty() {
            let done = world.interrupt(self.scenario, None)?;
            ensure!(
                done.status == Some(self.scenario.status()),
                "undisturbed it ended with {:?}: {}",
                done.status,
                done.said
            );
            for passed in &done.passed {
                let victims: Vec<String> = passed.victims.iter().copied().map(word).collect();
                tell(&json!({
                    "Who": passed.who,
                    "Call": passed.point.name,
                    "What": passed.point.what,
                    "Victims": victims,
                }))?;
            }
            return Ok(());
        }
        for death in &self.deaths {
            let (number, victim) = death.split_once(':').context("a death is NUMBER:VICTIM")?;
            let Ok(victim) = Victim::from_str(victim, false) else {
                bail!("there is no victim `{victim}`");
            };
            let at = number.parse()?;
            if !self.die(&mut world, Death { at, victim })? {
                break;
            }
        }
        Ok(())
    }

    /// Whether the world is as it was.
    fn die(&self, world: &mut World, death: Death) -> anyhow::Result<bool> {
        let mut told = json!({ "At": death.at, "Victim": word(death.victim) });
        if !self.rebooted {
            let done = world.interrupt(self.scenario, Some(death))?;
            if let Some(last) = done.passed.get(death.at) {
                told["Point"] = json!(format!(
                    "{} {} {}",
                    last.who, last.point.name, last.point.what
                ));
            }
            told["Killed"] = json!(done.killed);
            told["Status"] = json!(done.status);
            if death.victim == Victim::Host {
                return tell(&told).map(|()| true);
            }
            if done.status.is_none() {
                told["Trouble"] = json!(["the command hangs"]);
                return tell(&told).map(|()| false);
            }
        }
        told["Trouble"] = match world.trouble(self.scenario) {
            Ok(trouble) => json!(trouble),
            Err(error) => json!([format!("{error:#}")]),
        };
        let is_whole = told["Trouble"] == json!([]);
        tell(&told).map(|()| is_whole)
    }
}

fn tell(line: &Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
