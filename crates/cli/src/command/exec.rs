//! `firebuild exec`: one more process in a running microVM.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use firebuild_machine::Host;
use firebuild_machine::conversation::{self, Conversation, Ending, Signals};
use firebuild_machine::terminal::{Shown, UserEnd};
use firebuild_protocol::task::{Process, Streams, Task};
use tokio::signal::unix::{SignalKind, signal};

use super::run::environment;
use super::{Global, block_on};
use crate::arguments::values;
use crate::error::hinted;
use crate::terminal::{self, Wanted};

const LONG: &str = "\
Run one more process in a running microVM

The process runs in the workload's root file system, as the workload's user, in its directory and with
its environment, unless other things are said. The exit status is that of the process; 126 if the
program cannot be executed and 127 if it is not found; 125 if firebuild itself failed. When this
command is killed, the process is hung up on (SIGHUP), and killed 10 seconds later if that does not
end it.";

const EXAMPLES: &str = "\
Examples:
  firebuild exec web ls -l /srv
  firebuild exec -it web bash
  firebuild exec -i db psql < dump.sql
  firebuild exec -u root -e DEBUG=1 web -- sh -c 'env | sort'";

#[derive(Debug, Args)]
#[command(
    long_about = LONG,
    after_help = EXAMPLES,
    override_usage = "firebuild exec [OPTIONS] VM [--] COMMAND [ARGUMENT]..."
)]
pub(crate) struct Exec {
    /// Pass standard input on
    #[arg(long, short)]
    interactive: bool,
    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,
    /// Leave it running
    #[arg(long, short)]
    detach: bool,
    /// Run as this user instead of the workload's
    #[arg(long, short, value_name = "USER[:GROUP]", value_parser = values::user)]
    user: Option<String>,
    /// Start in this directory instead of the workload's
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<String>,
    /// Set an environment variable; without a value it is taken from the environment
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Set the environment variables of a file of NAME=VALUE lines; `--env` wins
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Changes nothing: whatever runs in a microVM may do everything there that its user may
    #[arg(long)]
    privileged: bool,
    /// The microVM: its name, its id, or the beginning of its id
    vm: String,
    /// What to run
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<String>,
}

impl Exec {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let wanted = Wanted {
            input: self.interactive,
            terminal: self.tty,
        };
        check_terminal(wanted, self.detach)?;
        let process = self.process()?;
        let host = Host::new(global.store()?);
        block_on(converse(&host, &self.vm, &Task::Execute(process), wanted))?
    }

    fn process(&self) -> anyhow::Result<Process> {
        // The words after `VM` may begin with the mark that ends the options.
        let arguments = match self.command.split_first() {
            Some((mark, rest)) if mark == "--" && !rest.is_empty() => rest.to_vec(),
            _ => self.command.clone(),
        };
        let workdir = self
            .workdir
            .clone()
            .filter(|directory| !directory.is_empty());
        if let Some(directory) = workdir.as_ref().filter(|path| !path.starts_with('/')) {
            return Err(hinted(
                format!("`{directory}` cannot be a working directory"),
                "write an absolute path",
            ));
        }
        Ok(Process {
            arguments,
            environment: environment(&self.env_file, &self.env)?
                .into_iter()
                .collect(),
            workdir,
            user: self.user.clone(),
            streams: match (self.detach, self.tty, self.interactive) {
                (true, ..) => Streams::Detached,
                (_, true, _) => Streams::Terminal(terminal::facts()),
                (_, _, true) => Streams::Pipes,
                _ => Streams::Output,
            },
        })
    }
}

/// Refuses to pass on a terminal that there is none of.
pub(super) fn check_terminal(wanted: Wanted, is_detached: bool) -> anyhow::Result<()> {
    if wanted.input && wanted.terminal && !is_detached && !io::stdin().is_terminal() {
        return Err(hinted(
            "standard input is not a terminal",
            "leave `-t` away to pass it on as it is",
        ));
    }
    Ok(())
}

/// Has the task done, with this command's streams.
async fn converse(host: &Host, vm: &str, task: &Task, wanted: Wanted) -> anyhow::Result<ExitCode> {
    let conversation = conversation::begin(host, vm, task).await?;
    let passing = tokio::spawn(pass_signals_on(conversation.signals()));
    let ending = connect(conversation, wanted).await;
    passing.abort();
    Ok(match ending? {
        Ending::Exited(exit) => ExitCode::from(exit.code()),
        Ending::Left => ExitCode::SUCCESS,
    })
}

/// Joins the task with this command's streams until it ends.
async fn connect(conversation: Conversation, wanted: Wanted) -> anyhow::Result<Ending> {
    let UserEnd {
        input,
        output,
        guard,
        terminal: _,
    } = terminal::take_wanted_streams(wanted)?;
    let shown = output.clone();
    let ending = conversation.connect(input, output).await;
    // What has come is shown before the end is.
    if shown.send(Shown::End).await.is_ok() {
        shown.closed().await;
    }
    drop(guard);
    Ok(ending?)
}

/// A terminal's own signals are keys.
async fn pass_signals_on(signals: Signals) {
    let mut tasks = tokio::task::JoinSet::new();
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::quit(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ] {
        let signals = signals.clone();
        tasks.spawn(async move {
            let Ok(mut received) = signal(kind) else {
                return;
            };
            while received.recv().await.is_some() {
                let number = u8::try_from(kind.as_raw_value()).unwrap_or_default();
                signals.send(number).await;
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}
