//! A person's look into a step that failed: a process in the step's own namespaces, in which its
//! root and everything mounted in it are as it left them.

use firebuild_protocol::command::{Run, Shell, Terminal};
use firebuild_protocol::v1::exit::How;
use firebuild_protocol::v1::{Exit, FromTerminal, ToTerminal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::mounts::Mounts;
use super::{Build, run};
use crate::error::{Result, call};
use crate::launch::{self, Launch, Namespaces, Refusal, Streams};
use crate::terminal;

/// What a failed step leaves until it has been looked into.
pub(super) struct Kept {
    pub(super) launch: Launch,
    pub(super) mounts: Mounts,
    /// None if there never was a root.
    pub(super) namespaces: Option<Namespaces>,
}

impl Build {
    /// Keeps what `run` leaves, if it failed and is to be kept. What it wrote to caches is on their
    /// disks in any case.
    pub(super) async fn leave(&mut self, run: &Run, exit: &Exit, left: Kept) -> Result<()> {
        if run.keep && exit.how != Some(How::Status(0)) {
            left.mounts.sync().await?;
            self.kept = Some(left);
            return Ok(());
        }
        left.end().await
    }

    /// Gives up what the last step left.
    pub(super) async fn forget(&mut self) -> Result<()> {
        match self.kept.take() {
            Some(kept) => kept.end().await,
            None => Ok(()),
        }
    }

    pub(super) async fn shell(&mut self, shell: &Shell) -> Result<()> {
        let (to_host, messages) = mpsc::channel(terminal::WAITING);
        // There is room for it.
        let _ = to_host.send(terminal::opened(shell.index)).await;
        let mut client = self.client.clone();
        let answer = client.terminal(ReceiverStream::new(messages)).await;
        let from_host = answer.map_err(call("Terminal"))?.into_inner();
        let exit = match self.kept.as_ref().and_then(|kept| describe(shell, kept)) {
            Some(launch) => match launch::start(&launch, &self.reaper).await?.program {
                Ok(running) => {
                    let ends = (to_host, from_host);
                    terminal::converse(running, launch.streams, ends, std::future::pending())
                        .await?
                }
                Err(refusal) => refuse(refusal, to_host, from_host).await,
            },
            None => {
                let what = "the step failed before it had a root".to_owned();
                refuse(Refusal::Program(what, 0), to_host, from_host).await
            }
        };
        self.forget().await?;
        self.finished(shell.index, exit).await
    }
}

impl Kept {
    async fn end(self) -> Result<()> {
        drop(self.namespaces);
        self.mounts.end().await
    }
}

/// The process that `shell` asks for: the step's own but for its program and its streams.
fn describe(shell: &Shell, kept: &Kept) -> Option<Launch> {
    let namespaces = kept.namespaces.as_ref()?;
    let mut launch = Launch {
        arguments: shell.arguments.clone(),
        joined: namespaces.paths(),
        kept: false,
        streams: Streams::Pipes,
        ..kept.launch.clone()
    };
    if let Some(Terminal {
        kind,
        rows,
        columns,
    }) = &shell.terminal
    {
        let (rows, columns) = (*rows, *columns);
        launch.streams = Streams::Terminal { rows, columns };
        launch.environment.retain(|(name, _)| name != "TERM");
        launch.environment.push(("TERM".to_owned(), kind.clone()));
    }
    Some(launch)
}

async fn refuse(
    refusal: Refusal,
    to_host: mpsc::Sender<FromTerminal>,
    from_host: Streaming<ToTerminal>,
) -> Exit {
    let status = match &refusal {
        Refusal::Program(_, status @ 1..) => *status,
        _ => run::NOT_STARTED,
    };
    terminal::refuse(refusal, to_host, from_host).await;
    Exit {
        how: Some(How::Status(status)),
    }
}
