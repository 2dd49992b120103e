//! Many commands at once against one store: VMs that are all started, listed and stopped together,
//! and a hundred commands that get in each other's way.

use anyhow::ensure;

use super::host;
use super::scenario::{Scenario, VM};
use super::world::{IMAGE, World};

/// How many commands get in each other's way.
const COMMANDS: usize = 100;

/// Over how many VMs.
const NAMES: usize = 10;

/// Does both. What is wrong afterwards; nothing, if all is well.
///
/// # Errors
/// A command that has to succeed does not.
pub(super) fn crowd(world: &mut World, count: usize) -> anyhow::Result<Vec<String>> {
    world.begin(Scenario::Detach)?;
    let name = |number: usize| format!("{VM}-{number}");
    let start =
        |number: usize| words(&["run", "-d", "--name", &name(number), IMAGE, "--", "sleep"]);
    let stop = |number: usize| words(&["stop", &name(number)]);
    together(world, (0..count).map(start), Some(0))?;
    let listed = world.records()?;
    let running = listed
        .iter()
        .filter(|it| it["State"]["Status"] == "Running");
    ensure!(
        running.count() == count,
        "not all of {count} VMs run: {listed:?}"
    );
    together(world, (0..count).map(stop), Some(0))?;
    let mixed = (0..COMMANDS).map(|number| {
        let name = name(number / 7 % NAMES);
        match number % 7 {
            0 => words(&["run", "-d", "--name", &name, IMAGE, "--", "sleep"]),
            1 => words(&["ls", "-a", "--format", "json"]),
            2 => words(&["start", &name]),
            3 => words(&["stop", &name]),
            4 => words(&["exec", &name, "anything"]),
            5 => words(&["purge"]),
            _ => words(&["rm", "-f", &name]),
        }
    });
    together(world, mixed, None)?;
    world.trouble(Scenario::Detach)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Starts all commands, then waits for all. Those that get in each other's way may fail, but none may
/// hang, die, or end with anything but success or a failure of its own.
fn together(
    world: &mut World,
    commands: impl Iterator<Item = Vec<String>>,
    expected: Option<i32>,
) -> anyhow::Result<()> {
    let mut started = Vec::new();
    for (number, words) in commands.enumerate() {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = format!("{}-{number}", host::OUTPUT);
        started.push((world.launch(&words, &output)?, words.join(" "), output));
    }
    for (process, words, output) in started {
        let status = world.ended(process)?;
        let said = fs_err::read_to_string(&output)?;
        fs_err::remove_file(&output)?;
        let fine = match expected {
            Some(expected) => status == Some(expected),
            // What the simulated guest's processes end with is 3.
            None => matches!(status, Some(0 | 3 | 125)) && !said.contains("panicked"),
        };
        ensure!(fine, "`firebuild {words}` ended with {status:?}: {said}");
    }
    Ok(())
}
