//! This command's standard streams as those of a process in a guest: its terminal, if input and
//! output are one, and else whatever they are.
//!
//! Reading and writing may take for ever, so each has a thread; what passes between those and the
//! rest is bounded. The reader takes nothing more once the process has ended: what is typed then is
//! for whoever reads next.

use std::io::{self, IsTerminal as _, PipeReader, PipeWriter};

use bytes::Bytes;
use firebuild_machine::terminal::{Input, Shown, UserEnd};
use firebuild_protocol::command::Terminal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::raw::{self, Raw};

/// How many pieces may wait, in each direction.
const WAITING: usize = 2;
/// The largest piece that is read at once, in bytes.
const PIECE: usize = 16 << 10;

/// What is given back when the process has ended.
#[derive(Debug)]
struct Guard {
    _raw: Option<Raw>,
    /// The reader stops when this is closed.
    _reading: PipeWriter,
}

/// What a process is to have of the standard streams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Whether it reads what is typed.
    pub(crate) input: bool,
    /// Whether it has a terminal.
    pub(crate) terminal: bool,
}

/// Takes the standard streams for a process that reads, with a terminal if they are one. To be called
/// within the runtime.
pub(crate) fn take() -> io::Result<UserEnd> {
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    take_wanted(Wanted {
        input: true,
        terminal: is_terminal,
    })
}

/// Takes what is wanted of the standard streams. To be called within the runtime.
pub(crate) fn take_wanted(wanted: Wanted) -> io::Result<UserEnd> {
    let (stop, reading) = io::pipe()?;
    let (typed, input) = mpsc::channel(WAITING);
    let (output, shown) = mpsc::channel(WAITING);
    let terminal = if wanted.terminal {
        follow_size(typed.clone())?;
        Some(terminal())
    } else {
        None
    };
    let is_raw = wanted.terminal && wanted.input && io::stdin().is_terminal();
    let raw = is_raw.then(Raw::enter).transpose()?;
    if wanted.input {
        std::thread::spawn(move || read(&stop, &typed));
    }
    std::thread::spawn(move || write(shown));
    let guard = Guard {
        _raw: raw,
        _reading: reading,
    };
    Ok(UserEnd {
        terminal,
        input,
        output,
        guard: Box::new(guard),
    })
}

/// The terminal that standard output is, or one of the usual size.
pub(crate) fn terminal() -> Terminal {
    let (rows, columns) = raw::size();
    let kind = std::env::var("TERM").unwrap_or_default();
    Terminal {
        kind: if kind.is_empty() {
            "dumb".to_owned()
        } else {
            kind
        },
        rows,
        columns,
    }
}

/// Tells of every new size, as long as somebody listens.
fn follow_size(typed: mpsc::Sender<Input>) -> io::Result<()> {
    let mut changes = signal(SignalKind::window_change())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = typed.closed() => return,
                change = changes.recv() => if change.is_none() {
                    return;
                },
            }
            let (rows, columns) = raw::size();
            if typed.send(Input::Resize(rows, columns)).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Reads until there is nothing more to read, or until nobody wants it.
fn read(stop: &PipeReader, typed: &mpsc::Sender<Input>) {
    let stdin = io::stdin();
    let mut buffer = vec![0; PIECE];
    loop {
        let mut awaited = [
            PollFd::new(&stdin, PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
        ];
        match poll(&mut awaited, None) {
            Err(Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) if !awaited[1].revents().is_empty() => return,
            Ok(_) => {}
        }
        let input = match rustix::io::read(&stdin, &mut buffer) {
            Err(Errno::INTR | Errno::AGAIN) => continue,
            Ok(0) | Err(_) => Input::End,
            Ok(length) => Input::Data(Bytes::copy_from_slice(&buffer[..length])),
        };
        let is_last = input == Input::End;
        if typed.blocking_send(input).is_err() || is_last {
            return;
        }
    }
}

/// Writes until the end, or until nobody reads.
fn write(mut shown: mpsc::Receiver<Shown>) {
    while let Some(shown) = shown.blocking_recv() {
        let written = match shown {
            Shown::Stdout(data) => write_all(io::stdout().lock(), &data),
            Shown::Stderr(data) => write_all(io::stderr().lock(), &data),
            Shown::End => return,
        };
        if written.is_err() {
            return;
        }
    }
}

fn write_all(mut output: impl io::Write, data: &[u8]) -> io::Result<()> {
    output.write_all(data)?;
    output.flush()
}
