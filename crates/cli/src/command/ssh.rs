//! `firebuild ssh`: the command that a person would have typed.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;
use firebuild_machine::spec::SshAccess;
use firebuild_machine::{Purpose, Record, client};
use firebuild_protocol::secret::{HOST_KEY, IMAGES_HOST_KEY};

use super::{Global, lifecycle};
use crate::error::hinted;
use crate::terminal;

/// Prints the host key's public half, for which it waits.
const FETCH: &str = "n=0; while [ $n -lt 300 ]; do if [ -s \"$0\" ]; then cat \"$0\"; exit 0; fi; \
    n=$((n+1)); sleep 0.1; done; exit 1";

#[derive(Debug, Args)]
#[command(after_help = "\
The microVM has to be started with `run --ssh-user USER --identity-file PUBKEY`. Its host key is known
beforehand: it is asked for through firebuild's own session with the microVM.")]
pub(crate) struct Ssh {
    /// Only print the command
    #[arg(long)]
    print: bool,
    /// The microVM: its name, its id, or the beginning of its id
    vm: String,
    /// What to run there, in place of a shell
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<String>,
}

impl Ssh {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let host = lifecycle::host(global)?;
        let record = client::inspect(&host, &self.vm)?;
        let Some(access) = &record.spec.ssh else {
            return Err(hinted(
                format!("VM `{}` lets nobody in by SSH", self.vm),
                format!(
                    "use `firebuild exec -it {} sh`, or start it with `--ssh-user` and `--identity-file`",
                    self.vm
                ),
            ));
        };
        let known = known_hosts(global, &record)?;
        let mut words = command(access, &record, &known)?;
        words.extend(self.command);
        if self.print {
            let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            return terminal::print(format_args!("{}\n", quoted.join(" ")));
        }
        let (program, arguments) = words.split_first().unwrap_or((&self.vm, &[]));
        Err(
            anyhow::Error::from(Command::new(program).args(arguments).exec())
                .context("cannot start `ssh`"),
        )
    }
}

/// Writes the VM's host key where `ssh` looks it up.
fn known_hosts(global: &Global, record: &Record) -> anyhow::Result<PathBuf> {
    let address = address(record)?;
    let output = Command::new(std::env::current_exe()?)
        .arg("--root")
        .arg(std::path::absolute(&global.root)?)
        .args(["exec", "-u", "root", "-w", "/", record.id.as_str(), "--"])
        .args(["sh", "-c", FETCH])
        .arg(format!("{}.pub", host_key(record)))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.split_ascii_whitespace();
    match (output.status.success(), words.next(), words.next()) {
        (true, Some(kind), Some(key)) => {
            let path = record.directories.state.join("known_hosts");
            fs_err::write(&path, format!("{address} {kind} {key}\n"))?;
            Ok(path)
        }
        _ => {
            terminal::print_error_bytes(&output.stderr)?;
            Err(hinted(
                format!("VM `{}` has no host key", record.id),
                format!(
                    "see what its SSH server says: `firebuild logs --console {}`",
                    record.id
                ),
            ))
        }
    }
}

fn host_key(record: &Record) -> &'static str {
    match &record.spec.purpose {
        Purpose::Run { workload, .. } if workload.is_init => IMAGES_HOST_KEY,
        _ => HOST_KEY,
    }
}

fn address(record: &Record) -> anyhow::Result<String> {
    let address = record.address().map(|address| address.to_string());
    address.ok_or_else(|| hinted("the VM has no address", "start it: `firebuild start VM`"))
}

fn command(
    access: &SshAccess,
    record: &Record,
    known: &std::path::Path,
) -> anyhow::Result<Vec<String>> {
    let mut words = vec!["ssh".to_owned()];
    for option in [
        format!("UserKnownHostsFile={}", known.display()),
        "GlobalKnownHostsFile=/dev/null".to_owned(),
        "StrictHostKeyChecking=yes".to_owned(),
        // The key may be there before the server listens.
        "ConnectionAttempts=20".to_owned(),
    ] {
        words.extend(["-o".to_owned(), option]);
    }
    for public in &access.identities {
        let private = public.with_extension("");
        if public.extension().is_some_and(|it| it == "pub") && private.is_file() {
            words.extend(["-i".to_owned(), private.display().to_string()]);
        }
    }
    words.push(format!("{}@{}", access.user, address(record)?));
    Ok(words)
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=@:".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, expected) in [
            ("ls", "ls"),
            ("a b", "'a b'"),
            ("", "''"),
            ("it's", "'it'\\''s'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }
}
