//! What is done with microVMs that exist, a file each, and what those files share.

mod events;
mod inspect;
mod kill;
mod lines;
mod logs;
mod ls;
mod moment;
mod pause;
mod remove;
mod rename;
mod start;
mod stop;
mod supervise;
mod update;
mod wait;

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use firebuild_core::duration;
use firebuild_dockerfile::signal::Signal;
use firebuild_machine::{Host, reconcile};

use super::Global;
use crate::error::{self, hinted};
use crate::{terminal, tracing};

pub(crate) use events::EventsCommand;
pub(crate) use inspect::Inspect;
pub(crate) use kill::Kill;
pub(crate) use logs::{Logs, show};
pub(crate) use ls::Ls;
pub(crate) use pause::{Pause, Unpause};
pub(crate) use remove::{Purge, Rm};
pub(crate) use rename::Rename;
pub(crate) use start::{Restart, Start, at_a_time};
pub(crate) use stop::Stop;
pub(crate) use supervise::{Supervise, WORD as SUPERVISE};
pub(crate) use update::Update;
pub(crate) use wait::Wait;

/// How many VMs are waited for at a time.
const AT_A_TIME: usize = 64;

/// The longest time that a workload may be given to end.
const LONGEST: Duration = Duration::from_secs(86_400);

/// This host, with whatever dead supervisors left cleaned up.
pub(crate) fn host(global: &Global) -> anyhow::Result<Host> {
    let host = Host::new(global.store()?);
    reconcile::reconcile(&host)?;
    Ok(host)
}

/// The command that starts a supervisor: this program, with the same state.
pub(crate) fn supervisor_command(global: &Global) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args([supervise::WORD, "--root"])
        .arg(std::path::absolute(&global.root)?)
        .args(["--log-level", global.log.level().word(), "--"])
        .envs(tracing::handed_over());
    Ok(command)
}

/// A time of a day at most, as a flag has it.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let time = duration::parse(text).map_err(|error| error.to_string())?;
    if time > LONGEST {
        return Err("a time of a day at most is needed".to_owned());
    }
    Ok(time)
}

/// The number of a signal.
pub(crate) fn signal(text: &str) -> anyhow::Result<u8> {
    let signal: Result<Signal, _> = text.parse();
    signal.map(Signal::number).map_err(|error| {
        hinted(
            error.to_string(),
            "write a name such as SIGTERM, or a number",
        )
    })
}

/// Does something with each of several VMs, many at the same time, and prints for each what came of it,
/// in their order: its name if nothing else. An error with one keeps nobody from the others.
///
/// # Errors
/// The last of them; those before are printed.
pub(crate) fn each(
    vms: &[String],
    act: impl Fn(&str) -> anyhow::Result<Option<String>> + Sync,
) -> anyhow::Result<()> {
    each_of(vms, AT_A_TIME, act)
}

/// The same, with so many at a time.
pub(crate) fn each_of(
    vms: &[String],
    at_a_time: usize,
    act: impl Fn(&str) -> anyhow::Result<Option<String>> + Sync,
) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    let (tell, told) = mpsc::channel();
    let mut results: Vec<Option<anyhow::Result<Option<String>>>> = Vec::new();
    results.resize_with(vms.len(), || None);
    let mut first_unprinted = 0;
    let mut trouble = None;
    std::thread::scope(|scope| {
        for _ in 0..at_a_time.clamp(1, vms.len().max(1)) {
            let tell = tell.clone();
            let (next, act) = (&next, &act);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(vm) = vms.get(index) else { return };
                    // Nobody listens only if printing failed.
                    let _ = tell.send((index, act(vm)));
                }
            });
        }
        drop(tell);
        for (index, result) in told {
            results[index] = Some(result);
            while let Some(result) = results.get_mut(first_unprinted).and_then(Option::take) {
                let done = result.and_then(|shown| {
                    let shown = shown.as_ref().unwrap_or(&vms[first_unprinted]);
                    terminal::print(format_args!("{shown}\n"))
                });
                if let Err(error) = done
                    && let Some(before) = trouble.replace(error)
                {
                    error::report(&before);
                }
                first_unprinted += 1;
            }
        }
    });
    match trouble {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_with_one_keeps_nobody_from_the_others() {
        let vms: Vec<String> = (0..200).map(|number| number.to_string()).collect();
        let seen = AtomicUsize::new(0);
        let done = each_of(&vms, 7, |vm| {
            seen.fetch_add(1, Ordering::Relaxed);
            match vm {
                "199" => Err(anyhow::anyhow!("no {vm}")),
                _ => Ok(Some(String::new())),
            }
        });
        assert_eq!(done.unwrap_err().to_string(), "no 199");
        assert_eq!(seen.into_inner(), 200);
        assert!(each(&[], |_| Ok(None)).is_ok());
    }

    #[test]
    fn times_have_a_bound() {
        assert_eq!(time("1m30s"), Ok(Duration::from_secs(90)));
        assert!(time("25h").is_err() && time("x").is_err());
    }
}
