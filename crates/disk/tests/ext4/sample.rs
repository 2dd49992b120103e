//! Trees with content, made by few words.

use std::io;

use firebuild_core::tree::{Content, Kind, Metadata, Node, NodeId, Segment, Tree};
use firebuild_disk::ContentSource;

/// Bytes in memory, as one source.
#[derive(Debug, Default, Clone)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl ContentSource for Bytes {
    fn read_exact_at(&self, source: u32, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        assert_eq!(source, 0);
        let offset = usize::try_from(offset).unwrap();
        let bytes = self.0.get(offset..offset + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A tree that grows together with its content.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    pub(crate) tree: Tree,
    pub(crate) bytes: Bytes,
}

impl Sample {
    pub(crate) fn root(&self) -> NodeId {
        self.tree.root()
    }

    pub(crate) fn add(&mut self, parent: NodeId, name: impl AsRef<[u8]>, kind: Kind) -> NodeId {
        let node = Node {
            metadata: Metadata::root_owned(0o644),
            kind,
        };
        self.tree.insert(parent, name.as_ref(), node).unwrap()
    }

    pub(crate) fn directory(&mut self, parent: NodeId, name: impl AsRef<[u8]>) -> NodeId {
        let node = Node::directory(Metadata::root_owned(0o755));
        self.tree.insert(parent, name.as_ref(), node).unwrap()
    }

    pub(crate) fn file(
        &mut self,
        parent: NodeId,
        name: impl AsRef<[u8]>,
        content: &[u8],
    ) -> NodeId {
        let content = Content::whole(0, self.append(content), content.len() as u64);
        self.add(parent, name, Kind::File(content))
    }

    pub(crate) fn symlink(
        &mut self,
        parent: NodeId,
        name: impl AsRef<[u8]>,
        target: impl AsRef<[u8]>,
    ) -> NodeId {
        self.add(parent, name, Kind::Symlink(target.as_ref().into()))
    }

    /// A file of `length` bytes with content at some places, and holes else.
    pub(crate) fn sparse(
        &mut self,
        parent: NodeId,
        name: impl AsRef<[u8]>,
        length: u64,
        pieces: &[(u64, &[u8])],
    ) -> NodeId {
        let segments = pieces
            .iter()
            .map(|(start, bytes)| Segment {
                start: *start,
                offset: self.append(bytes),
                length: bytes.len() as u64,
            })
            .collect();
        let content = Content {
            source: 0,
            length,
            segments,
        };
        self.add(parent, name, Kind::File(content))
    }

    fn append(&mut self, content: &[u8]) -> u64 {
        let offset = self.bytes.0.len() as u64;
        self.bytes.0.extend_from_slice(content);
        offset
    }
}

/// Bytes that repeat only after long.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}
