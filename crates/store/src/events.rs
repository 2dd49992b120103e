//! The log of what happened: lines that whoever did something appends, and that anybody follows.
//!
//! There is no process whose log this is. A line is appended under a lock, in one piece; what a writer
//! that died left behind is closed by the next. The log has [`LIMIT`] bytes, then it becomes
//! `events.log.old` and a new one begins: so the last lines are there, and never more than twice that.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;

use crate::Store;
use crate::error::{Doing, Result};
use crate::lock::Mode;

/// How many bytes the log has at most before a new one begins.
pub(crate) const LIMIT: u64 = 1 << 20;

/// How many bytes a line has at most; of a longer one, nothing is kept.
pub(crate) const LINE: usize = 8 << 10;

/// Where the log is in the store.
pub(crate) const DIRECTORY: &str = "events";

/// The log of what happened. See [`Store::events`].
#[derive(Debug)]
pub struct Events<'a> {
    store: &'a Store,
}

/// Reads the log, as far as there is any, and goes on when there is more.
#[derive(Debug)]
pub struct EventReader {
    directory: PathBuf,
    file: Option<File>,
    /// What was read and is no whole line yet.
    rest: Vec<u8>,
    has_begun: bool,
}

impl<'a> Events<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// The directory of the log, for who waits for more.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.store.path().join(DIRECTORY)
    }

    /// Appends a line, which has no line feed. One that is too long is left out.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::NoSpace`](crate::Error::NoSpace).
    pub fn append(&self, line: &str) -> Result<()> {
        if line.len() > LINE {
            return Ok(());
        }
        let _lock = self.store.lock("events", Mode::Exclusive)?;
        let path = self.directory().join(NAME);
        let doing = || format!("write `{}`", path.display());
        let open = || {
            let mut options = fs_err::OpenOptions::new();
            options.read(true).append(true).create(true).open(&path)
        };
        let mut file = open().writing(self.store.path(), doing)?;
        let mut size = file.metadata().doing(doing)?.len();
        if size + line.len() as u64 > LIMIT {
            fs_err::rename(&path, self.directory().join(OLD)).doing(doing)?;
            file = open().writing(self.store.path(), doing)?;
            size = 0;
        }
        let mut last = [b'\n'];
        if let Some(at) = size.checked_sub(1) {
            file.file().read_exact_at(&mut last, at).doing(doing)?;
        }
        let torn = if last == [b'\n'] { "" } else { "\n" };
        let text = format!("{torn}{line}\n");
        file.write_all(text.as_bytes())
            .writing(self.store.path(), doing)
    }

    /// A reader of the log from the oldest line that is kept.
    #[must_use]
    pub fn read(&self) -> EventReader {
        EventReader {
            directory: self.directory(),
            file: None,
            rest: Vec::new(),
            has_begun: false,
        }
    }
}

const NAME: &str = "events.log";
const OLD: &str = "events.log.old";

impl EventReader {
    /// The lines that have come since the last call, the oldest first. A writer may have turned the
    /// log over since: what it dropped is missing.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn lines(&mut self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        if !self.has_begun {
            self.has_begun = true;
            self.file = self.open(OLD)?;
        }
        loop {
            self.take(&mut lines)?;
            // Looked for after the last look at the one before, which nobody writes to any more.
            let Some(next) = self.next_file()? else {
                return Ok(lines);
            };
            self.take(&mut lines)?;
            self.rest.clear();
            self.file = Some(next);
        }
    }

    /// The log, if that is another file than the one that is being read.
    fn next_file(&self) -> Result<Option<File>> {
        let Some(current) = self.open(NAME)? else {
            return Ok(None);
        };
        let number = |file: &File| file.metadata().map(|it| (it.dev(), it.ino()));
        let doing = || format!("read `{}`", self.directory.join(NAME).display());
        let is_same = match &self.file {
            Some(file) => number(file).doing(doing)? == number(&current).doing(doing)?,
            None => false,
        };
        Ok((!is_same).then_some(current))
    }

    fn open(&self, name: &str) -> Result<Option<File>> {
        let path = self.directory.join(name);
        match fs_err::File::open(&path) {
            Ok(file) => Ok(Some(file.into_parts().0)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing(|| format!("read `{}`", path.display())),
        }
    }

    /// Takes what the file has beyond what was read.
    fn take(&mut self, lines: &mut Vec<String>) -> Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let doing = || "read the log of events".to_owned();
        // The log is bounded, and so is this.
        file.take(2 * LIMIT)
            .read_to_end(&mut self.rest)
            .doing(doing)?;
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line[..end]).into_owned());
        }
        Ok(())
    }

    /// Leaves out everything that is there now.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn skip(&mut self) -> Result<()> {
        self.has_begun = true;
        self.file = self.open(NAME)?;
        if let Some(file) = &mut self.file {
            let doing = || "read the log of events".to_owned();
            file.seek(SeekFrom::End(0)).doing(doing)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_write_and_all_is_read_once_in_order() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let mut early = store.events().read();
        assert!(early.lines().unwrap().is_empty());
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let store = &store;
                scope.spawn(move || {
                    for number in 0..100 {
                        store
                            .events()
                            .append(&format!("{writer} {number}"))
                            .unwrap();
                    }
                });
            }
        });
        let lines = early.lines().unwrap();
        assert_eq!(lines.len(), 800);
        for writer in 0..8 {
            let of: Vec<&String> = lines
                .iter()
                .filter(|line| line.starts_with(&format!("{writer} ")))
                .collect();
            assert!((0..100).all(|number| *of[number] == format!("{writer} {number}")));
        }
        assert!(early.lines().unwrap().is_empty());
        let mut late = store.events().read();
        late.skip().unwrap();
        store.events().append("more").unwrap();
        assert_eq!(late.lines().unwrap(), ["more"]);
        assert_eq!(early.lines().unwrap(), ["more"]);
    }

    #[test]
    fn the_log_is_bounded_and_a_follower_misses_nothing() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let mut follower = store.events().read();
        let mut followed = 0;
        let text = "x".repeat(LINE - 10);
        for number in 0..400 {
            store.events().append(&format!("{number} {text}")).unwrap();
            if number % 50 == 0 {
                followed += follower.lines().unwrap().len();
            }
        }
        followed += follower.lines().unwrap().len();
        assert_eq!(followed, 400);
        store.events().append(&"y".repeat(LINE + 1)).unwrap();
        assert!(follower.lines().unwrap().is_empty());
        let sizes: Vec<u64> = fs_err::read_dir(store.events().directory())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        assert!(sizes.len() == 2 && sizes.iter().all(|size| *size <= LIMIT + 1));
        let late = store.events().read().lines().unwrap();
        assert!(late.len() > 128 && late[late.len() - 1].starts_with("399 "));
    }

    #[test]
    fn half_a_line_hurts_only_itself() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        store.events().append("one").unwrap();
        let path = store.events().directory().join(NAME);
        let mut file = fs_err::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"half \xff").unwrap();
        store.events().append("two").unwrap();
        let lines = store.events().read().lines().unwrap();
        assert_eq!((lines[0].as_str(), lines[2].as_str()), ("one", "two"));
    }
}
