//! A user's end of a process in a guest, a terminal or pipes, and what connects it with the guest's.
//!
//! Neither side gets ahead of the other: what the guest sends is read when the user's end has taken
//! what came before, and waits on the guest's side of the connection until then. What it is goes to
//! the user as it is: whoever looks at a guest through a terminal lets it draw there.

use bytes::Bytes;
use firebuild_protocol::command::Terminal;
use firebuild_protocol::v1::{
    Empty, Exit, Exited, Failed, FromTerminal, Output, ToTerminal, WindowSize, from_terminal,
    output, to_terminal,
};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

/// The most bytes that a guest may send at once.
pub const LARGEST_PIECE: usize = 64 << 10;

/// The user's end of a process's standard streams, open until it is dropped.
#[derive(Debug)]
pub struct UserEnd {
    /// The terminal, if it is one.
    pub terminal: Option<Terminal>,
    /// What the user does. Its end is no more than that nothing else comes.
    pub input: mpsc::Receiver<Input>,
    /// What the user sees. The receiver goes when it has taken [`Shown::End`], or when nobody looks
    /// any more.
    pub output: mpsc::Sender<Shown>,
    /// Gives back whatever there is to be given back.
    pub guard: Box<dyn std::fmt::Debug + Send>,
}

/// Something that the user does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Types this.
    Data(Bytes),
    /// Types nothing more.
    End,
    /// Makes the terminal this large: rows and columns.
    Resize(u16, u16),
}

/// Something that the user sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// Standard output; everything, if there is a terminal.
    Stdout(Bytes),
    /// Standard error.
    Stderr(Bytes),
    /// That nothing follows.
    End,
}

/// How a process's streams came to their end.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// The process has ended.
    Exited(Exit),
    /// Nobody looks any more.
    Unseen,
    /// There was no process.
    Failed(Failed),
}

/// What no agent does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The conversation ended before the process.
    #[error("it did not say how a process ended")]
    Early,
    /// A message was too large, or without content.
    #[error("it sent what is no piece of a process's output")]
    Piece,
}

/// Connects the two ends until the process has ended. The guest has said whose streams these are.
///
/// # Errors
/// [`Broken`], if the guest is none of ours or is gone.
pub async fn connect(
    (input, output): (&mut mpsc::Receiver<Input>, &mpsc::Sender<Shown>),
    to_guest: mpsc::Sender<Result<ToTerminal, Status>>,
    mut from_guest: Streaming<FromTerminal>,
) -> Result<End, Broken> {
    let typing = async {
        while let Some(input) = input.recv().await {
            if to_guest.send(Ok(typed(input))).await.is_err() {
                break;
            }
        }
        // It is the process that ends the conversation.
        std::future::pending().await
    };
    tokio::select! {
        end = show(&mut from_guest, output) => end,
        end = typing => end,
    }
}

fn typed(input: Input) -> ToTerminal {
    let message = match input {
        Input::Data(data) => to_terminal::Message::Input(data),
        Input::End => to_terminal::Message::EndOfInput(Empty {}),
        Input::Resize(rows, columns) => to_terminal::Message::Resized(WindowSize {
            rows: rows.into(),
            columns: columns.into(),
        }),
    };
    ToTerminal {
        message: Some(message),
    }
}

async fn show(
    guest: &mut Streaming<FromTerminal>,
    output: &mpsc::Sender<Shown>,
) -> Result<End, Broken> {
    while let Ok(Some(FromTerminal { message })) = guest.message().await {
        let shown = match message {
            Some(from_terminal::Message::Output(output)) => piece(output)?,
            Some(from_terminal::Message::Exited(Exited { exit: Some(exit) })) => {
                return Ok(End::Exited(exit));
            }
            Some(from_terminal::Message::Failed(failed)) => return Ok(End::Failed(failed)),
            _ => return Err(Broken::Piece),
        };
        if output.send(shown).await.is_err() {
            return Ok(End::Unseen);
        }
    }
    Err(Broken::Early)
}

fn piece(Output { stream, data }: Output) -> Result<Shown, Broken> {
    match output::Stream::try_from(stream) {
        _ if data.len() > LARGEST_PIECE => Err(Broken::Piece),
        Ok(output::Stream::Stdout) => Ok(Shown::Stdout(data)),
        Ok(output::Stream::Stderr) => Ok(Shown::Stderr(data)),
        Err(_) => Err(Broken::Piece),
    }
}
