//! The archive that the kernel unpacks into its first root: `newc` cpio
//! (Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's source).
//!
//! Uncompressed, because an emulated guest inflates slowly and a copy of a few megabytes costs
//! nothing. The same kernel and agent give the same bytes.

use super::error::BootError;
use super::kernel::{Kernel, Needs};
use super::modules::unsigned;

const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// Makes the initramfs of a VM that boots `kernel`: the agent as `/init`, the modules that this
/// kernel needs for it under `/modules`, and their order in `/modules/order`.
///
/// # Errors
/// [`BootError`] if a module of the kernel cannot be read, or if the kernel cannot do what is needed.
pub fn initramfs(kernel: &Kernel, agent: &[u8], needs: Needs) -> Result<Vec<u8>, BootError> {
    let modules = kernel.modules(needs)?;
    let length: usize = modules.iter().map(|module| module.bytes.len()).sum();
    let mut archive = Archive(Vec::with_capacity(agent.len() + length + (8 << 10)));
    let mut order = String::new();
    archive.entry("dev", DIRECTORY | 0o755, (0, 0), b"");
    // The kernel opens it for its first process before anything is mounted.
    archive.entry("dev/console", CHARACTER_DEVICE | 0o600, (5, 1), b"");
    archive.entry("init", REGULAR | 0o755, (0, 0), agent);
    archive.entry("modules", DIRECTORY | 0o755, (0, 0), b"");
    for module in &modules {
        order.push_str(&module.name);
        order.push('\n');
        let path = format!("modules/{}", module.name);
        let bytes = if kernel.facts().signed_modules {
            &module.bytes
        } else {
            unsigned(&module.bytes)
        };
        archive.entry(&path, REGULAR | 0o644, (0, 0), bytes);
    }
    archive.entry("modules/order", REGULAR | 0o644, (0, 0), order.as_bytes());
    Ok(archive.finish())
}

struct Archive(Vec<u8>);

impl Archive {
    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), bytes: &[u8]) {
        // Inode numbers are left at 0: they matter for hard links only, of which there are none.
        let links = 1;
        let fields = [
            0,
            mode,
            0,
            0,
            links,
            0,
            u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            0,
            0,
            device.0,
            device.1,
            u32::try_from(path.len() + 1).unwrap_or(u32::MAX),
            0,
        ];
        self.0.extend_from_slice(b"070701");
        for field in fields {
            self.0.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.0.extend_from_slice(path.as_bytes());
        self.0.push(0);
        self.align(4);
        self.0.extend_from_slice(bytes);
        self.align(4);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), b"");
        self.align(512);
        self.0
    }

    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one entry of the archive is.
    #[derive(Debug, PartialEq)]
    struct Entry {
        name: String,
        mode: u32,
        device: (u32, u32),
        bytes: Vec<u8>,
    }

    fn entry(name: &str, mode: u32, device: (u32, u32), bytes: &[u8]) -> Entry {
        let (name, bytes) = (name.to_owned(), bytes.to_vec());
        Entry {
            name,
            mode,
            device,
            bytes,
        }
    }

    /// A second reading of the format, from its description.
    fn entries(archive: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut at = 0;
        let mut take = |length: usize, aligned: bool| {
            let taken = &archive[at..at + length];
            at += length;
            if aligned {
                at = at.next_multiple_of(4);
            }
            taken
        };
        loop {
            let header = take(110, false);
            assert_eq!(&header[..6], b"070701");
            let field = |n: usize| {
                let digits = std::str::from_utf8(&header[6 + 8 * n..14 + 8 * n]).unwrap();
                u32::from_str_radix(digits, 16).unwrap()
            };
            let name = std::str::from_utf8(take(field(11) as usize, true)).unwrap();
            let name = name.trim_end_matches('\0');
            let bytes = take(field(6) as usize, true);
            if name == "TRAILER!!!" {
                return entries;
            }
            entries.push(entry(name, field(1), (field(9), field(10)), bytes));
        }
    }

    #[test]
    fn holds_the_agent_and_the_console() {
        let kernel = Kernel::without_modules();
        let archive = initramfs(&kernel, b"agent", Needs::default()).unwrap();
        assert_eq!(
            archive,
            initramfs(&kernel, b"agent", Needs::default()).unwrap()
        );
        assert_eq!(archive.len() % 512, 0);
        let expected = [
            entry("dev", 0o040_755, (0, 0), b""),
            entry("dev/console", 0o020_600, (5, 1), b""),
            entry("init", 0o100_755, (0, 0), b"agent"),
            entry("modules", 0o040_755, (0, 0), b""),
            entry("modules/order", 0o100_644, (0, 0), b""),
        ];
        assert_eq!(entries(&archive), expected);
    }
}
