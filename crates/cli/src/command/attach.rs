//! `firebuild attach`, and what `run -i` does: this command's streams as those of a workload.
//!
//! What the workload writes comes by way of its log, as for everybody else; what is typed goes to it
//! by a task of its own.

use std::process::ExitCode;
use std::thread::JoinHandle;

use bytes::Bytes;
use clap::Args;
use firebuild_machine::conversation;
use firebuild_machine::terminal::{Input, UserEnd};
use firebuild_machine::{Host, Purpose, Record, State, client, reconcile};
use firebuild_protocol::task::Task;
use tokio::sync::mpsc;

use super::exec::check_terminal;
use super::{Global, block_on, lifecycle, run};
use crate::terminal::{self, Wanted};

/// What leaves a workload to itself: Ctrl-P, Ctrl-Q.
const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// Pass nothing on that is typed
    #[arg(long)]
    no_stdin: bool,
    /// The keys that end this command and leave the workload running, such as `ctrl-p,ctrl-q` or `ctrl-x`
    #[arg(long, value_name = "KEYS", default_value = DETACH_KEYS)]
    detach_keys: DetachKeys,
    /// Pass signals to this command on to the workload
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// The microVM: its name, its id, or the beginning of its id
    vm: String,
}

impl Attach {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let host = Host::new(global.store()?);
        let id = host.store.machines().find(&self.vm)?.id;
        reconcile::reconcile_one(&host, &id)?;
        let record = client::inspect(&host, id.as_str())?;
        if record.state.is_final() {
            return Err(firebuild_machine::Error::NotRunning(id).into());
        }
        let wanted = wanted(&record);
        let wanted = Wanted {
            input: wanted.input && !self.no_stdin,
            ..wanted
        };
        check_terminal(wanted, false)?;
        let mut logs = client::logs(&host, &id, true)?;
        while logs.next_ready()?.is_some() {}
        if self.sig_proxy {
            run::pass_signals_on(host.clone(), record.clone());
        }
        let typing = wanted
            .input
            .then(|| type_into(&host, &record, wanted, self.detach_keys, false));
        for entry in logs {
            lifecycle::show(&entry?)?;
        }
        finish(typing);
        end(client::wait(&host, &id)?)
    }
}

/// What a command that is joined with a VM's workload does with its streams.
pub(super) fn wanted(record: &Record) -> Wanted {
    match &record.spec.purpose {
        Purpose::Run { workload, .. } => Wanted {
            input: workload.interactive,
            terminal: workload.terminal.is_some(),
        },
        Purpose::Build => Wanted {
            input: false,
            terminal: false,
        },
    }
}

/// The exit status of a VM's workload.
pub(super) fn end(record: Record) -> anyhow::Result<ExitCode> {
    match record.state {
        State::Stopped { exit } => Ok(ExitCode::from(exit.code())),
        State::Failed { reason } => {
            let status = reason.status;
            crate::error::report(&firebuild_machine::Error::Reported(reason).into());
            Ok(ExitCode::from(status))
        }
        other => Err(anyhow::anyhow!(
            "the VM's record says `{other:?}`, though it has ended"
        )),
    }
}

/// Types whatever comes on standard input into the workload, until either ends. `whole` says whether
/// the end of the one is the end of the other's input.
pub(super) fn type_into(
    host: &Host,
    record: &Record,
    wanted: Wanted,
    keys: DetachKeys,
    whole: bool,
) -> JoinHandle<()> {
    let (host, id) = (host.clone(), record.id.clone());
    std::thread::spawn(move || {
        let typed = block_on(async {
            let conversation = conversation::begin(&host, id.as_str(), &Task::Attach).await?;
            let UserEnd {
                input,
                output,
                guard,
                terminal,
            } = terminal::take_wanted_streams(wanted)?;
            let (typed, passed) = mpsc::channel(1);
            if let Some(terminal) = terminal {
                // There is room for it.
                let _ = typed
                    .send(Input::Resize(terminal.rows, terminal.columns))
                    .await;
            }
            let keys = wanted.terminal.then_some(keys);
            let is_left = tokio::select! {
                is_left = pass_on(input, typed, keys, whole) => is_left,
                _ = conversation.connect(passed, output) => false,
            };
            drop(guard);
            anyhow::Ok(is_left)
        });
        if let Ok(Ok(true)) = typed {
            terminal::say("\ndetached; the microVM goes on");
            // Whoever shows its output waits for the next piece, perhaps for ever.
            std::process::exit(0);
        }
    })
}

/// Waits until nothing more is typed into a workload that has ended, and the terminal is as it was.
pub(super) fn finish(typing: Option<JoinHandle<()>>) {
    if let Some(typing) = typing {
        let _ = typing.join();
    }
}

/// Passes on what is typed. Returns true if that was the keys that leave the workload; otherwise only
/// when nobody wants more.
async fn pass_on(
    mut input: mpsc::Receiver<Input>,
    typed: mpsc::Sender<Input>,
    mut keys: Option<DetachKeys>,
    whole: bool,
) -> bool {
    while let Some(input) = input.recv().await {
        let input = match (input, &mut keys) {
            (Input::Data(data), Some(keys)) => match keys.without(&data) {
                Some(rest) => Input::Data(rest),
                None => return true,
            },
            (Input::End, _) if !whole => continue,
            (other, _) => other,
        };
        if typed.send(input).await.is_err() {
            break;
        }
    }
    std::future::pending().await
}

/// Keys that mean something when they are typed one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    /// How many of them have been typed.
    at: usize,
}

impl Default for DetachKeys {
    fn default() -> Self {
        // Ctrl-P, Ctrl-Q.
        Self {
            keys: vec![16, 17],
            at: 0,
        }
    }
}

impl std::str::FromStr for DetachKeys {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let key = |word: &str| match word.strip_prefix("ctrl-").map(str::as_bytes) {
            Some([letter @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')]) => {
                Some(letter & 0x1f)
            }
            None => match word.as_bytes() {
                [letter @ 33..=126] => Some(*letter),
                _ => None,
            },
            _ => None,
        };
        let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
        let keys = keys.filter(|keys| keys.len() <= 16);
        keys.map(|keys| Self { keys, at: 0 })
            .ok_or_else(|| "write keys such as `ctrl-p,ctrl-q`, `ctrl-x` or `q`".to_owned())
    }
}

impl DetachKeys {
    /// What is left of what is typed when the keys are looked for in it; none once all were typed. Those
    /// that may be the beginning are held back until it shows that they are not.
    fn without(&mut self, data: &[u8]) -> Option<Bytes> {
        let mut rest = Vec::with_capacity(data.len());
        for &byte in data {
            if self.keys.get(self.at) == Some(&byte) {
                self.at += 1;
                if self.at == self.keys.len() {
                    return None;
                }
                continue;
            }
            rest.extend(&self.keys[..self.at]);
            self.at = usize::from(self.keys.first() == Some(&byte));
            if self.at == 0 {
                rest.push(byte);
            }
        }
        Some(rest.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_what_is_typed() {
        for (keys, pieces, expected) in [
            ("ctrl-p,ctrl-q", &["a\x10", "\x11b"][..], &["a"][..]),
            (
                "ctrl-p,ctrl-q",
                &["\x10a", "\x10\x10", "x"],
                &["\x10a", "\x10", "\x10x"],
            ),
            ("ctrl-p,ctrl-q", &["\x11"], &["\x11"]),
            ("q", &["abc", "q"], &["abc"]),
            ("ctrl-@", &["\0"], &[]),
        ] {
            let mut keys: DetachKeys = keys.parse().unwrap();
            let found: Vec<Bytes> = pieces
                .iter()
                .map_while(|piece| keys.without(piece.as_bytes()))
                .collect();
            assert_eq!(found, expected, "{pieces:?}");
        }
        assert_eq!(DETACH_KEYS.parse(), Ok(DetachKeys::default()));
        for wrong in ["", "ctrl-", "ctrl-P", "ab", "ctrl-p,", "é"] {
            assert!(wrong.parse::<DetachKeys>().is_err(), "{wrong}");
        }
    }
}
