//! The control group of steps, whose processes open no device but those of every container.
//!
//! A step may make device nodes, and images have some. But one for the VM's own drive would lead to
//! the layers of earlier steps, behind the back of the file system that shows them. So the kernel
//! asks a small program about every device that is opened (`linux/bpf.h`, "cgroup device"), which
//! knows the rules of container engines.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, mount};

use crate::console;
use crate::error::{Doing as _, Result, chain};
use crate::sys;

/// Where the hierarchy of control groups is mounted.
const GROUPS: &str = "/g";

/// What a program is told: three numbers, the first of which has two halves.
const ACCESS_AND_KIND: i16 = 0;
const MAJOR: i16 = 4;
const MINOR: i16 = 8;
/// In the upper half: a node is to be made, and nothing else.
const MAKE: i32 = 1;
/// In the lower half.
const CHARACTER: i32 = 2;

/// The character devices that may be opened, by their numbers; all of a major one without a minor.
const OPEN: [(i32, Option<i32>); 9] = [
    // null, zero, full, random, urandom
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    // tty, console, ptmx
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    // Pseudo-terminals.
    (136, None),
];

/// The group for confined steps; made for the first one. None where the kernel has no such thing:
/// it is the VM that keeps what a step does from the host, with or without.
pub(super) fn of_steps() -> Option<PathBuf> {
    static GROUP: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = || match make() {
        Ok(group) => Some(group),
        Err(error) => {
            console::debug(|| format!("steps may open every device: {}", chain(&error)));
            None
        }
    };
    GROUP.get_or_init(made).clone()
}

/// The group of an init, which it may divide further. None where the kernel has no such thing: then
/// the init will say what it thinks of that.
pub(super) fn of_init() -> Option<PathBuf> {
    match group("init") {
        Ok(group) => Some(group),
        Err(error) => {
            console::debug(|| format!("no control group for the init: {}", chain(&error)));
            None
        }
    }
}

fn group(name: &str) -> Result<PathBuf> {
    fs_err::create_dir_all(GROUPS).doing(|| format!("make `{GROUPS}`"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("cgroup2", GROUPS, "cgroup2", flags, c"").doing(|| "mount cgroup2".to_owned())?;
    let group = Path::new(GROUPS).join(name);
    fs_err::create_dir(&group).doing(|| format!("make `{}`", group.display()))?;
    Ok(group)
}

fn make() -> Result<PathBuf> {
    let group = group("step")?;
    let doing = || "limit the devices of steps".to_owned();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&group, flags, Mode::empty()).doing(doing)?;
    let program = sys::load_device_program(&program()).doing(doing)?;
    sys::attach_device_program(opened.as_fd(), program.as_fd()).doing(doing)?;
    Ok(group)
}

/// Puts this process, and all that it starts, into a group.
pub(super) fn enter(group: &Path) -> Result<()> {
    fs_err::write(group.join("cgroup.procs"), "0").doing(|| "enter a control group".to_owned())
}

/// An instruction of the kernel's virtual machine (`Documentation/bpf/standardization`, RFC 9669):
/// what is done, to which registers, how far it jumps or reads, and a number.
fn instruction(code: u8, destination: u8, source: u8, offset: i16, number: i32) -> u64 {
    let [low, high] = offset.to_le_bytes();
    let [a, b, c, d] = number.to_le_bytes();
    let registers = destination | source << 4;
    u64::from_ne_bytes([code, registers, low, high, a, b, c, d])
}

fn load(register: u8, offset: i16) -> u64 {
    instruction(0x61, register, 1, offset, 0)
}

fn copy(to: u8, from: u8) -> u64 {
    instruction(0xbf, to, from, 0, 0)
}

fn set(register: u8, number: i32) -> u64 {
    instruction(0xb7, register, 0, 0, number)
}

fn shift_right(register: u8, bits: i32) -> u64 {
    instruction(0x77, register, 0, 0, bits)
}

fn and(register: u8, mask: i32) -> u64 {
    instruction(0x57, register, 0, 0, mask)
}

/// Goes over as many instructions if the register holds another number.
fn skip_unless(register: u8, number: i32, skipped: i16) -> u64 {
    instruction(0x55, register, 0, skipped, number)
}

/// The end: 1 allows, 0 refuses.
fn end(allowed: bool) -> [u64; 2] {
    [set(0, i32::from(allowed)), instruction(0x95, 0, 0, 0, 0)]
}

/// The program. Every node may be made; those of [`OPEN`] may be opened.
fn program() -> Vec<u64> {
    let (access, kind, major, minor) = (2, 3, 4, 5);
    let mut all = vec![
        load(kind, ACCESS_AND_KIND),
        load(major, MAJOR),
        load(minor, MINOR),
        copy(access, kind),
        shift_right(access, 16),
        and(kind, 0xffff),
        skip_unless(access, MAKE, 2),
    ];
    all.extend(end(true));
    // Of what is left, block devices are refused: whatever is no character device skips nothing.
    all.push(instruction(0x15, kind, 0, 2, CHARACTER));
    all.extend(end(false));
    for (number, other) in OPEN {
        all.push(skip_unless(
            major,
            number,
            if other.is_some() { 3 } else { 2 },
        ));
        all.extend(other.map(|other| skip_unless(minor, other, 2)));
        all.extend(end(true));
    }
    all.extend(end(false));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u32 = 1;
    const CHAR: u32 = 2;
    const MAKE: u32 = 1;
    const READ: u32 = 2;
    const WRITE: u32 = 4;

    /// Does what the kernel would do.
    fn run(program: &[u64], input: [u32; 3]) -> u64 {
        let (mut registers, mut at) = ([0_u64; 11], 0_usize);
        loop {
            let [code, names, low, high, number @ ..] = program[at].to_ne_bytes();
            let (to, from) = (usize::from(names & 15), usize::from(names >> 4));
            let offset = usize::try_from(i16::from_le_bytes([low, high])).unwrap();
            let number = u64::try_from(i32::from_le_bytes(number)).unwrap();
            at += 1;
            match code {
                0x61 if from == 1 => registers[to] = input[offset / 4].into(),
                0xbf => registers[to] = registers[from],
                0xb7 => registers[to] = number,
                0x77 => registers[to] >>= number,
                0x57 => registers[to] &= number,
                0x55 => at += if registers[to] == number { 0 } else { offset },
                0x15 => at += if registers[to] == number { offset } else { 0 },
                0x95 => return registers[0],
                other => panic!("{other:x}"),
            }
        }
    }

    #[test]
    fn devices_of_every_container_are_opened_and_others_are_not() {
        let program = program();
        for (access, kind, major, minor, expected) in [
            (READ | WRITE, CHAR, 1, 3, true),
            (READ, CHAR, 1, 9, true),
            (WRITE, CHAR, 5, 0, true),
            (READ | WRITE, CHAR, 5, 2, true),
            (READ | WRITE, CHAR, 136, 0, true),
            (READ | WRITE, CHAR, 136, 77, true),
            // Memory, the kernel's log, the first serial line.
            (READ, CHAR, 1, 1, false),
            (READ, CHAR, 1, 11, false),
            (WRITE, CHAR, 4, 64, false),
            (READ, CHAR, 3, 1, false),
            (READ, CHAR, 0x1_0001, 3, false),
            // Drives.
            (READ, BLOCK, 254, 0, false),
            (READ | WRITE, BLOCK, 1, 3, false),
            (READ, BLOCK, 7, 0, false),
            // Only making is no opening.
            (MAKE, BLOCK, 254, 0, true),
            (MAKE, CHAR, 1, 1, true),
            (MAKE | READ, BLOCK, 254, 0, false),
            (0, BLOCK, 254, 0, false),
        ] {
            let result = run(&program, [access << 16 | kind, major, minor]);
            assert_eq!(
                result,
                u64::from(expected),
                "{access} {kind} {major}:{minor}"
            );
        }
    }
}
