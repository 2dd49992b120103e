//! The program `nft`: scripts in, JSON out. It works on the calling thread's network namespace.
//!
//! One script is one transaction: the kernel takes all of it or nothing.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::Error;
use crate::lease::Leases;

/// As much of a refusal as an error shows.
const MOST_SAID: usize = 600;

/// Carries a script out in a namespace that nobody else uses yet.
pub(crate) fn run(doing: &'static str, script: &str) -> Result<(), Error> {
    run_with(doing, script, Stdio::null())
}

/// Carries a script out on the host, under the lock of the leases.
///
/// The child has a descriptor of the lock's too, in place of its standard output, to which it
/// writes nothing: if this process is killed, the lock stays until the child has ended, and nobody
/// removes what is not there yet.
pub(crate) fn run_locked(doing: &'static str, script: &str, leases: &Leases) -> Result<(), Error> {
    let lock = leases.lock_file().try_clone()?;
    run_with(doing, script, lock.into_parts().0.into())
}

fn run_with(doing: &'static str, script: &str, stdout: Stdio) -> Result<(), Error> {
    let started = Instant::now();
    let mut child = command()
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::NftMissing)?;
    // A child that ended early says why on its standard error.
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(script.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(Error::system("wait for nft"))?;
    log::debug!("nft, to {doing}: {} ms", started.elapsed().as_millis());
    log::trace!("what nft was told:\n{script}");
    judged(doing, output).map(drop)
}

/// The objects that `nft -j list …` tells of; none if what was asked for is not there.
pub(crate) fn list(what: &str) -> Result<Vec<Value>, Error> {
    Ok(list_all(&[what])?.unwrap_or_default())
}

/// The objects of several lists, one list's after the other's; nothing if something that was asked for
/// is not there.
///
/// To start the program takes several times what its work does, so whoever needs two lists asks for
/// them at once.
pub(crate) fn list_all(lists: &[impl Display]) -> Result<Option<Vec<Value>>, Error> {
    const DOING: &str = "list its rules";
    let started = Instant::now();
    let commands: String = lists.iter().map(|what| format!("list {what};")).collect();
    let output = command()
        .args(["-j", "-a", &commands])
        .stdin(Stdio::null())
        .output()
        .map_err(Error::NftMissing)?;
    log::debug!("nft {commands} {} ms", started.elapsed().as_millis());
    let output = match judged(DOING, output) {
        Err(Error::Nft { said, .. }) if said.contains("No such file or directory") => {
            return Ok(None);
        }
        other => other?,
    };
    let mut objects = Vec::new();
    for told in serde_json::Deserializer::from_slice(&output.stdout).into_iter() {
        let mut told: Value = told.map_err(|error| Error::Nft {
            doing: DOING,
            said: error.to_string(),
        })?;
        if let Some(Value::Array(of_one)) = told.get_mut("nftables").map(Value::take) {
            objects.extend(of_one);
        }
    }
    Ok(Some(objects))
}

fn command() -> Command {
    let mut command = Command::new("nft");
    // Debian's administrators' programs are not on every PATH.
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env_clear()
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .env("LC_ALL", "C");
    command
}

fn judged(doing: &'static str, output: Output) -> Result<Output, Error> {
    if output.status.success() {
        return Ok(output);
    }
    let mut said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if let Some((end, _)) = said.char_indices().nth(MOST_SAID) {
        said.truncate(end);
    }
    if said.is_empty() {
        said = output.status.to_string();
    }
    if said.contains("Operation not permitted") {
        return Err(Error::System {
            doing: doing.to_owned(),
            source: io::ErrorKind::PermissionDenied.into(),
        });
    }
    Err(Error::Nft { doing, said })
}
