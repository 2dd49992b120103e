//! A person's conversation with a process: what is typed comes from the host, what is written goes
//! there, over any service's `Terminal` call.
//!
//! Neither side gets ahead of the other: the next piece is read when the last one was taken.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use firebuild_protocol::v1::exit::How;
use firebuild_protocol::v1::{
    Exit, Exited, Failed, FromTerminal, Opened, Output, Started, ToTerminal, WindowSize,
    from_terminal, output, to_terminal,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};
use tonic::Streaming;

use crate::error::{Doing as _, Result};
use crate::forwarding::forward;
use crate::launch::{Refusal, Running, Streams, Terminal};
use crate::reaper::{self, Child};

/// How many messages may wait for the host.
pub(crate) const WAITING: usize = 2;
/// The largest piece of output in one message, in bytes.
const PIECE: usize = 16 << 10;
/// How long the host may take to end its half of the conversation after the last message.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long a process may go on that was hung up on.
const HANGING: Duration = Duration::from_secs(10);
const HANG_UP: u32 = 1;
const KILL: u32 = 9;
/// What a terminal takes for the end of the input, unless it was told otherwise: Ctrl-D.
pub(crate) const END_OF_INPUT: &[u8] = &[4];

/// The agent's end of the process's streams.
enum End {
    Pipes {
        input: Option<pipe::Sender>,
        output: [(pipe::Receiver, output::Stream); 2],
    },
    Terminal(Arc<Terminal>),
}

/// Both directions of a `Terminal` call.
pub(crate) type Ends = (mpsc::Sender<FromTerminal>, Streaming<ToTerminal>);

/// The first message: whose streams these are.
pub(crate) fn opened(command: u32) -> FromTerminal {
    message(from_terminal::Message::Opened(Opened { command }))
}

/// Says that the process runs.
pub(crate) fn started(pid: u32) -> FromTerminal {
    message(from_terminal::Message::Started(Started { pid }))
}

/// A piece of standard output.
pub(crate) fn written(data: &[u8]) -> FromTerminal {
    saying(output::Stream::Stdout)(Bytes::copy_from_slice(data))
}

/// Says that a task is done.
pub(crate) async fn end(to_host: mpsc::Sender<FromTerminal>, from_host: Streaming<ToTerminal>) {
    let how = Some(How::Status(0));
    let exit = Some(Exit { how });
    let exited = from_terminal::Message::Exited(Exited { exit });
    say_last(exited, to_host, fill(None, from_host)).await;
}

/// Says that a process runs that nobody stays with.
pub(crate) async fn leave(
    pid: u32,
    to_host: mpsc::Sender<FromTerminal>,
    from_host: Streaming<ToTerminal>,
) {
    let started = from_terminal::Message::Started(Started { pid });
    say_last(started, to_host, fill(None, from_host)).await;
}

/// Says why there is no process.
pub(crate) async fn refuse(
    refusal: Refusal,
    to_host: mpsc::Sender<FromTerminal>,
    from_host: Streaming<ToTerminal>,
) {
    let (error, status) = match refusal {
        Refusal::Agent(error) => (error, 0),
        Refusal::Program(error, status) => (error, status),
    };
    let failed = from_terminal::Message::Failed(Failed { error, status });
    say_last(failed, to_host, fill(None, from_host)).await;
}

/// Says the last thing, and waits until the host has ended its half as well: what is under way is
/// lost when the guest's half is gone before.
async fn say_last(
    last: from_terminal::Message,
    to_host: mpsc::Sender<FromTerminal>,
    until: impl Future,
) {
    if to_host.send(message(last)).await.is_ok() {
        drop(to_host);
        let _ = tokio::time::timeout(FAREWELL, until).await;
    }
}

fn message(message: from_terminal::Message) -> FromTerminal {
    FromTerminal {
        message: Some(message),
    }
}

/// Passes on what is typed and written, until the process has ended. Its end is the last message.
/// Once `hung_up` resolves nobody looks any more, and the process is made to end.
pub(crate) async fn converse(
    running: Running,
    streams: Streams,
    (to_host, from_host): Ends,
    hung_up: impl Future<Output = ()>,
) -> Result<Exit> {
    let Running {
        mut child,
        stdout,
        stderr,
        other_end,
    } = running;
    let output = [
        (stdout, output::Stream::Stdout),
        (stderr, output::Stream::Stderr),
    ];
    let end = agents_end(streams, other_end, output)?;
    let (ended, watching) = watch::channel(false);
    let (typing, writing) = match end {
        End::Terminal(terminal) => {
            let typing = tokio::spawn(type_into(Arc::clone(&terminal), from_host));
            let said = saying(output::Stream::Stdout);
            let writing = forward(terminal, PIECE, to_host.clone(), watching, said);
            (typing, vec![tokio::spawn(writing)])
        }
        End::Pipes { input, output } => {
            let forward = |(pipe, stream)| {
                let (to_host, watching) = (to_host.clone(), watching.clone());
                tokio::spawn(forward(pipe, PIECE, to_host, watching, saying(stream)))
            };
            (
                tokio::spawn(fill(input, from_host)),
                output.map(forward).into(),
            )
        }
    };
    let exit = tokio::select! {
        biased;
        exit = child.exited() => Some(exit),
        () = hung_up => None,
    };
    let is_seen = exit.is_some();
    let exit = match exit {
        Some(exit) => exit,
        None => hang_up(&mut child).await,
    };
    ended.send_replace(true);
    for writing in writing {
        let _ = writing.await;
    }
    if is_seen {
        let exited = from_terminal::Message::Exited(Exited { exit: Some(exit) });
        say_last(exited, to_host, typing).await;
    }
    Ok(exit)
}

/// Ends a process that nobody has come to look at.
pub(crate) async fn abandon(mut running: Running) {
    hang_up(&mut running.child).await;
}

/// Ends a process that nobody looks at any more, as the end of a connection does: it may put its
/// things in order, but not for long.
async fn hang_up(child: &mut Child) -> Exit {
    reaper::send_to_group(child.pid(), HANG_UP);
    match tokio::time::timeout(HANGING, child.exited()).await {
        Ok(exit) => exit,
        Err(_) => {
            reaper::send_to_group(child.pid(), KILL);
            child.exited().await
        }
    }
}

fn agents_end(
    streams: Streams,
    other_end: Option<OwnedFd>,
    output: [(pipe::Receiver, output::Stream); 2],
) -> Result<End> {
    let doing = || "listen to a process's streams".to_owned();
    Ok(match (streams, other_end) {
        (Streams::Terminal { .. }, Some(end)) => {
            End::Terminal(Arc::new(Terminal::new(end).doing(doing)?))
        }
        (_, end) => End::Pipes {
            input: end
                .map(pipe::Sender::from_owned_fd)
                .transpose()
                .doing(doing)?,
            output,
        },
    })
}

/// Types what the host says. What nobody reads any more is dropped.
async fn type_into(terminal: Arc<Terminal>, mut from_host: Streaming<ToTerminal>) {
    while let Ok(Some(told)) = from_host.message().await {
        let _ = match told.message {
            Some(to_terminal::Message::Input(data)) => terminal.write_all(&data).await,
            Some(to_terminal::Message::EndOfInput(_)) => terminal.write_all(END_OF_INPUT).await,
            Some(to_terminal::Message::Resized(WindowSize { rows, columns })) => {
                let narrow = |size| u16::try_from(size).unwrap_or(u16::MAX);
                terminal.resize(narrow(rows), narrow(columns))
            }
            None => Ok(()),
        };
    }
}

/// The same for a pipe, which is closed at the input's end.
async fn fill(mut input: Option<pipe::Sender>, mut from_host: Streaming<ToTerminal>) {
    while let Ok(Some(told)) = from_host.message().await {
        input = match (told.message, input) {
            (Some(to_terminal::Message::Input(data)), Some(pipe)) => fed(pipe, &data).await,
            (Some(to_terminal::Message::EndOfInput(_)), _) => None,
            (_, input) => input,
        };
    }
}

/// The pipe, as long as the process reads.
async fn fed(mut pipe: pipe::Sender, data: &[u8]) -> Option<pipe::Sender> {
    pipe.write_all(data).await.ok().map(|()| pipe)
}

/// The message that a piece of output is.
fn saying(stream: output::Stream) -> impl Fn(Bytes) -> FromTerminal {
    move |data| {
        let stream = stream.into();
        message(from_terminal::Message::Output(Output { stream, data }))
    }
}
