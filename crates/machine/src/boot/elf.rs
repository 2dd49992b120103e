//! Reads just enough of 64-bit little-endian ELF files: kernels, modules, the agent.
//!
//! What must hold: any bytes are safe to parse; nothing is read outside the file.

/// A program header that names a dynamic linker.
#[cfg(test)]
pub(super) const INTERPRETER: u32 = 3;
/// A program header of what is loaded.
const LOAD: u32 = 1;
/// A program header of notes.
pub(super) const NOTE: u32 = 4;

const X86_64: u64 = 62;
/// The note by which Xen and PVH loaders find a kernel's 32-bit entry point.
const PVH_ENTRY: u64 = 18;

/// A parsed ELF file.
pub(super) struct Elf<'a> {
    bytes: &'a [u8],
}

impl<'a> Elf<'a> {
    /// None for anything but a 64-bit little-endian ELF file for x86-64.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let fits = bytes.starts_with(b"\x7fELF\x02\x01") && number(bytes, 0x12, 2)? == X86_64;
        fits.then_some(Self { bytes })
    }

    /// The bytes of the first segment of a kind.
    pub(super) fn segment(&self, kind: u32) -> Option<&'a [u8]> {
        let start = number(self.bytes, 0x20, 8)?;
        let size = number(self.bytes, 0x36, 2)?;
        let count = number(self.bytes, 0x38, 2)?;
        (0..count).find_map(|index| {
            let header = at(start, size, index)?;
            if number(self.bytes, header, 4)? != u64::from(kind) {
                return None;
            }
            self.range(
                number(self.bytes, header + 8, 8)?,
                number(self.bytes, header + 32, 8)?,
            )
        })
    }

    /// From the lowest byte in memory to the highest, of all that is loaded; none if nothing is. Only the
    /// headers are looked at.
    pub(super) fn span(&self) -> Option<u64> {
        let start = number(self.bytes, 0x20, 8)?;
        let size = number(self.bytes, 0x36, 2)?;
        let count = number(self.bytes, 0x38, 2)?;
        let mut ends: Option<(u64, u64)> = None;
        for index in 0..count {
            let header = at(start, size, index)?;
            if number(self.bytes, header, 4)? != u64::from(LOAD) {
                continue;
            }
            let address = number(self.bytes, header + 24, 8)?;
            let end = address.saturating_add(number(self.bytes, header + 40, 8)?);
            let (first, last) = ends.unwrap_or((address, end));
            ends = Some((first.min(address), last.max(end)));
        }
        ends.map(|(first, last)| last - first)
    }

    /// The bytes of the section with this name.
    pub(super) fn section(&self, name: &[u8]) -> Option<&'a [u8]> {
        let start = number(self.bytes, 0x28, 8)?;
        let size = number(self.bytes, 0x3a, 2)?;
        let count = number(self.bytes, 0x3c, 2)?;
        let names = self.section_bytes(at(start, size, number(self.bytes, 0x3e, 2)?)?)?;
        (0..count).find_map(|index| {
            let header = at(start, size, index)?;
            let own = usize::try_from(number(self.bytes, header, 4)?).ok()?;
            let own = names.get(own..)?.split(|byte| *byte == 0).next()?;
            if own == name {
                self.section_bytes(header)
            } else {
                None
            }
        })
    }

    /// Whether a loader can enter the kernel the PVH way, as QEMU's microvm does.
    pub(super) fn has_pvh_entry(&self) -> bool {
        let mut notes = self.segment(NOTE).unwrap_or_default();
        while let Some((name, kind, rest)) = note(notes) {
            if name == b"Xen\0" && kind == PVH_ENTRY {
                return true;
            }
            notes = rest;
        }
        false
    }

    fn section_bytes(&self, header: usize) -> Option<&'a [u8]> {
        self.range(
            number(self.bytes, header + 24, 8)?,
            number(self.bytes, header + 32, 8)?,
        )
    }

    fn range(&self, start: u64, length: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(start).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        self.bytes.get(start..end)
    }
}

/// The first note's name and kind, and the notes after it.
fn note(notes: &[u8]) -> Option<(&[u8], u64, &[u8])> {
    let aligned = |length: u64| usize::try_from(length.checked_next_multiple_of(4)?).ok();
    let name_length = number(notes, 0, 4)?;
    let kind = number(notes, 8, 4)?;
    let name = notes.get(12..12 + usize::try_from(name_length).ok()?)?;
    let rest = 12 + aligned(name_length)? + aligned(number(notes, 4, 4)?)?;
    Some((name, kind, notes.get(rest..)?))
}

fn at(start: u64, size: u64, index: u64) -> Option<usize> {
    let offset = start.checked_add(size.checked_mul(index)?)?;
    usize::try_from(offset)
        .ok()
        .filter(|offset| *offset < usize::MAX - 64)
}

/// A little-endian number of `length` bytes.
pub(super) fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_note(kind: u8) -> Vec<u8> {
        let mut file = vec![0; 0x78];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[0x12] = 62;
        file[0x20] = 0x40;
        file[0x36] = 0x38;
        file[0x38] = 1;
        file[0x40] = 4;
        file[0x48] = 0x78;
        let notes = [
            &[4, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0][..],
            b"GNU\0ab\0\0",
            &[4, 0, 0, 0, 4, 0, 0, 0, kind, 0, 0, 0],
            b"Xen\0abcd",
        ]
        .concat();
        file[0x60] = u8::try_from(notes.len()).unwrap();
        file.extend(notes);
        file
    }

    #[test]
    fn finds_the_pvh_entry_among_the_notes() {
        assert!(Elf::parse(&with_note(18)).unwrap().has_pvh_entry());
        assert!(!Elf::parse(&with_note(17)).unwrap().has_pvh_entry());
    }

    #[test]
    fn damaged_files_are_read_without_harm() {
        let file = with_note(18);
        for length in 0..file.len() {
            if let Some(elf) = Elf::parse(&file[..length]) {
                assert!(!elf.has_pvh_entry(), "{length}");
                assert!(elf.section(b".modinfo").is_none());
            }
        }
        for at in 0x14..file.len() {
            let mut damaged = file.clone();
            damaged[at] = 0xff;
            let elf = Elf::parse(&damaged).unwrap();
            let _ = (elf.has_pvh_entry(), elf.section(b".modinfo"));
        }
    }

    #[test]
    fn this_program_has_sections() {
        let bytes = fs_err::read("/proc/self/exe").unwrap();
        let elf = Elf::parse(&bytes).unwrap();
        assert!(elf.section(b".text").is_some_and(|text| !text.is_empty()));
        assert!(elf.section(b".none").is_none());
    }
}
