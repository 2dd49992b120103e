//! The system calls that cannot be made in safe Rust.
#![allow(
    unsafe_code,
    reason = "the library cannot rule out flags and signals that would be unsound"
)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use tokio::io::unix::AsyncFd;

/// Gives the calling thread namespaces of its own.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    let allowed = UnshareFlags::NEWNS
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWCGROUP
        | UnshareFlags::NEWNET;
    if !allowed.contains(flags) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: needed because namespaces can be had in no other way. It is sound because CLONE_FILES,
    // the flag that could invalidate descriptors that others hold, was refused above.
    unsafe { unshare_unsafe(flags) }.map_err(io::Error::from)
}

/// Calls `spawn`, whose child becomes the first process of a new PID namespace. `own` is the
/// calling process's `/proc/self/ns/pid`, to which later children go again.
pub(crate) fn in_new_pid_namespace<T>(
    own: &File,
    spawn: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    unshare(UnshareFlags::NEWPID)?;
    let result = spawn();
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::ProcessID))?;
    result
}

/// Calls `spawn`, whose child becomes a process of the PID namespace `joined`. `own` is as above.
pub(crate) fn in_pid_namespace<T>(
    joined: &File,
    own: &File,
    spawn: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    move_into_link_name_space(joined.as_fd(), Some(LinkNameSpaceType::ProcessID))?;
    let result = spawn();
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::ProcessID))?;
    result
}

/// A signal by its number, real-time signals included.
pub(crate) fn signal(number: u32) -> Option<Signal> {
    let number = i32::try_from(number)
        .ok()
        .filter(|number| (1..=64).contains(number))?;
    // SAFETY: needed because real-time signals have no names in the library. It is sound because
    // the number is one of the kernel's, and signals are only ever sent here, never handled: the
    // danger is in handlers for those that the C library keeps for itself.
    Some(unsafe { Signal::from_raw_unchecked(number) })
}

/// What bpf(2) does and how it calls the programs that decide about devices (`linux/bpf.h`).
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;

/// Has the kernel check and take a program that decides about devices.
pub(crate) fn load_device_program(instructions: &[u64]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log: [u32; 4],
        version: u32,
        flags: u32,
    }
    let license = c"Apache-2.0";
    let load = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log: [0; 4],
        version: 0,
        flags: 0,
    };
    // SAFETY: needed because the library has no bpf(2). It is sound because `load` is the beginning
    // of the kernel's own structure, of the size that is given; the kernel reads `count`
    // instructions of 8 bytes and the license up to its NUL, which all live until it returns, and
    // writes nothing.
    let descriptor = unsafe {
        let size = size_of::<Load>();
        libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size)
    };
    match libc::c_int::try_from(descriptor) {
        // SAFETY: needed to own what a system call gave. It is sound because the kernel has made
        // this descriptor just now and nobody else knows of it.
        Ok(descriptor @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has `program` decide about devices for all processes in the control group `group`.
pub(crate) fn attach_device_program(
    group: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    let attach = [
        group.as_raw_fd().cast_unsigned(),
        program.as_raw_fd().cast_unsigned(),
        BPF_CGROUP_DEVICE,
        0,
    ];
    // SAFETY: needed because the library has no bpf(2). It is sound because `attach` is the
    // beginning of the kernel's own structure, of the size that is given, and the kernel only
    // reads it.
    let result = unsafe {
        let size = size_of_val(&attach);
        libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, attach.as_ptr(), size)
    };
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Bytes of `struct dm_ioctl` (`linux/dm-ioctl.h`), before what belongs to a request.
pub(crate) const MAP_REQUEST: u16 = 312;

/// Makes a request to the device mapper, whose control device is `control`. The answer takes the place
/// of the request.
pub(crate) fn map_devices(control: &File, command: u8, request: &mut [u8]) -> io::Result<()> {
    /// `_IOWR(0xfd, 0, struct dm_ioctl)`.
    const FIRST: libc::c_ulong = 0xc138_fd00;
    let length = u32::try_from(request.len()).map_err(io::Error::other)?;
    if length < MAP_REQUEST.into() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    request[12..16].copy_from_slice(&length.to_le_bytes());
    let number = FIRST | libc::c_ulong::from(command);
    // SAFETY: needed because the library has no requests of the device mapper. It is sound because the
    // kernel reads and writes as many bytes as the request itself says at 12, which were set to its
    // length just now and are at least as many as the structure has; and it keeps no pointer.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), number, request.as_mut_ptr()) };
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A descriptor whose readiness can be awaited. To be called within the runtime.
pub(crate) fn awaited(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: needed because the library takes anything that has a descriptor, which might be another
    // one each time it is asked. It is sound because this is a descriptor, which is open and the same
    // for as long as it is owned, and nobody can exchange what the result owns.
    unsafe { AsyncFd::register(descriptor) }.map_err(io::Error::from)
}
