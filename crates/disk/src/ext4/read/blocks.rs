//! Where a file's bytes are: extent trees, and the numbers of blocks that older file systems have.

use firebuild_core::tree::Segment;

use super::error::{ReadError, Result, damaged};
use super::image::Image;
use super::inode::Inode;
use crate::ext4::fields::Fields;

const MAGIC: u16 = 0xf30a;
/// Bytes of a node's header, and of each of its entries.
const ENTRY: usize = 12;
/// Levels below the root: as many as Linux has.
const DEEPEST: u16 = 5;
/// An extent longer than this has room that was never written to.
const LONGEST: u16 = 1 << 15;
/// The most of a directory, which is held in memory.
const MOST_CONTENT: u64 = 512 << 20;
/// Blocks whose numbers stand in the inode, before those that tell of more.
const DIRECT: usize = 12;

/// The runs of a file's bytes, in order.
pub(super) fn segments(image: &mut Image<'_>, inode: &Inode) -> Result<Vec<Segment>> {
    let mut runs = Runs {
        length: inode.size,
        next: 0,
        segments: Vec::new(),
    };
    if inode.has_extents() {
        extents(image, &inode.root, None, &mut runs)?;
    } else {
        mapped(image, inode, &mut runs)?;
    }
    Ok(runs.segments)
}

/// All bytes of something small, such as a directory's; holes are zeros.
pub(super) fn content(image: &mut Image<'_>, inode: &Inode) -> Result<Vec<u8>> {
    if inode.size > MOST_CONTENT {
        return Err(ReadError::TooMuch("a directory of more than 512 MiB"));
    }
    let segments = segments(image, inode)?;
    let mut bytes = vec![0; usize::try_from(inode.size).unwrap_or_default()];
    for segment in segments {
        let start = usize::try_from(segment.start).unwrap_or_default();
        let length = usize::try_from(segment.length).unwrap_or_default();
        let part = start
            .checked_add(length)
            .and_then(|end| bytes.get_mut(start..end));
        let part = part.ok_or_else(|| damaged("a file has blocks behind its end"))?;
        image.content(part, segment.offset)?;
    }
    Ok(bytes)
}

/// What has been found of a file.
struct Runs {
    length: u64,
    /// The block of the file that may come next.
    next: u64,
    segments: Vec<Segment>,
}

impl Runs {
    fn push(&mut self, image: &mut Image<'_>, block: u64, count: u64, first: u64) -> Result<()> {
        if block < self.next {
            return Err(damaged("a file has blocks twice"));
        }
        self.next = block + count;
        image.budget.blocks(count)?;
        let offset = image.place(first)?;
        if count == 0 || count > image.blocks - first {
            return Err(damaged("it names a block that is not there"));
        }
        let start = block * image.block_size;
        // What was reserved behind the end is nothing of the file.
        let length = (count * image.block_size).min(self.length.saturating_sub(start));
        if length == 0 {
            return Ok(());
        }
        if let Some(last) = self.segments.last_mut()
            && last.start + last.length == start
            && last.offset + last.length == offset
        {
            last.length += length;
            return Ok(());
        }
        self.segments.push(Segment {
            start,
            offset,
            length,
        });
        Ok(())
    }
}

/// One node of an extent tree; `level` is what its parent says of it.
fn extents(image: &mut Image<'_>, node: &[u8], level: Option<u16>, runs: &mut Runs) -> Result<()> {
    let header = Fields(node);
    let (magic, count, depth) = (header.u16(0), header.u16(2), header.u16(6));
    if magic != MAGIC || depth > DEEPEST || level.is_some_and(|level| level != depth) {
        return Err(damaged("an extent tree is none"));
    }
    let entries = node.get(ENTRY..ENTRY * (usize::from(count) + 1));
    let entries = entries.ok_or_else(|| damaged("an extent tree is none"))?;
    for entry in entries.chunks_exact(ENTRY).map(Fields) {
        if depth > 0 {
            let child = u64::from(entry.u32(4)) | u64::from(entry.u16(8)) << 32;
            let child = image.block(child)?;
            extents(image, &child, Some(depth - 1), runs)?;
            continue;
        }
        let count = entry.u16(4);
        if count > LONGEST {
            continue;
        }
        let first = u64::from(entry.u32(8)) | u64::from(entry.u16(6)) << 32;
        runs.push(image, entry.u32(0).into(), count.into(), first)?;
    }
    Ok(())
}

/// The numbers in the inode: of the first blocks, and of three that have numbers of others, on one
/// level, two, and three.
fn mapped(image: &mut Image<'_>, inode: &Inode, runs: &mut Runs) -> Result<()> {
    let numbers = Fields(&inode.root);
    let each = image.block_size / 4;
    for block in 0..DIRECT {
        number(image, numbers.u32(4 * block), 0, block as u64, runs)?;
    }
    let mut block = DIRECT as u64;
    for level in 1..=3_u32 {
        let at = 4 * (DIRECT + level as usize - 1);
        number(image, numbers.u32(at), level, block, runs)?;
        block += each.pow(level);
    }
    Ok(())
}

fn number(
    image: &mut Image<'_>,
    number_: u32,
    level: u32,
    block: u64,
    runs: &mut Runs,
) -> Result<()> {
    if number_ == 0 {
        return Ok(());
    }
    if level == 0 {
        return runs.push(image, block, 1, number_.into());
    }
    let each = image.block_size / 4;
    let below = image.block(number_.into())?;
    for (index, bytes) in below.chunks_exact(4).enumerate() {
        let block = block + index as u64 * each.pow(level - 1);
        number(image, Fields(bytes).u32(0), level - 1, block, runs)?;
    }
    Ok(())
}
