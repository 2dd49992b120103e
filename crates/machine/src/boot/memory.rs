//! How much memory a VM needs at least to get as far as its agent.
//!
//! A kernel that has too little panics somewhere on its way, in words that nobody understands; so one that
//! cannot come up is refused. What it really needs depends on what is in it: with Debian's kernels, VMs
//! have been seen to fail at 72 MiB and to come up at 80.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::elf::Elf;

/// What a kernel takes besides its image and the initramfs until the agent runs, in bytes: page tables,
/// the descriptions of pages, its caches, and what the agent has.
const BESIDES: u64 = 20 << 20;

/// An archive and what is unpacked of it are there at the same time.
const UNPACKING: u64 = 2;

/// Program headers come first in a kernel's file.
const HEADERS: usize = 4096;

const MIB: u64 = 1 << 20;

/// What a VM with this kernel and this initramfs needs at least, in MiB; 0 if the kernel does not tell.
pub(crate) fn least(kernel: &File, initramfs: &File) -> u32 {
    let mut headers = vec![0; HEADERS];
    let read = kernel.read_at(&mut headers, 0).unwrap_or_default();
    headers.truncate(read);
    let Some(image) = Elf::parse(&headers).and_then(|elf| elf.span()) else {
        return 0;
    };
    let archive = initramfs.metadata().map_or(0, |found| found.len());
    let unpacking = archive.saturating_mul(UNPACKING);
    let bytes = image.saturating_add(unpacking).saturating_add(BESIDES);
    u32::try_from(bytes.div_ceil(MIB)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    /// A kernel with segments at these addresses, of these sizes in memory.
    fn kernel(segments: &[(u64, u64)]) -> File {
        let mut bytes = vec![0; 0x40];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[0x12] = 62;
        bytes[0x20] = 0x40;
        bytes[0x36] = 0x38;
        bytes[0x38] = u8::try_from(segments.len()).unwrap();
        for (address, size) in segments {
            let mut header = [0; 0x38];
            header[0] = 1;
            header[24..32].copy_from_slice(&address.to_le_bytes());
            header[40..48].copy_from_slice(&size.to_le_bytes());
            bytes.extend(header);
        }
        file(&bytes)
    }

    #[test]
    fn a_kernel_needs_its_image_and_the_archive_twice() {
        let archive = file(&vec![0; 4 << 20]);
        let of = |segments: &[(u64, u64)]| least(&kernel(segments), &archive);
        assert_eq!(
            of(&[(16 << 20, 10 << 20), (30 << 20, 16 << 20)]),
            30 + 8 + 20
        );
        assert_eq!(of(&[(16 << 20, 1)]), 1 + 8 + 20);
        for hostile in [(0, u64::MAX), (u64::MAX, u64::MAX), (u64::MAX, 1)] {
            // Whatever it says, it is refused or tried.
            let _ = of(&[hostile, (0, 1)]);
        }
        for nothing in [kernel(&[]), file(b""), file(b"bzImage")] {
            assert_eq!(least(&nothing, &archive), 0);
        }
    }
}
