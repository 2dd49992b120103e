//! Hostile input for the language: each target of `fuzz/`, for some time.
//!
//! What the fuzzer learns stays in `fuzz/target/corpus`, so that the next run goes on from there;
//! the corpus in the repository (`fuzz/corpus`) is only read.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::shell;

/// One input may take so many seconds, with checks that make it some thirty times slower.
const TIMEOUT: u32 = 10;

/// So long may an input be: findings come from odd combinations, not from length.
const LENGTH: u32 = 4096;

/// Fuzzes one target, or all one after the other.
pub(crate) fn run(root: &Path, seconds: u32, target: Option<&str>) -> anyhow::Result<()> {
    let all = targets(root)?;
    let wanted = match target {
        None => all,
        Some(target) if all.iter().any(|known| known == target) => vec![target.to_owned()],
        Some(target) => bail!("no target `{target}`; there are {}", all.join(", ")),
    };
    install()?;
    for target in wanted {
        one(root, seconds, &target)?;
    }
    Ok(())
}

/// All targets: the files in `fuzz/fuzz_targets`.
fn targets(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in fs_err::read_dir(root.join("fuzz/fuzz_targets"))? {
        let path = entry?.path();
        targets.extend(
            path.file_stem()
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    targets.sort();
    Ok(targets)
}

/// The fuzzer's driver, built from source if it is not there.
fn install() -> anyhow::Result<()> {
    let there = Command::new("cargo").args(["fuzz", "--version"]).output();
    if there.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    shell::cargo(&["install", "--locked", "cargo-fuzz"])
}

fn one(root: &Path, seconds: u32, target: &str) -> anyhow::Result<()> {
    let learnt = format!("fuzz/target/corpus/{target}");
    let kept = format!("fuzz/corpus/{target}");
    let findings = root.join("fuzz/artifacts").join(target);
    fs_err::create_dir_all(root.join(&learnt))?;
    let before = entries(&findings)?;
    let mut fuzz = nightly()?;
    fuzz.args(["fuzz", "run", target, &learnt, &kept, "--"])
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={TIMEOUT}"))
        .arg(format!("-max_len={LENGTH}"))
        .arg(format!("-dict=fuzz/dictionaries/{target}.dict"))
        .args(["-rss_limit_mb=2048", "-print_final_stats=1"]);
    let done = shell::run(fuzz.current_dir(root));
    let new = entries(&findings)?;
    let found = new.iter().filter(|path| !before.contains(path));
    for path in found {
        shell::say(&format!("finding: {path}"));
    }
    done.with_context(|| format!("target `{target}`: see what it says above"))
}

/// Cargo of the nightly toolchain, by way of rustup: the one that runs this is of another.
fn nightly() -> anyhow::Result<Command> {
    let mut command = Command::new("cargo");
    command.arg("+nightly");
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let own = name.starts_with("CARGO_") && name != "CARGO_HOME" || name == "CARGO";
        if own || name == "RUSTUP_TOOLCHAIN" || name == "RUSTC" || name == "LD_LIBRARY_PATH" {
            command.env_remove(name);
        }
    }
    // The proxy that picks the toolchain stands in front of the toolchain's own programs.
    let home = std::env::var_os("CARGO_HOME").map(std::path::PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    if let Some(home) = home {
        let old = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(home.join("bin")).chain(std::env::split_paths(&old));
        command.env("PATH", std::env::join_paths(paths)?);
    }
    Ok(command)
}

fn entries(directory: &Path) -> anyhow::Result<Vec<String>> {
    let listed = match fs_err::read_dir(directory) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let paths = listed.map(|entry| Ok(entry?.path().display().to_string()));
    paths.collect()
}
