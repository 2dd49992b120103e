//! A tap device of the tests' own, to play a VM with.
#![allow(
    unsafe_code,
    reason = "tap devices are made by ioctls, for which there is no safe wrapper"
)]

use std::os::fd::{AsRawFd, OwnedFd};

#[repr(C)]
pub(crate) struct TapRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

nix::ioctl_write_ptr_bad!(set_name, nix::request_code_write!(b'T', 202, 4), TapRequest);
nix::ioctl_write_int_bad!(set_offload, nix::request_code_write!(b'T', 208, 4));

/// Makes a tap with virtio-net headers in the thread's namespace.
pub(crate) fn open(name: &str) -> OwnedFd {
    let file = fs_err::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .unwrap();
    let tap: OwnedFd = file.into_parts().0.into();
    let mut request = TapRequest {
        name: [0; 16],
        flags: 0x0002 | 0x1000 | 0x4000,
        rest: [0; 22],
    };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: the request has the layout of `struct ifreq` and lives through the call.
    unsafe { set_name(tap.as_raw_fd(), &raw const request) }.unwrap();
    tap
}

/// Says that whoever reads the tap takes segments of TCP as they are, checksums unmade: as a VMM
/// does when its guest's driver can.
pub(crate) fn offer_offloads(tap: &OwnedFd) {
    // SAFETY: the argument is a number: TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6.
    unsafe { set_offload(tap.as_raw_fd(), 0b111) }.unwrap();
}
