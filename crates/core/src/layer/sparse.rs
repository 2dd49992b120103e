//! Sparse files: the old GNU form and the three pax forms (0.0, 0.1, 1.0) of GNU tar.
//!
//! Each gives a map of runs and packs the runs' bytes together. What must hold of a map is checked
//! here once for all forms: runs ascend, do not overlap, stay within the file, and need exactly the
//! bytes that are stored.

use std::io::Read;

use super::BLOCK;
use super::extended::decimal;
use super::header::{Header, sparse_runs};
use super::limits::{Fault, LayerError, Limits};
use super::reader::LayerReader;
use crate::tree::{Content, Segment, shown};

/// What `GNU.sparse.*` records say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SparseRecords {
    major: Option<u64>,
    minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    /// Offset and length in turn.
    map: Vec<u64>,
}

/// Where a sparse file's map is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PaxMap {
    /// The file is not sparse.
    None,
    /// In the records.
    Runs(Vec<(u64, u64)>),
    /// At the beginning of the stored bytes.
    InContent,
}

impl SparseRecords {
    /// Bytes of memory, about.
    pub(super) fn size(&self) -> usize {
        self.name.as_ref().map_or(0, Vec::len) + self.map.len() * size_of::<u64>()
    }

    pub(super) fn record(
        &mut self,
        key: &[u8],
        value: &[u8],
        limits: &Limits,
    ) -> Result<(), Fault> {
        match key {
            b"GNU.sparse.major" => self.major = Some(decimal(value, "sparse version")?),
            b"GNU.sparse.minor" => self.minor = Some(decimal(value, "sparse version")?),
            b"GNU.sparse.name" => self.name = Some(value.to_vec()),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                self.real_size = Some(decimal(value, "sparse size")?);
            }
            b"GNU.sparse.map" => {
                self.map.clear();
                for number in value.split(|byte| *byte == b',') {
                    self.push(number, limits)?;
                }
            }
            b"GNU.sparse.offset" if self.map.len().is_multiple_of(2) => self.push(value, limits)?,
            b"GNU.sparse.numbytes" if !self.map.len().is_multiple_of(2) => {
                self.push(value, limits)?;
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                return Err(Fault::new("its sparse map is out of order"));
            }
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, number: &[u8], limits: &Limits) -> Result<(), Fault> {
        if self.map.len() >= limits.segments.saturating_mul(2) {
            return Err(too_many(limits));
        }
        self.map.push(decimal(number, "sparse map")?);
        Ok(())
    }

    pub(super) fn map(&self) -> Result<PaxMap, Fault> {
        if self.major == Some(1) && self.minor == Some(0) {
            return Ok(PaxMap::InContent);
        }
        if self.major.is_some_and(|major| major > 0) {
            return Err(Fault::new("its form of sparse file is not known"));
        }
        if !self.map.len().is_multiple_of(2) {
            return Err(Fault::new("its sparse map is incomplete"));
        }
        if self.map.is_empty() {
            return Ok(PaxMap::None);
        }
        let runs = self.map.chunks_exact(2).map(|run| (run[0], run[1]));
        Ok(PaxMap::Runs(runs.collect()))
    }
}

fn too_many(limits: &Limits) -> Fault {
    Fault::Limit("runs of data in a sparse file", limits.segments as u64)
}

/// The content of a file of `length` bytes whose runs are packed at `offset`, `stored` bytes of
/// them.
pub(super) fn content(
    runs: &[(u64, u64)],
    length: u64,
    offset: u64,
    stored: u64,
) -> Result<Content, Fault> {
    let wrong = || Fault::new("its sparse map does not fit its content");
    let mut segments = Vec::with_capacity(runs.len());
    let (mut end, mut packed) = (0_u64, 0_u64);
    for &(start, run) in runs {
        let next = start.checked_add(run).ok_or_else(wrong)?;
        if start < end || next > length {
            return Err(wrong());
        }
        end = next;
        if run > 0 {
            segments.push(Segment {
                start,
                offset: offset.checked_add(packed).ok_or_else(wrong)?,
                length: run,
            });
        }
        packed = packed.checked_add(run).ok_or_else(wrong)?;
    }
    if packed != stored {
        return Err(wrong());
    }
    Ok(Content {
        source: 0,
        length,
        segments: segments.into(),
    })
}

impl<R: Read> LayerReader<R> {
    /// The old GNU map: four runs in the header, 21 in each block that follows.
    pub(super) fn old_sparse_map(
        &mut self,
        header: &Header,
        path: &[u8],
        offset: u64,
    ) -> Result<Vec<(u64, u64)>, LayerError> {
        let fail = |fault: Fault| fault.at(path, offset);
        let (mut runs, mut more) = header.sparse_map().map_err(fail)?;
        while more {
            let Some(block) = self.block()? else {
                return Err(LayerError::Truncated {
                    entry: shown(path),
                    offset: self.position,
                });
            };
            runs.extend(sparse_runs(&block[..504]).map_err(fail)?);
            more = block[504] != 0;
            let within = runs.len() <= self.limits.segments;
            let names = self.used.names(BLOCK as u64, &self.limits);
            names.map_err(fail)?;
            if !within {
                return Err(fail(too_many(&self.limits)));
            }
        }
        Ok(runs)
    }

    /// The map of pax form 1.0: lines of decimal numbers, padded to whole blocks.
    pub(super) fn map_in_content(
        &mut self,
        path: &[u8],
        offset: u64,
    ) -> Result<Vec<(u64, u64)>, LayerError> {
        let fail = |fault: Fault| fault.at(path, offset);
        let broken = || fail(Fault::new("its sparse map is damaged"));
        let mut numbers: Vec<u64> = Vec::new();
        let mut wanted = 1;
        let mut line = Vec::new();
        while numbers.len() < wanted {
            if self.stored < BLOCK as u64 {
                return Err(broken());
            }
            let Some(block) = self.block()? else {
                return Err(broken());
            };
            self.stored -= BLOCK as u64;
            for byte in block.iter() {
                if numbers.len() == wanted {
                    break;
                }
                if *byte != b'\n' {
                    line.push(*byte);
                    if line.len() > 20 {
                        return Err(broken());
                    }
                    continue;
                }
                numbers.push(decimal(&line, "sparse map").map_err(fail)?);
                line.clear();
                if numbers.len() == 1 {
                    let count = usize::try_from(numbers[0]).map_err(|_| broken())?;
                    if count > self.limits.segments {
                        return Err(fail(too_many(&self.limits)));
                    }
                    wanted += 2 * count;
                }
            }
        }
        let runs = numbers[1..].chunks_exact(2);
        Ok(runs.map(|run| (run[0], run[1])).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_that_do_not_fit_are_refused() {
        type Case<'a> = (&'a [(u64, u64)], u64, u64, bool);
        let cases: [Case<'_>; 8] = [
            (&[(0, 4), (8, 4)], 16, 8, true),
            (&[(0, 4), (16, 0)], 16, 4, true),
            (&[], 1 << 30, 0, true),
            (&[(8, 4), (0, 4)], 16, 8, false),
            (&[(0, 4), (2, 4)], 16, 8, false),
            (&[(12, 8)], 16, 8, false),
            (&[(0, 4)], 16, 8, false),
            (&[(u64::MAX, 4)], u64::MAX, 4, false),
        ];
        for (runs, length, stored, fits) in cases {
            assert_eq!(content(runs, length, 512, stored).is_ok(), fits, "{runs:?}");
        }
    }
}
