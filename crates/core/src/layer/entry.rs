//! Makes an entry of its headers: the block itself and the extensions before it.

use std::io::Read;

use super::extended::Extended;
use super::header::Header;
use super::limits::{Fault, LayerError};
use super::name::{Form, Meaning, meaning, normalise};
use super::reader::{Item, LayerEntry, LayerReader};
use super::sparse::{self, PaxMap};
use crate::tree::{Content, Device, Metadata, Segment, Timestamp};

/// What an attribute takes besides its name and value, about: a layer may have many that are tiny.
const OVERHEAD: usize = 64;

/// What headers before an entry's own say of it.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) extended: Extended,
    pub(super) name: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
}

impl Pending {
    pub(super) fn path(&self, header: &Header) -> Vec<u8> {
        let extended = &self.extended;
        let long = extended.sparse.name.as_ref();
        let long = long.or(extended.path.as_ref()).or(self.name.as_ref());
        long.cloned().unwrap_or_else(|| header.path())
    }

    fn link<'a>(&'a self, header: &'a Header) -> &'a [u8] {
        let long = self.extended.link.as_ref().or(self.link.as_ref());
        long.map_or_else(|| header.link(), Vec::as_slice)
    }

    fn device(&self, header: &Header) -> Result<Device, Fault> {
        let Extended {
            device_major,
            device_minor,
            ..
        } = self.extended;
        Ok(Device {
            major: device_major.map_or_else(|| header.device_major(), Ok)?,
            minor: device_minor.map_or_else(|| header.device_minor(), Ok)?,
        })
    }

    fn metadata(&self, header: &Header) -> Result<Metadata, Fault> {
        let extended = &self.extended;
        let mtime = match extended.mtime {
            Some(mtime) => mtime,
            None => Timestamp {
                seconds: header.mtime()?,
                nanoseconds: 0,
            },
        };
        Ok(Metadata {
            mode: header.mode()?,
            uid: extended.uid.map_or_else(|| header.uid(), Ok)?,
            gid: extended.gid.map_or_else(|| header.gid(), Ok)?,
            mtime,
            xattrs: extended.xattrs.clone(),
        })
    }
}

impl<R: Read> LayerReader<R> {
    /// Makes an entry of its headers; none if it has no meaning.
    pub(super) fn entry(
        &mut self,
        path: Vec<u8>,
        header: &Header,
        pending: &Pending,
        offset: u64,
    ) -> Result<Option<LayerEntry>, LayerError> {
        let fail = |fault: Fault| fault.at(&path, offset);
        self.used.entry(&self.limits).map_err(fail)?;
        let normal = normalise(&path, self.form, &self.limits);
        let meaning = normal.and_then(|path| match self.form {
            Form::Layer => meaning(path),
            Form::Plain => Ok(Meaning::Entry(path)),
        });
        let kind = kind(header, &path);
        let size = pending.extended.size.map_or_else(|| header.size(), Ok);
        if matches!(kind, b'0' | b'S') {
            self.expect_content(size, offset)?;
        }
        let (path, item) = match meaning.map_err(fail)? {
            Meaning::Ignored => return Ok(None),
            Meaning::Whiteout(path) => (path, Item::Whiteout),
            Meaning::Opaque(path) => (path, Item::Opaque),
            Meaning::Entry(path) => {
                let item = self.item(kind, header, pending, offset)?;
                (path, item)
            }
        };
        let entry = LayerEntry {
            path: path.into(),
            metadata: pending
                .metadata(header)
                .map_err(fail_at(offset, &self.last))?,
            item,
            offset,
        };
        self.count(&entry).map_err(fail_at(offset, &self.last))?;
        Ok(Some(entry))
    }

    fn item(
        &mut self,
        kind: u8,
        header: &Header,
        pending: &Pending,
        offset: u64,
    ) -> Result<Item, LayerError> {
        let device = || pending.device(header);
        let item = match kind {
            b'0' | b'S' => return Ok(Item::File(self.content(kind, header, pending, offset)?)),
            b'1' => normalise(pending.link(header), self.form, &self.limits).and_then(|target| {
                if target.is_empty() {
                    Err(Fault::new("it is a hard link to the root directory"))
                } else {
                    Ok(Item::HardLink(target.into()))
                }
            }),
            b'2' => self.symlink(pending.link(header)),
            b'3' => device().map(Item::CharacterDevice),
            b'4' => device().map(Item::BlockDevice),
            b'5' => Ok(Item::Directory),
            b'6' => Ok(Item::Fifo),
            other => Err(Fault::new(format!(
                "its kind `{}` is not known",
                other.escape_ascii()
            ))),
        };
        item.map_err(fail_at(offset, &self.last))
    }

    fn symlink(&self, target: &[u8]) -> Result<Item, Fault> {
        if target.is_empty() || target.contains(&0) {
            return Err(Fault::new("the target of this symbolic link is not valid"));
        }
        if target.len() > self.limits.path {
            return Err(Fault::Limit(
                "bytes of a symbolic link",
                self.limits.path as u64,
            ));
        }
        Ok(Item::Symlink(target.into()))
    }

    fn content(
        &mut self,
        kind: u8,
        header: &Header,
        pending: &Pending,
        offset: u64,
    ) -> Result<Content, LayerError> {
        let path = self.last.clone();
        let fail = |fault: Fault| fault.at(&path, offset);
        let records = &pending.extended.sparse;
        let (runs, length) = if kind == b'S' {
            let runs = self.old_sparse_map(header, &path, offset)?;
            (runs, header.real_size().map_err(fail)?)
        } else {
            let runs = match records.map().map_err(fail)? {
                PaxMap::None => return Ok(Content::whole(0, self.position, self.stored)),
                PaxMap::Runs(runs) => runs,
                PaxMap::InContent => self.map_in_content(&path, offset)?,
            };
            let length = records.real_size;
            let length = length.ok_or_else(|| fail(Fault::new("its sparse map lacks a size")))?;
            (runs, length)
        };
        sparse::content(&runs, length, self.position, self.stored).map_err(fail)
    }

    /// Counts what an entry takes of the limits.
    fn count(&mut self, entry: &LayerEntry) -> Result<(), Fault> {
        let target = match &entry.item {
            Item::HardLink(target) | Item::Symlink(target) => target.len(),
            Item::File(content) => {
                self.used.content(content.length, &self.limits)?;
                content.segments.len() * size_of::<Segment>()
            }
            _ => 0,
        };
        let xattrs = &entry.metadata.xattrs;
        let attributes = xattrs
            .iter()
            .map(|(name, value)| name.len() + value.len() + OVERHEAD);
        let attributes: usize = attributes.sum();
        let names = entry.path.len() + target + attributes;
        self.used.names(names as u64, &self.limits)
    }
}

/// The entry's kind, with what old tools wrote turned into what it meant.
fn kind(header: &Header, path: &[u8]) -> u8 {
    match header.kind() {
        0 if path.ends_with(b"/") => b'5',
        0 | b'7' => b'0',
        other => other,
    }
}

fn fail_at(offset: u64, path: &[u8]) -> impl Fn(Fault) -> LayerError + '_ {
    move |fault| fault.at(path, offset)
}
