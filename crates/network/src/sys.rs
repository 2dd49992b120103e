//! The calls into the kernel that Rust cannot check: a tap's `ioctl`s, `unshare`, and the code
//! between `fork` and `exec`. Nothing else in the crate is `unsafe`.
#![allow(
    unsafe_code,
    reason = "tap devices, namespaces and children are made by calls without a safe wrapper"
)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::ioctl::{self, IntegerSetter, Setter, opcode};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// `struct ifreq` of `linux/if.h`, as `TUNSETIFF` reads it.
#[repr(C)]
struct TapRequest {
    name: [u8; 16],
    flags: u16,
    // The kernel copies the whole union, of which a tap's flags are the first two bytes.
    rest: [u8; 22],
}

const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;

const TUNSETIFF: ioctl::Opcode = opcode::write::<i32>(b'T', 202);
const TUNSETPERSIST: ioctl::Opcode = opcode::write::<i32>(b'T', 203);
const TUNSETOWNER: ioctl::Opcode = opcode::write::<i32>(b'T', 204);
const TUNSETGROUP: ioctl::Opcode = opcode::write::<i32>(b'T', 206);

/// Makes `tun`, an open `/dev/net/tun`, the queue of the tap device `name` in the thread's network
/// namespace, with virtio-net headers. The device is there until its namespace goes, and the user
/// and group given may open it again once `tun` is closed.
pub(crate) fn make_tap(tun: &OwnedFd, name: &str, uid: u32, gid: u32) -> io::Result<()> {
    let mut request = TapRequest {
        name: [0; 16],
        flags: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR,
        rest: [0; 22],
    };
    let room = request.name.len() - 1;
    if name.len() > room {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: needed because no library offers TUNSETIFF. `TapRequest` has the layout and the 40
    // bytes of `struct ifreq`, lives through the call, and TUNSETIFF reads and writes no more.
    unsafe { ioctl::ioctl(tun, Setter::<TUNSETIFF, TapRequest>::new(request))? };
    // SAFETY: needed because no library offers these. All three take their argument by value, and
    // every number is a valid one to them: an id, or 1 for "persistent".
    unsafe {
        ioctl::ioctl(tun, IntegerSetter::<TUNSETOWNER>::new_usize(uid as usize))?;
        ioctl::ioctl(tun, IntegerSetter::<TUNSETGROUP>::new_usize(gid as usize))?;
        ioctl::ioctl(tun, IntegerSetter::<TUNSETPERSIST>::new_usize(1))?;
    }
    Ok(())
}

/// Moves the calling thread into a new network namespace.
pub(crate) fn unshare_network() -> io::Result<()> {
    // SAFETY: needed because rustix declares every use unsafe for the sake of one flag, FILES,
    // under which threads stop sharing descriptors. It is not among the flags here.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(())
}

/// Makes the child that `command` starts enter `namespace` before it runs its program, with `kept`
/// left open in it under the number that the descriptor has now.
pub(crate) fn enter_before_exec(command: &mut Command, namespace: OwnedFd, kept: Option<OwnedFd>) {
    let in_child = move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        if let Some(kept) = &kept {
            fcntl_setfd(kept, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: needed because a child cannot be moved after it has started. Between fork and exec
    // the closure makes two system calls on descriptors that it owns; it takes no lock, allocates
    // nothing and cannot panic.
    unsafe { command.pre_exec(in_child) };
}
