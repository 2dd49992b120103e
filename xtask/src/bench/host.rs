//! firebuild, and the state that the measurements share.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use fs_err as fs;
use serde_json::Value;

use super::program::{self, LINE, Then};
use super::{BASE, KERNEL};
use crate::shell;

/// An image with a program of 150 bytes and about 5 MB beside it.
pub(super) const SMALL: &str = "bench/small:1";
/// The same with about 1 GB.
pub(super) const LARGE: &str = "bench/large:1";
/// How many files of a mebibyte each.
const SIZES: [(&str, u32); 2] = [(SMALL, 5), (LARGE, 1024)];

/// firebuild with a state of its own.
pub(super) struct Host {
    binary: PathBuf,
    /// Where files of the measurement are made.
    pub(super) directory: PathBuf,
}

impl Host {
    /// Makes sure that there is a kernel, a base and the two images.
    pub(super) fn prepare(root: &Path) -> anyhow::Result<Self> {
        let directory = root.join("target/bench");
        fs::create_dir_all(&directory)?;
        let binary = root.join("target/release/firebuild");
        let host = Self { binary, directory };
        if host.kernels()?.is_empty() {
            shell::run(host.command().args(["kernel", "pull", KERNEL]))?;
        }
        if !host.has_image(BASE)? {
            shell::run(
                host.command()
                    .args(["baseos", "--bootstrap", KERNEL, "--tag", BASE]),
            )?;
        }
        for (name, mebibytes) in SIZES {
            if !host.has_image(name)? {
                host.make_image(name, mebibytes)?;
            }
        }
        Ok(host)
    }

    /// The program itself.
    pub(super) fn binary(&self) -> &Path {
        &self.binary
    }

    /// firebuild, to be given arguments.
    pub(super) fn command(&self) -> Command {
        self.command_of(&self.directory)
    }

    /// The same with another state.
    pub(super) fn command_of(&self, root: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--root").arg(root).stdin(Stdio::null());
        command
    }

    /// Removes the records of VMs.
    pub(super) fn clean(&self) -> anyhow::Result<()> {
        shell::output(self.command().arg("purge")).map(drop)
    }

    /// The directories of installed kernels.
    pub(super) fn kernels(&self) -> anyhow::Result<Vec<PathBuf>> {
        let kernels = self.directory.join("v1/kernels");
        if !kernels.is_dir() {
            return Ok(Vec::new());
        }
        let entries = fs::read_dir(kernels)?.map(|entry| entry.map(|entry| entry.path()));
        Ok(entries.collect::<Result<_, _>>()?)
    }

    /// What a command that prints JSON prints.
    pub(super) fn facts(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = shell::output(self.command().args(arguments).args(["--format", "json"]))?;
        Ok(serde_json::from_str(&text)?)
    }

    fn has_image(&self, name: &str) -> anyhow::Result<bool> {
        let listed = self.facts(&["image", "ls"])?;
        Ok(listed.as_array().is_some_and(|images| {
            images
                .iter()
                .any(|image| image["Name"].as_str() == Some(name))
        }))
    }

    fn make_image(&self, name: &str, mebibytes: u32) -> anyhow::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let tree = self.directory.join("tree");
        if tree.exists() {
            fs::remove_dir_all(&tree)?;
        }
        fs::create_dir_all(tree.join("data"))?;
        fs::write(tree.join("started"), program::elf(Then::Exit))?;
        fs::set_permissions(tree.join("started"), std::fs::Permissions::from_mode(0o755))?;
        for number in 0..mebibytes {
            fs::write(tree.join(format!("data/{number}")), noise(number))?;
        }
        let archive = self.directory.join("tree.tar");
        let mut tar = Command::new("tar");
        shell::run(tar.arg("-cf").arg(&archive).arg("-C").arg(&tree).arg("."))?;
        fs::remove_dir_all(&tree)?;
        let mut import = self.command();
        shell::run(
            import
                .args(["image", "import"])
                .arg(&archive)
                .args(["--tag", name]),
        )?;
        Ok(fs::remove_file(&archive)?)
    }
}

/// A mebibyte that no other has and that nothing makes smaller (xorshift64).
fn noise(seed: u32) -> Vec<u8> {
    let mut state = (u64::from(seed) << 1 | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take((1 << 20) / 8).flatten().collect()
}

/// Runs a command until its end. Returns how long it took until its line came.
pub(super) fn time_to_line(command: &mut Command) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = BufReader::new(child.stdout.take().context("there is no output")?);
    let (mut line, mut seen) = (String::new(), String::new());
    let mut took = None;
    while output.read_line(&mut line)? > 0 {
        if line.trim_end().ends_with(LINE) {
            took = Some(start.elapsed());
            break;
        }
        seen.push_str(&line);
        line.clear();
    }
    output.read_to_end(&mut Vec::new())?;
    let status = child.wait()?;
    ensure!(status.success(), "it ended with {status}: {seen}");
    let took = took.with_context(|| format!("it did not print `{LINE}`: {seen}"))?;
    let _ = write!(std::io::stdout(), ".").and_then(|()| std::io::stdout().flush());
    Ok(took)
}

/// Runs a command, whose output is of no interest, and returns how long it took.
pub(super) fn time(command: &mut Command) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let output = command.output()?;
    let took = start.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", output.status);
    Ok(took)
}
