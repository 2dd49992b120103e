//! Cuts a process's output into lines.

use std::mem;

use bytes::Bytes;

/// The longest line that is kept together, in bytes.
const LONGEST: usize = 16 << 10;

/// Collects output and gives lines. A line that is too long comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes more output; returns the lines that are whole by now, without their line feeds.
    pub(crate) fn push(&mut self, output: &[u8]) -> Vec<Bytes> {
        let mut lines = Vec::new();
        for part in output.split_inclusive(|byte| *byte == b'\n') {
            let (text, whole) = match part.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (part, false),
            };
            for piece in text.chunks(LONGEST) {
                if self.partial.len() + piece.len() > LONGEST {
                    lines.extend(self.flush());
                }
                self.partial.extend_from_slice(piece);
            }
            if whole {
                lines.push(mem::take(&mut self.partial).into());
            }
        }
        lines
    }

    /// What has no line feed yet, as if it had one.
    pub(crate) fn flush(&mut self) -> Option<Bytes> {
        let partial = mem::take(&mut self.partial);
        (!partial.is_empty()).then(|| partial.into())
    }

    /// Whether [`Lines::flush`] would give nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.partial.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole() {
        for (pieces, lines, rest) in [
            (&["a\nb\n"][..], &["a", "b"][..], None),
            (&["a", "b\n", "c"], &["ab"], Some("c")),
            (&["\n\n"], &["", ""], None),
            (&["x\r\n"], &["x\r"], None),
            (&["", "é", "\n"], &["é"], None),
            (&[], &[], None),
        ] {
            let mut splitter = Lines::default();
            let found: Vec<Bytes> = pieces
                .iter()
                .flat_map(|piece| splitter.push(piece.as_bytes()))
                .collect();
            assert_eq!(found, lines, "{pieces:?}");
            assert_eq!(splitter.is_empty(), rest.is_none());
            assert_eq!(splitter.flush(), rest.map(Bytes::from), "{pieces:?}");
        }
    }

    #[test]
    fn long_lines_come_in_pieces_and_nothing_is_lost() {
        let mut splitter = Lines::default();
        let mut lines = Vec::new();
        for _ in 0..10 {
            lines.extend(splitter.push(&[0xff; 7000]));
        }
        lines.extend(splitter.push(b"\nend\n"));
        assert_eq!(lines.last().unwrap(), "end");
        assert!(lines.iter().all(|line| line.len() <= LONGEST));
        assert_eq!(lines.iter().map(Bytes::len).sum::<usize>(), 70_003);
        let mut splitter = Lines::default();
        let lines = splitter.push(&[b'x'; 3 * LONGEST]);
        assert!(lines.iter().all(|line| line.len() == LONGEST));
    }
}
