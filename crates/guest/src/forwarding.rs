//! What a process writes, on its way to the host.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};

use crate::launch::Terminal;

/// The end of a stream that a process writes to.
pub(crate) trait Written: Send {
    /// What was written next; nothing once nobody can write any more.
    fn next(&mut self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;

    /// The same, of what is there now.
    fn now(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
}

impl Written for pipe::Receiver {
    async fn next(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(buffer).await
    }

    fn now(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // The kernel is asked, and not what the runtime knows: a process that was quick may have
        // ended before the runtime has heard that there is something to read.
        Ok(rustix::io::read(&*self, buffer)?)
    }
}

impl Written for Arc<Terminal> {
    async fn next(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Terminal::read(self, buffer).await
    }

    fn now(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Terminal::try_read(self, buffer)
    }
}

/// Sends what is written as it comes, in pieces of at most `piece` bytes, until its end or, when the
/// process has ended, until there is none at the moment. A host that does not take it holds the process
/// up; one that is gone ends it.
pub(crate) async fn forward<M>(
    mut written: impl Written,
    piece: usize,
    to_host: mpsc::Sender<M>,
    mut ended: watch::Receiver<bool>,
    message: impl Fn(Bytes) -> M,
) {
    let mut buffer = vec![0; piece];
    loop {
        let read = tokio::select! {
            biased;
            read = written.next(&mut buffer) => read.unwrap_or(0),
            _ = ended.wait_for(|ended| *ended) => written.now(&mut buffer).unwrap_or(0),
        };
        let bytes = Bytes::copy_from_slice(&buffer[..read]);
        if read == 0 || to_host.send(message(bytes)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn what_was_written_is_there_before_the_runtime_knows_of_it() {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(async {
            let (read, mut write) = io::pipe().unwrap();
            let mut read = pipe::Receiver::from_owned_fd(OwnedFd::from(read)).unwrap();
            write.write_all(b"quick").unwrap();
            let mut buffer = [0; 16];
            assert_eq!(read.now(&mut buffer).unwrap(), 5);
            let nothing = read.now(&mut buffer).unwrap_err();
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        });
    }
}
