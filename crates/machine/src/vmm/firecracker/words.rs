//! What Firecracker says: its log, through a pipe in the jail, of which the last bytes are kept in
//! memory. A pipe cannot fill a disk, and Firecracker drops what nobody takes.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::net::unix::pipe::{OpenOptions, Receiver};
use tokio::task::AbortHandle;

use crate::vmm::console::Recent;

/// The reading end of Firecracker's log. Reading ends with it.
#[derive(Debug)]
pub(super) struct Words {
    pipe: Arc<Receiver>,
    recent: Recent,
    reading: AbortHandle,
}

impl Drop for Words {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Opens the pipe before Firecracker does, so that nothing of the log is lost.
pub(super) fn open(pipe: &Path) -> io::Result<Receiver> {
    // As a writer, too: the pipe does not end before there is another one, nor after it.
    OpenOptions::new().read_write(true).open_receiver(pipe)
}

impl Words {
    /// Reads what comes to `recent`.
    pub(super) fn read(pipe: Receiver, recent: Recent) -> Self {
        let pipe = Arc::new(pipe);
        let (from, to) = (Arc::clone(&pipe), recent.clone());
        let reading = tokio::spawn(async move {
            while from.readable().await.is_ok() && take(&from, &to).is_ok() {}
        });
        Self {
            pipe,
            recent,
            reading: reading.abort_handle(),
        }
    }

    /// Takes what is there by now.
    pub(super) fn catch_up(&self) {
        // There may be nothing.
        let _ = take(&self.pipe, &self.recent);
    }
}

fn take(pipe: &Receiver, recent: &Recent) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match pipe.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => recent.push(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
