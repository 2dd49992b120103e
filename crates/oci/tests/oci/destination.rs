//! Where tests unpack images to: the blocks alone, without a file system around them.

use std::fs::File;
use std::ops::Range;

use firebuild_core::Digest;
use firebuild_oci::{Destination, Error, Fill, Lower, Result, Room};
use firebuild_store::Store;

/// One block after the other.
pub(crate) struct Counting(pub(crate) u64);

impl Room for Counting {
    fn take(&mut self, most: u64) -> Option<Range<u64>> {
        self.0 += most;
        Some(self.0 - most..self.0)
    }
}

/// Root file systems that are no file systems.
pub(crate) struct Blocks;

/// The key of layers' blocks.
pub(crate) fn key(diff_ids: &[Digest]) -> Digest {
    let text: Vec<String> = diff_ids.iter().map(Digest::hex).collect();
    Digest::of(text.concat().as_bytes())
}

impl Destination for Blocks {
    fn make(
        &self,
        store: &Store,
        diff_ids: &[Digest],
        _: usize,
        fill: &mut Fill<'_>,
    ) -> Result<Digest> {
        let key = key(diff_ids);
        store.rootfs(&key, |output: &File| {
            fill(&Lower::default(), &mut Counting(10), output).map(drop)?;
            Ok::<(), Error>(())
        })?;
        Ok(key)
    }
}
