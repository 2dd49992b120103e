//! A workload's output as lines: which of them are wanted, and the last of them.

use std::collections::VecDeque;

use firebuild_machine::output::{Entry, Stream};
use jiff::Timestamp;

/// A piece of a line, with its end if it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) time: Timestamp,
    pub(crate) stream: Stream,
    pub(crate) data: Vec<u8>,
    /// Whether a line begins here.
    pub(crate) begins: bool,
}

/// What of the output is wanted.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    pub(crate) only: Option<Stream>,
}

/// Splits output into lines.
#[derive(Debug)]
pub(crate) struct Lines {
    wanted: Wanted,
    /// Whether a line of standard output, and of standard error, has no end yet.
    open: [bool; 2],
    over: bool,
}

impl Lines {
    pub(crate) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            open: [false; 2],
            over: false,
        }
    }

    /// Whether all that comes is too late.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// The pieces of an entry that are wanted.
    pub(crate) fn split(&mut self, entry: &Entry) -> Vec<Piece> {
        let Wanted { since, until, only } = &self.wanted;
        self.over |= until.is_some_and(|until| entry.time > until);
        let wanted = !self.over
            && since.is_none_or(|since| entry.time >= since)
            && only.is_none_or(|only| only == entry.stream);
        if !wanted {
            return Vec::new();
        }
        let open = match entry.stream {
            Stream::Stdout => &mut self.open[0],
            Stream::Stderr => &mut self.open[1],
        };
        let pieces = entry.data.split_inclusive(|byte| *byte == b'\n');
        let piece = |data: &[u8]| {
            let begins = !std::mem::replace(open, !data.ends_with(b"\n"));
            Piece {
                time: entry.time,
                stream: entry.stream,
                data: data.to_vec(),
                begins,
            }
        };
        pieces.map(piece).collect()
    }
}

/// How many of the last lines are wanted; all if none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail(pub(crate) Option<usize>);

/// The last lines so far.
#[derive(Debug)]
pub(crate) struct Last {
    most: Option<usize>,
    pieces: VecDeque<Piece>,
    lines: usize,
}

impl Tail {
    /// Begins without any line.
    pub(crate) fn begin(self) -> Last {
        Last {
            most: self.0,
            pieces: VecDeque::new(),
            lines: 0,
        }
    }
}

impl Last {
    /// Takes a piece more. Returns what is certain to be wanted: all of it, if all is.
    pub(crate) fn push(&mut self, piece: Piece) -> Option<Piece> {
        let Some(most) = self.most else {
            return Some(piece);
        };
        self.lines += usize::from(piece.begins);
        self.pieces.push_back(piece);
        while self.lines > most {
            let Some(first) = self.pieces.pop_front() else {
                break;
            };
            self.lines -= usize::from(first.begins);
        }
        // What is left of a line whose beginning is gone goes with it.
        while self.pieces.front().is_some_and(|first| !first.begins) {
            self.pieces.pop_front();
        }
        None
    }

    /// The last lines.
    pub(crate) fn rest(self) -> VecDeque<Piece> {
        self.pieces
    }
}

/// Where the last lines of a text begin.
pub(crate) fn last_lines(text: &[u8], lines: usize) -> usize {
    let end = text.len() - usize::from(text.ends_with(b"\n"));
    let mut ends = (0..end).rev().filter(|at| text[*at] == b'\n');
    match lines.checked_sub(1) {
        None => text.len(),
        Some(before) => ends.nth(before).map_or(0, |at| at + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(second: i64, stream: Stream, text: &str) -> Entry {
        Entry {
            time: Timestamp::from_second(second).unwrap(),
            stream,
            data: text.as_bytes().to_vec(),
        }
    }

    fn shown(pieces: impl IntoIterator<Item = Piece>) -> String {
        pieces
            .into_iter()
            .map(|piece| {
                let text = String::from_utf8(piece.data).unwrap();
                format!("{}{text}", if piece.begins { ">" } else { "" })
            })
            .collect()
    }

    fn output() -> Vec<Entry> {
        use Stream::{Stderr, Stdout};
        vec![
            entry(1, Stdout, "one\ntw"),
            entry(2, Stderr, "error\n"),
            entry(3, Stdout, "o\nthree\n"),
            entry(4, Stdout, "four"),
        ]
    }

    fn with(wanted: Wanted, tail: Option<usize>) -> String {
        let mut lines = Lines::new(wanted);
        let mut last = Tail(tail).begin();
        let mut text = String::new();
        for entry in output() {
            for piece in lines.split(&entry) {
                text += &shown(last.push(piece));
            }
        }
        text + &shown(last.rest())
    }

    #[test]
    fn lines_begin_where_they_begin() {
        let all = ">one\n>tw>error\no\n>three\n>four";
        assert_eq!(with(Wanted::default(), None), all);
        assert_eq!(with(Wanted::default(), Some(100)), all);
        assert_eq!(with(Wanted::default(), Some(2)), ">three\n>four");
        assert_eq!(with(Wanted::default(), Some(0)), "");
    }

    #[test]
    fn streams_and_moments_are_chosen() {
        let at = |second| Timestamp::from_second(second).ok();
        let wanted = |since, until, only| Wanted { since, until, only };
        assert_eq!(
            with(wanted(None, None, Some(Stream::Stderr)), None),
            ">error\n"
        );
        assert_eq!(with(wanted(at(4), None, None), None), ">four");
        assert_eq!(with(wanted(None, at(2), None), Some(1)), ">error\n");
    }

    #[test]
    fn the_last_lines_of_a_text() {
        for (lines, expected) in [(0, ""), (1, "c\n"), (2, "b\nc\n"), (9, "a\nb\nc\n")] {
            let text = "a\nb\nc\n";
            assert_eq!(&text[last_lines(text.as_bytes(), lines)..], expected);
        }
        assert_eq!(last_lines(b"a\nb", 1), 2);
        assert_eq!(last_lines(b"", 3), 0);
    }
}
