//! `firebuild cp`: files from a running microVM to the host, and back.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use clap::Args;
use firebuild_machine::Host;
use firebuild_machine::conversation::{self, Ending};
use firebuild_machine::record::Exit;
use firebuild_machine::terminal::{Input, LARGEST_PIECE, Shown};
use firebuild_protocol::files::{self, Condenser, Destination, Expander};
use firebuild_protocol::task::Task;
use tokio::sync::mpsc;

use super::{Global, block_on};
use crate::error::hinted;

const EXAMPLES: &str = "\
Examples:
  firebuild cp web:/etc/nginx ./nginx        the directory as ./nginx, or in it if it is there
  firebuild cp ./site/. web:/srv             what ./site holds, into /srv
  firebuild cp web:/var/log - | tar t        an archive on standard output
  tar c . | firebuild cp - web:/srv          and one from standard input

Owners, modes, times, links and holes stay as they are. Devices stay in their microVM.";

/// How many pieces wait between the connection and the files.
const WAITING: usize = 2;

#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLES,
    override_usage = "firebuild cp [OPTIONS] VM:PATH PATH|-\n       firebuild cp [OPTIONS] PATH|- VM:PATH"
)]
pub(crate) struct Cp {
    /// Copy what a link leads to, if the source is one
    #[arg(long, short = 'L')]
    follow_link: bool,
    /// Changes nothing: owners are always kept
    #[arg(long, short)]
    archive: bool,
    /// Changes nothing: there is no progress to be shown
    #[arg(long, short)]
    quiet: bool,
    /// What to copy: a path, VM:PATH, or `-` for an archive on standard input
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Where to: a path, VM:PATH, or `-` for an archive on standard output
    #[arg(value_name = "DESTINATION")]
    destination: String,
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    /// Standard input or output.
    Stream,
    /// A path of the host.
    Host(&'a str),
    /// A microVM, and an absolute path in it.
    Guest(&'a str, String),
}

impl<'a> Side<'a> {
    fn parse(text: &'a str) -> Self {
        match text.split_once(':') {
            _ if text == "-" => Self::Stream,
            Some((vm, path)) if !vm.is_empty() && !vm.contains('/') && !vm.starts_with('.') => {
                Self::Guest(vm, format!("/{}", path.trim_start_matches('/')))
            }
            _ => Self::Host(text),
        }
    }
}

impl Cp {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let host = Host::new(global.store()?);
        let contents = means_contents(&self.source);
        match (Side::parse(&self.source), Side::parse(&self.destination)) {
            (Side::Guest(vm, path), to @ (Side::Host(_) | Side::Stream)) => {
                let follow = self.follow_link;
                bring(&host, vm, &Task::Pack { path, follow }, to, contents)
            }
            (from @ (Side::Host(_) | Side::Stream), Side::Guest(vm, path)) => {
                let task = Task::Unpack {
                    path,
                    contents,
                    archive: from == Side::Stream,
                };
                send(&host, vm, &task, from, self.follow_link)
            }
            (Side::Guest(..), Side::Guest(..)) => Err(hinted(
                "both sides are in a microVM",
                "connect two: `firebuild cp ONE:PATH - | firebuild cp - OTHER:PATH`",
            )),
            _ => Err(hinted(
                "neither side is in a microVM",
                "write one of them as VM:PATH",
            )),
        }
    }
}

/// Whether it is what a directory holds.
fn means_contents(path: &str) -> bool {
    path == "." || path.ends_with("/.") || path.ends_with(":.")
}

/// From the guest to the host.
fn bring(host: &Host, vm: &str, task: &Task, to: Side<'_>, contents: bool) -> anyhow::Result<()> {
    let (output, shown) = mpsc::channel(WAITING);
    let (_typed, input) = mpsc::channel(1);
    let said = Complaints::default();
    let mut reader = Expander::new(Shows::new(shown, said.clone()));
    let destination = match to {
        Side::Host(path) => Some(Destination {
            path: PathBuf::from(path),
            contents,
            archive: false,
            trusted: false,
        }),
        _ => None,
    };
    let writing = std::thread::spawn(move || match destination {
        Some(destination) => {
            files::unpack(&mut reader, &destination)?;
            // To the end of the archive's padding.
            io::copy(&mut reader, &mut io::sink()).map(drop)
        }
        None => {
            let mut stdout = io::stdout().lock();
            io::copy(&mut reader, &mut stdout)?;
            stdout.flush()
        }
    });
    let ended = converse(host, vm, task, input, output);
    let written = writing.join();
    let written = written.unwrap_or_else(|_| Err(io::Error::other("the copy broke off")));
    finish(ended, &said, written)
}

/// From the host to the guest.
fn send(host: &Host, vm: &str, task: &Task, from: Side<'_>, follow: bool) -> anyhow::Result<()> {
    let source = match from {
        Side::Host(path) => {
            let path = PathBuf::from(path);
            fs_err::symlink_metadata(&path)?;
            Some(path)
        }
        _ => None,
    };
    let (typed, input) = mpsc::channel(WAITING);
    let (output, shown) = mpsc::channel(WAITING);
    let said = Complaints::default();
    let mut reader = Shows::new(shown, said.clone());
    let reading = std::thread::spawn(move || {
        let mut writer = Condenser::new(Types(typed));
        match source {
            Some(source) => drop(files::pack(&source, follow, &mut writer)?),
            None => drop(io::copy(&mut io::stdin().lock(), &mut writer)?),
        }
        writer.finish()?.end()
    });
    let listening = std::thread::spawn(move || io::copy(&mut reader, &mut io::sink()));
    let ended = converse(host, vm, task, input, output);
    let _ = listening.join();
    if ended.is_err() {
        // It may wait for more of standard input, which nobody wants.
        return finish(ended, &said, Ok(()));
    }
    let is_well = matches!(ended, Ok(Ending::Exited(Exit::Status(0))));
    let read = if is_well || reading.is_finished() {
        let read = reading.join();
        read.unwrap_or_else(|_| Err(io::Error::other("the copy broke off")))
    } else {
        Ok(())
    };
    finish(ended, &said, read)
}

fn converse(
    host: &Host,
    vm: &str,
    task: &Task,
    input: mpsc::Receiver<Input>,
    output: mpsc::Sender<Shown>,
) -> anyhow::Result<Ending> {
    block_on(async {
        let conversation = conversation::begin(host, vm, task).await?;
        Ok(conversation.connect(input, output).await?)
    })?
}

/// What is to be said of it: what the guest complains of, else what went wrong here.
fn finish(
    ended: anyhow::Result<Ending>,
    said: &Complaints,
    here: io::Result<()>,
) -> anyhow::Result<()> {
    let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    match (ended?, here) {
        (Ending::Exited(Exit::Status(0)), here) => Ok(here?),
        (Ending::Left, Err(error)) if !broken(&error) => Err(error.into()),
        _ => {
            let said = said.0.lock().unwrap_or_else(PoisonError::into_inner);
            let text = String::from_utf8_lossy(&said);
            let line = text.lines().next().unwrap_or("the copy broke off");
            let line = firebuild_core::printable(line, 1000);
            Err(anyhow::anyhow!("the guest: {line}"))
        }
    }
}

/// The beginning of what a guest complains of.
#[derive(Debug, Clone, Default)]
struct Complaints(Arc<Mutex<Vec<u8>>>);

/// Reads what a guest writes.
struct Shows {
    shown: mpsc::Receiver<Shown>,
    current: Bytes,
    said: Complaints,
}

impl Shows {
    fn new(shown: mpsc::Receiver<Shown>, said: Complaints) -> Self {
        Self {
            shown,
            current: Bytes::new(),
            said,
        }
    }
}

impl Read for Shows {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.shown.blocking_recv() {
                Some(Shown::Stdout(data)) => self.current = data,
                Some(Shown::Stderr(data)) => {
                    let mut said = self.said.0.lock().unwrap_or_else(PoisonError::into_inner);
                    let room = 4096_usize.saturating_sub(said.len());
                    said.extend(&data[..data.len().min(room)]);
                }
                Some(Shown::End) | None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}

/// Types what is written.
struct Types(mpsc::Sender<Input>);

impl Types {
    fn end(self) -> io::Result<()> {
        let sent = self.0.blocking_send(Input::End);
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Types {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let piece = &data[..data.len().min(LARGEST_PIECE)];
        let sent = self
            .0
            .blocking_send(Input::Data(Bytes::copy_from_slice(piece)));
        match sent {
            Ok(()) => Ok(piece.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a task writes, whole, as far as that is no more than `most` bytes.
pub(super) fn gather(host: &Host, vm: &str, task: &Task, most: u64) -> anyhow::Result<Vec<u8>> {
    let (output, shown) = mpsc::channel(WAITING);
    let (_typed, input) = mpsc::channel(1);
    let said = Complaints::default();
    let reader = Shows::new(shown, said.clone());
    let reading = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = reader.take(most).read_to_end(&mut bytes);
        read.map(|_| bytes)
    });
    let ended = converse(host, vm, task, input, output);
    let read = reading.join();
    let read = read.unwrap_or_else(|_| Err(io::Error::other("a thread broke off")));
    finish(ended, &said, Ok(()))?;
    Ok(read?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart() {
        let guest = |vm, path: &str| Side::Guest(vm, path.to_owned());
        for (text, expected) in [
            ("-", Side::Stream),
            ("web:/etc", guest("web", "/etc")),
            ("web:etc/.", guest("web", "/etc/.")),
            ("web:", guest("web", "/")),
            ("/a:b", Side::Host("/a:b")),
            ("./a:b", Side::Host("./a:b")),
            (":b", Side::Host(":b")),
            ("file", Side::Host("file")),
        ] {
            assert_eq!(Side::parse(text), expected, "{text}");
        }
        for (path, expected) in [("a/.", true), (".", true), ("vm:.", true), ("a.", false)] {
            assert_eq!(means_contents(path), expected, "{path}");
        }
    }
}
