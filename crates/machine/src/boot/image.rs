//! Kernel images: an ELF vmlinux as it is, or a bzImage (Documentation/arch/x86/boot.rst in the
//! kernel's source) whose payload is one.

use super::compression::unpack;
use super::elf::{Elf, number};

/// Where an x86 boot header's fields are.
const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: std::ops::Range<usize> = 0x202..0x206;
const PROTOCOL: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
/// The first version of the boot protocol that says where the payload is.
const PROTOCOL_WITH_PAYLOAD: u64 = 0x208;

/// What a file that should be a kernel turned out to be.
pub(super) enum Image {
    /// An uncompressed ELF kernel that QEMU and Firecracker can boot.
    Elf(Vec<u8>),
    /// No kernel at all.
    Unknown,
    /// A kernel that cannot be used, and why.
    Unusable(String),
}

/// Finds the ELF kernel in a kernel image.
pub(super) fn open(file: Vec<u8>) -> Image {
    if file.starts_with(b"\x7fELF") {
        return checked(file);
    }
    if file.get(MAGIC) != Some(b"HdrS") {
        return Image::Unknown;
    }
    match payload(&file).map(unpack) {
        Some(Ok(kernel)) => checked(kernel),
        Some(Err(error)) => Image::Unusable(error.to_string()),
        None => Image::Unusable("its header does not say where the kernel is".to_owned()),
    }
}

fn payload(file: &[u8]) -> Option<&[u8]> {
    if number(file, PROTOCOL, 2)? < PROTOCOL_WITH_PAYLOAD {
        return None;
    }
    // Zero means four, from the days of floppies.
    let sectors = match number(file, SETUP_SECTORS, 1)? {
        0 => 4,
        sectors => sectors,
    };
    let start = (sectors + 1) * 512 + number(file, PAYLOAD_OFFSET, 4)?;
    let end = start + number(file, PAYLOAD_LENGTH, 4)?;
    file.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

fn checked(kernel: Vec<u8>) -> Image {
    let Some(elf) = Elf::parse(&kernel) else {
        return Image::Unusable("it is not for x86-64".to_owned());
    };
    if elf.segment(1).is_none() {
        return Image::Unusable("it is not a program: nothing in it is to be loaded".to_owned());
    }
    if !elf.has_pvh_entry() {
        return Image::Unusable("it has no PVH entry point (CONFIG_PVH)".to_owned());
    }
    Image::Elf(kernel)
}

/// The kernel's release, from the banner that every kernel carries: `Linux version RELEASE (`.
pub(super) fn release(kernel: &[u8]) -> Option<String> {
    const BANNER: &[u8] = b"Linux version ";
    let mut rest = kernel;
    loop {
        let at = find(rest, BANNER)?;
        rest = &rest[at + BANNER.len()..];
        let release: &[u8] = rest.split(|byte| *byte == b' ').next()?;
        // The same words stand before a `%s` in another string.
        let plain = release.first().is_some_and(u8::is_ascii_digit)
            && release.len() < 65
            && release
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || b"._-+~".contains(b));
        if plain {
            return Some(String::from_utf8_lossy(release).into_owned());
        }
    }
}

/// The configuration that a kernel built with `CONFIG_IKCONFIG` carries.
pub(super) fn embedded_config(kernel: &[u8]) -> Option<Vec<u8>> {
    const START: &[u8] = b"IKCFG_ST\x1f\x8b";
    let at = find(kernel, START)?;
    unpack(&kernel[at + START.len() - 2..]).ok()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == first) {
        if bytes[from + at..].starts_with(wanted) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_the_banners() {
        let kernel = b"\0Linux version %s (%s)\0xxLinux version 6.1.0-56-cloud-amd64 (debian";
        assert_eq!(release(kernel).unwrap(), "6.1.0-56-cloud-amd64");
        assert_eq!(release(b"Linux version "), None);
    }

    #[test]
    fn what_is_no_kernel_is_told_apart() {
        assert!(matches!(open(b"#!/bin/sh".to_vec()), Image::Unknown));
        assert!(matches!(open(Vec::new()), Image::Unknown));
        let mut image = vec![0; 1024];
        image[MAGIC].copy_from_slice(b"HdrS");
        assert!(matches!(open(image.clone()), Image::Unusable(_)));
        image[PROTOCOL..PROTOCOL + 2].copy_from_slice(&[0x0f, 0x02]);
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].fill(0xff);
        assert!(matches!(open(image), Image::Unusable(_)));
        let program = fs_err::read("/proc/self/exe").unwrap();
        assert!(matches!(open(program), Image::Unusable(reason) if reason.contains("PVH")));
    }
}
