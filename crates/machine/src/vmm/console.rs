//! The guest's console, in files of bounded size: a guest can write for ever, a host cannot keep it.
//!
//! `console.log` has the beginning, up to [`HEAD`] bytes. What comes after goes to
//! `console.log.tail`, which becomes `console.log.tail.old` when it has [`TAIL`] bytes. So the
//! beginning and the end are there, and never more than 1 MiB. The last bytes are in memory, too,
//! for the message about a guest that died.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fs_err::File;

/// How many bytes of the beginning are kept.
pub const HEAD: u64 = 512 << 10;

/// How many bytes each of the two files of the rest may have.
pub const TAIL: u64 = 256 << 10;

/// How many of the last bytes are in memory.
const RECENT: usize = 8 << 10;

/// The last bytes of a stream. Clones mean the same.
#[derive(Debug, Clone, Default)]
pub struct Recent(Arc<Mutex<VecDeque<u8>>>);

/// The files.
#[derive(Debug)]
pub struct Console {
    path: PathBuf,
    file: File,
    written: u64,
    limit: u64,
    recent: Recent,
}

impl Recent {
    /// Takes more bytes.
    pub fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = &bytes[bytes.len().saturating_sub(RECENT)..];
        let surplus = (kept.len() + bytes.len()).saturating_sub(RECENT);
        kept.drain(..surplus);
        kept.extend(bytes);
    }

    /// The last `count` lines that are not empty, with control characters taken out.
    #[must_use]
    pub fn lines(&self, count: usize) -> Vec<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = kept.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<String> = text.lines().map(plain).filter(|l| !l.is_empty()).collect();
        lines[lines.len().saturating_sub(count)..].to_vec()
    }
}

/// A line as it may be shown on a terminal: a guest must not be able to steer it.
fn plain(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line.chars().peekable();
    while let Some(character) = rest.next() {
        if character == '\u{1b}' && rest.next_if_eq(&'[').is_some() {
            // A control sequence ends with a character from `@` to `~`.
            for parameter in rest.by_ref() {
                if ('@'..='~').contains(&parameter) {
                    break;
                }
            }
        } else if character == '\t' {
            shown.push(' ');
        } else if !character.is_control() {
            shown.push(character);
        }
    }
    shown.trim_end().to_owned()
}

impl Console {
    /// Begins an empty console at `path`.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        for other in others(path) {
            match fs_err::remove_file(other) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(Self {
            path: path.to_owned(),
            file: File::create(path)?,
            written: 0,
            limit: HEAD,
            recent: Recent::default(),
        })
    }

    /// The last bytes.
    #[must_use]
    pub fn recent(&self) -> Recent {
        self.recent.clone()
    }

    /// Takes what the guest wrote.
    ///
    /// # Errors
    /// A file cannot be written; the last bytes are in memory all the same.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.recent.push(bytes);
        while !bytes.is_empty() {
            if self.written == self.limit {
                self.turn()?;
            }
            let room = usize::try_from(self.limit - self.written).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.file.write_all(now)?;
            self.written += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        let [tail, old] = others(&self.path);
        if self.limit == TAIL {
            fs_err::rename(&tail, old)?;
        }
        self.file = File::create(tail)?;
        self.written = 0;
        self.limit = TAIL;
        Ok(())
    }
}

/// Reads a console, as far as there is any, and goes on when there is more.
#[derive(Debug)]
pub struct ConsoleReader {
    path: PathBuf,
    file: Option<File>,
    is_beginning: bool,
}

impl ConsoleReader {
    /// A reader of the console at `path`, from its beginning.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            is_beginning: true,
        }
    }

    /// What has come since the last call: some of it, and nothing if there is nothing. What a guest
    /// wrote between the beginning and the end that are kept is missing.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn more(&mut self) -> io::Result<Vec<u8>> {
        if self.file.is_none() {
            self.file = existing(&self.path)?;
        }
        let mut bytes = Vec::new();
        while let Some(file) = &mut self.file {
            // Looked for before the last look at this one.
            let next = Self::after(file, &self.path, self.is_beginning)?;
            file.take(TAIL).read_to_end(&mut bytes)?;
            if !bytes.is_empty() {
                break;
            }
            let Some(next) = next else { break };
            self.file = Some(next);
            self.is_beginning = false;
        }
        Ok(bytes)
    }

    /// The file behind this one, if there is any.
    fn after(file: &File, path: &Path, is_beginning: bool) -> io::Result<Option<File>> {
        let [tail, old] = others(path);
        if is_beginning {
            return match existing(&old)? {
                Some(old) => Ok(Some(old)),
                None => existing(&tail),
            };
        }
        let number = |file: &File| file.metadata().map(|it| it.ino());
        match existing(&tail)? {
            Some(tail) if number(&tail)? != number(file)? => Ok(Some(tail)),
            _ => Ok(None),
        }
    }
}

fn existing(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn others(path: &Path) -> [PathBuf; 2] {
    [".tail", ".tail.old"].map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_beginning_and_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        let mut console = Console::create(&path).unwrap();
        let line = [b'x'; 999];
        for number in 0..4000_u32 {
            console.write(&line).unwrap();
            console.write(format!("{number}\n").as_bytes()).unwrap();
        }
        let mut reader = ConsoleReader::new(&path);
        let mut all = Vec::new();
        loop {
            let more = reader.more().unwrap();
            if more.is_empty() {
                break;
            }
            all.extend(more);
        }
        assert!(all.starts_with(&line) && all.ends_with(b"x3999\n"));
        assert!(all.len() as u64 > HEAD + TAIL);
        console.write(b"more").unwrap();
        assert_eq!(reader.more().unwrap(), b"more");
        let size = |path: &Path| fs_err::metadata(path).unwrap().len();
        let [tail, old] = others(&path);
        assert_eq!((size(&path), size(&old)), (HEAD, TAIL));
        assert!(size(&tail) <= TAIL);
        assert!(fs_err::read(&path).unwrap().starts_with(&line));
        assert!(fs_err::read(&tail).unwrap().ends_with(b"x3999\nmore"));
    }

    #[test]
    fn the_last_lines_are_safe_to_show() {
        let recent = Recent::default();
        recent.push(&[b'-'; 3 * RECENT]);
        recent.push(b"\r\n\r\none\r\n\x1b[31mtwo\x1b[0m\x07\r\n\xff\n");
        assert_eq!(recent.lines(3), ["one", "two", "\u{fffd}"]);
        assert_eq!(recent.lines(9).len(), 4);
        assert!(Recent::default().lines(1).is_empty());
    }
}
