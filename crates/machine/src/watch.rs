//! Waiting for changes of the files in a directory, without looking again and again.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::io::Errno;

/// Watches the files in a directory.
#[derive(Debug)]
pub(crate) struct Watch(OwnedFd);

impl Watch {
    /// Watches from now on.
    ///
    /// # Errors
    /// There is no such directory, or this user watches too many.
    pub(crate) fn of(directory: &Path) -> io::Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let watch = inotify::init(flags)?;
        let changes = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&watch, directory, changes)?;
        Ok(Self(watch))
    }

    /// Waits for a change since the last call, or until `limit`, or until `other` can be read. Returns
    /// whether there was a change.
    pub(crate) fn wait(
        &mut self,
        limit: Option<Timestamp>,
        other: Option<BorrowedFd<'_>>,
    ) -> io::Result<bool> {
        let mut ends = vec![PollFd::new(&self.0, PollFlags::IN)];
        ends.extend(other.map(|other| PollFd::from_borrowed_fd(other, PollFlags::IN)));
        loop {
            let rest = limit.map(until);
            match poll(&mut ends, rest.as_ref()) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
        let changed = !ends[0].revents().is_empty();
        if changed {
            self.drain();
        }
        Ok(changed)
    }

    /// Forgets which changes there were: who waited looks at everything.
    fn drain(&self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(self.0.as_fd(), &mut buffer);
        while events.next().is_ok() {}
    }
}

fn until(limit: Timestamp) -> Timespec {
    let rest = limit.duration_since(Timestamp::now());
    let rest = std::time::Duration::try_from(rest).unwrap_or_default();
    Timespec::try_from(rest).unwrap_or(Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    })
}
