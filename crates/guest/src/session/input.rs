//! The workload's standard input, for whoever is attached.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use firebuild_protocol::v1::{ToTerminal, WindowSize, to_terminal};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::Mutex;
use tonic::Streaming;

use crate::launch::Terminal;
use crate::terminal::END_OF_INPUT;

/// Where what is typed goes.
pub(super) enum Input {
    /// Nowhere: the workload reads nothing, or nothing more.
    Nothing,
    /// Into a pipe, until its end is typed.
    Pipe(Mutex<Option<pipe::Sender>>),
    /// Into a terminal.
    Terminal(Arc<Terminal>),
}

impl Input {
    /// The agent's end of the workload's pipe, if it has one.
    pub(super) fn of_pipe(end: Option<OwnedFd>) -> io::Result<Self> {
        match end {
            Some(end) => {
                let pipe = pipe::Sender::from_owned_fd(end)?;
                Ok(Self::Pipe(Mutex::new(Some(pipe))))
            }
            None => Ok(Self::Nothing),
        }
    }

    /// Types what the host says, until it says nothing more. What nobody reads is dropped.
    pub(super) async fn type_all(&self, mut from_host: Streaming<ToTerminal>) {
        while let Ok(Some(told)) = from_host.message().await {
            if let Some(message) = told.message {
                self.type_one(message).await;
            }
        }
    }

    async fn type_one(&self, message: to_terminal::Message) {
        use to_terminal::Message::{EndOfInput, Input, Resized};
        match (self, message) {
            (Self::Pipe(pipe), Input(data)) => {
                let mut pipe = pipe.lock().await;
                let written = match pipe.as_mut() {
                    Some(open) => open.write_all(&data).await,
                    None => Ok(()),
                };
                if written.is_err() {
                    *pipe = None;
                }
            }
            (Self::Pipe(pipe), EndOfInput(_)) => *pipe.lock().await = None,
            // A terminal that is gone takes nothing.
            (Self::Terminal(terminal), Input(data)) => drop(terminal.write_all(&data).await),
            (Self::Terminal(terminal), EndOfInput(_)) => {
                drop(terminal.write_all(END_OF_INPUT).await);
            }
            (Self::Terminal(terminal), Resized(WindowSize { rows, columns })) => {
                let narrow = |size| u16::try_from(size).unwrap_or(u16::MAX);
                let _ = terminal.resize(narrow(rows), narrow(columns));
            }
            (Self::Nothing, _) | (Self::Pipe(_), Resized(_)) => {}
        }
    }
}
