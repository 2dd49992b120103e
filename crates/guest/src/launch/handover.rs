//! What the process in between hands over to the agent, on the socket that its launch came from.
//!
//! Descriptors come each kind in a message of its own, with one byte that names the kind; what
//! follows, to the end, is the report of a failure.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;

use super::namespaces::{self, Namespaces};

/// The largest report of a failed launch, in bytes.
const LARGEST_REPORT: usize = 64 << 10;

/// What descriptors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// The namespaces with the root.
    Namespaces = b'N',
    /// The other end of the standard input, or of the terminal.
    OtherEnd = b'E',
}

/// What came.
#[derive(Default)]
pub(super) struct Received {
    pub(super) namespaces: Option<Namespaces>,
    pub(super) other_end: Option<OwnedFd>,
    /// Empty if the program was executed.
    pub(super) report: Vec<u8>,
}

/// Hands descriptors over; to be called before anything is reported.
pub(super) fn give(
    socket: &UnixStream,
    kind: Kind,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(namespaces::MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let name = [kind as u8];
    sendmsg(
        socket,
        &[IoSlice::new(&name)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Receives everything, to the end.
pub(super) async fn receive(socket: &tokio::net::UnixStream) -> io::Result<Received> {
    let mut received = Received::default();
    let mut buffer = [0; 4096];
    while received.report.len() < LARGEST_REPORT {
        let piece = socket.async_io(Interest::READABLE, || take(socket, &mut buffer));
        let (length, descriptors) = match piece.await {
            // A process that died at once has not read all of its launch.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            other => other?,
        };
        match buffer.get(..length) {
            None | Some([]) => break,
            Some([kind]) if !descriptors.is_empty() => received.keep(*kind, descriptors),
            Some(text) => received.report.extend_from_slice(text),
        }
    }
    Ok(received)
}

fn take(socket: &tokio::net::UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(namespaces::MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(
        socket,
        &mut [IoSliceMut::new(buffer)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            descriptors.extend(more);
        }
    }
    Ok((message.bytes, descriptors))
}

impl Received {
    fn keep(&mut self, kind: u8, mut descriptors: Vec<OwnedFd>) {
        if kind == Kind::Namespaces as u8 {
            self.namespaces = Some(Namespaces::of(descriptors));
        } else if kind == Kind::OtherEnd as u8 {
            self.other_end = descriptors.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn descriptors_and_the_report_arrive_apart() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let (mut read, write) = io::pipe().unwrap();
        let own = Namespaces::own().unwrap();
        own.give(&ours).unwrap();
        give(&ours, Kind::OtherEnd, &[write.as_fd()]).unwrap();
        ours.write_all(b"N is how the report begins").unwrap();
        drop((ours, write));
        theirs.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let received = runtime.block_on(async {
            let theirs = tokio::net::UnixStream::from_std(theirs).unwrap();
            receive(&theirs).await.unwrap()
        });
        assert_eq!(received.report, b"N is how the report begins");
        let links = |namespaces: &Namespaces| {
            let paths = namespaces.paths();
            let links = paths.iter().map(|path| fs_err::read_link(path).unwrap());
            links.collect::<Vec<_>>()
        };
        assert_eq!(links(&received.namespaces.unwrap()), links(&own));
        let mut other = std::fs::File::from(received.other_end.unwrap());
        other.write_all(b"through").unwrap();
        drop(other);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }
}
