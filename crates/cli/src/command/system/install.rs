//! `firebuild system install` and `uninstall`: the one systemd unit that starts VMs with the host.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use clap::Args;

use crate::command::Global;
use crate::error::hinted;
use crate::terminal;

/// Where units of the host's administrator are.
const UNITS: &str = "/etc/systemd/system";

/// What the unit is called.
const NAME: &str = "firebuild.service";

/// By this line a unit is known to be ours.
const MARK: &str =
    "# Written by `firebuild system install`; `firebuild system uninstall` removes it.";

/// Where the unit is, and whether to ask.
#[derive(Debug, Args)]
struct Choices {
    /// Where units are; with another directory than the usual one, systemd is not told
    #[arg(long, value_name = "DIR", default_value = UNITS)]
    unit_dir: PathBuf,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The unit starts VMs with the policies `always` and `unless-stopped` when the host starts, and stops all VMs
in order when it ends. It is shown before it is written.")]
pub(crate) struct Install {
    #[command(flatten)]
    choices: Choices,
    /// Only show the unit
    #[arg(long)]
    print: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    #[command(flatten)]
    choices: Choices,
}

impl Install {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<()> {
        let root = std::path::absolute(&global.root)?;
        let text = unit(&std::env::current_exe()?, &root)?;
        if self.print {
            return terminal::print(&text);
        }
        terminal::say(&text);
        let path = self.choices.unit_dir.join(NAME);
        if existing(&path)?.as_ref() == Some(&text) {
            terminal::say(format_args!("`{}` is there already", path.display()));
        } else {
            self.choices
                .ask(&format!("write this to `{}`?", path.display()))?;
            write(&path, &text)?;
            terminal::say(format_args!("wrote `{}`", path.display()));
        }
        self.choices
            .tell_systemd(&[&["daemon-reload"], &["enable", NAME]])
    }
}

impl Uninstall {
    pub(super) fn run(self, _: &Global) -> anyhow::Result<()> {
        let path = self.choices.unit_dir.join(NAME);
        if existing(&path)?.is_none() {
            terminal::say(format_args!("`{}` is not there", path.display()));
            return Ok(());
        }
        self.choices.ask(&format!("remove `{}`?", path.display()))?;
        // Before the file goes, from which systemd knows what to undo. VMs that run stay.
        self.choices.tell_systemd(&[&["disable", NAME]])?;
        fs_err::remove_file(&path).context("cannot remove the unit")?;
        terminal::say(format_args!("removed `{}`", path.display()));
        self.choices.tell_systemd(&[&["daemon-reload"]])
    }
}

impl Choices {
    fn ask(&self, question: &str) -> anyhow::Result<()> {
        if self.yes {
            return Ok(());
        }
        let refused = |what: &str| hinted(what, "give --yes to answer yes");
        if !std::io::stdin().is_terminal() {
            return Err(refused("there is no terminal on which to ask"));
        }
        terminal::say(format_args!("{question} [y/N]"));
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(refused("nothing was changed")),
        }
    }

    /// Tells systemd, if it runs here and looks there.
    fn tell_systemd(&self, commands: &[&[&str]]) -> anyhow::Result<()> {
        let looks = self.unit_dir == Path::new(UNITS);
        if !looks || !Path::new("/run/systemd/system").exists() {
            for command in commands {
                terminal::say(format_args!(
                    "not done here: systemctl {}",
                    command.join(" ")
                ));
            }
            return Ok(());
        }
        for command in commands {
            let done = Command::new("systemctl").args(*command).status();
            let done = done.context("cannot start `systemctl`")?;
            if !done.success() {
                anyhow::bail!("`systemctl {}` failed", command.join(" "));
            }
        }
        Ok(())
    }
}

/// The unit at `path`, if there is one.
///
/// # Errors
/// It is not ours, or cannot be read.
fn existing(path: &Path) -> anyhow::Result<Option<String>> {
    match fs_err::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("cannot read the unit"),
        Ok(text) if text.starts_with(MARK) => Ok(Some(text)),
        Ok(_) => Err(hinted(
            format!("`{}` was not written by firebuild", path.display()),
            "move it away, or choose another directory with --unit-dir",
        )),
    }
}

/// Writes a unit whole.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    let written = fs_err::write(&new, text).and_then(|()| fs_err::rename(&new, path));
    if written.is_err() {
        let _ = fs_err::remove_file(&new);
    }
    written.context("cannot write the unit")
}

/// The unit's text.
fn unit(program: &Path, root: &Path) -> anyhow::Result<String> {
    let (program, root) = (word(program)?, word(root)?);
    // Variables are known in command lines only.
    let mount = root.replace("$$", "$");
    Ok(format!(
        "{MARK}
[Unit]
Description=MicroVMs that start with the host
Wants=network-online.target
After=network-online.target local-fs.target
RequiresMountsFor={mount}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={program} --root {root} system boot
ExecStop={program} --root {root} system halt
# Each VM has a supervisor of its own, which `system halt` asks to end.
KillMode=process
TimeoutStartSec=15min
TimeoutStopSec=5min

[Install]
WantedBy=multi-user.target
"
    ))
}

/// A path as a word of a unit (`systemd.syntax(7)`, `systemd.service(5)`).
fn word(path: &Path) -> anyhow::Result<String> {
    let text = path
        .to_str()
        .filter(|text| !text.chars().any(char::is_control));
    let text =
        text.with_context(|| format!("the path `{}` cannot stand in a unit", path.display()))?;
    let mut word = "\"".to_owned();
    for letter in text.chars() {
        match letter {
            '"' | '\\' => word.extend(['\\', letter]),
            '%' | '$' => word.extend([letter, letter]),
            _ => word.push(letter),
        }
    }
    word.push('"');
    Ok(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_words_of_a_unit() {
        for (path, expected) in [
            ("/var/lib/firebuild", r#""/var/lib/firebuild""#),
            ("/a b/%c/$d", r#""/a b/%%c/$$d""#),
            (r#"/a"b\c"#, r#""/a\"b\\c""#),
        ] {
            assert_eq!(word(Path::new(path)).unwrap(), expected);
        }
        assert!(word(Path::new("/a\nExecStart=/bad")).is_err());
    }

    #[test]
    fn what_others_wrote_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        assert_eq!(existing(&path).unwrap(), None);
        let text = unit(Path::new("/bin/firebuild"), Path::new("/r")).unwrap();
        write(&path, &text).unwrap();
        assert_eq!(existing(&path).unwrap(), Some(text));
        fs_err::write(&path, "[Unit]\n").unwrap();
        assert!(existing(&path).is_err());
    }
}
