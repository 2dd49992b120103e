//! A person's look into a step that failed: a shell in the step's own VM, where everything is as the
//! step left it. What the person's end is, a terminal or pipes, is the caller's business.

use std::time::Duration;

use firebuild_machine::terminal::{self, Broken, End, Input, Shown, UserEnd};
use firebuild_protocol::command::{Command, Shell};
use firebuild_protocol::v1::Failed;
use tokio::sync::mpsc;

use crate::bootstrap::{self, Streams};
use crate::error::{Error, StepError};
use crate::vm::BuildVm;

/// How long the guest may take to open the shell's streams.
const OPENING: Duration = Duration::from_secs(60);

/// How long the guest may take to put things away after the shell has ended.
const GOODBYE: Duration = Duration::from_secs(10);

/// How long a VM whose agent has gone may take to end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What is started where no other shell is known.
const DEFAULT: &str = "/bin/sh";

/// Someone who looks into the step that a build failed with.
pub trait Debugger: std::fmt::Debug + Send + Sync {
    /// The program to start in place of the shell that the step had.
    fn program(&self) -> Option<&str>;

    /// Opens the person's end for `program`, which is going to be started. The build has come to its
    /// end otherwise: only the VM of the step is left.
    ///
    /// # Errors
    /// Those of the terminal; then nothing is started.
    fn open(&self, failure: &Error, program: &str) -> std::io::Result<UserEnd>;
}

impl BuildVm<'_> {
    /// Lets a person look into the command that failed. `open` opens the person's end for the
    /// program that is going to be started.
    pub(crate) async fn debug(
        &mut self,
        program: Option<&str>,
        open: impl FnOnce(&str) -> std::io::Result<UserEnd>,
    ) -> Result<(), StepError> {
        let Some(kept) = self.take_kept() else {
            return Ok(());
        };
        let program = program.map(str::to_owned).or(kept.shell);
        let program = program.unwrap_or_else(|| DEFAULT.to_owned());
        let user = open(&program).map_err(StepError::Terminal)?;
        self.conversation.allow_agents(kept.index, kept.agents);
        let result = self.shell(program, user).await;
        self.conversation.withdraw_agents(kept.index);
        result
    }

    /// Starts `program` where the last command failed, and connects it with the user's end until it
    /// has ended.
    async fn shell(&mut self, program: String, user: UserEnd) -> Result<(), StepError> {
        let UserEnd {
            terminal,
            mut input,
            output,
            guard,
        } = user;
        let index = self.number();
        let streams = self.conversation.expect_terminal(index);
        self.conversation.send(Command::Shell(Shell {
            index,
            arguments: vec![program],
            terminal,
        }));
        let mut finished = false;
        let end = tokio::select! {
            end = connect((&mut input, &output), streams) => Ok(end),
            error = self.watch(index, &mut finished) => Err(error),
        };
        let end = match end {
            Ok(Ok(end)) => Ok(end),
            Ok(Err(broken)) => Err(self.explain(broken, index).await),
            Err(error) => Err(error),
        };
        if matches!(end, Ok(End::Exited(_) | End::Failed(_))) && !finished {
            let rest = self.finished(index);
            // What a guest that does not answer has not put away is lost.
            let _ = tokio::time::timeout(GOODBYE, rest).await;
        }
        if output.send(Shown::End).await.is_ok() {
            output.closed().await;
        }
        drop(guard);
        match end? {
            End::Exited(_) | End::Unseen => Ok(()),
            End::Failed(Failed { error, status }) => Err(StepError::NoShell {
                reason: error,
                program: status != 0,
            }),
        }
    }

    /// Notes that the guest is through with `index`. Anything else that it does is an error.
    async fn watch(&mut self, index: u32, finished: &mut bool) -> StepError {
        loop {
            match self.finished(index).await {
                Ok(()) => *finished = true,
                Err(error) => return error,
            }
        }
    }

    /// Why the conversation broke off: where the whole VM has ended, that shows a little later.
    async fn explain(&mut self, broken: Broken, index: u32) -> StepError {
        match tokio::time::timeout(LAST_WORDS, self.finished(index)).await {
            Ok(Err(error)) => error,
            _ => StepError::Violation(broken.to_string()),
        }
    }

    async fn finished(&mut self, index: u32) -> Result<(), StepError> {
        match self.event().await? {
            bootstrap::Event::Finished { command, .. } if command == index => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }
}

async fn connect(
    user: (&mut mpsc::Receiver<Input>, &mpsc::Sender<Shown>),
    streams: Streams,
) -> Result<End, Broken> {
    match tokio::time::timeout(OPENING, streams.from_guest).await {
        Ok(Ok(from_guest)) => terminal::connect(user, streams.to_guest, from_guest).await,
        _ => Err(Broken::Early),
    }
}
