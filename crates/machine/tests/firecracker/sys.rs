//! The one call that the stand-in cannot make safely.
#![allow(
    unsafe_code,
    reason = "a tap is opened by a call without a safe wrapper"
)]

use std::io;

use rustix::ioctl::{Setter, ioctl, opcode};

/// `struct ifreq` of `linux/if.h`, as `TUNSETIFF` reads it.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// `IFF_TAP`, `IFF_NO_PI` and `IFF_VNET_HDR`: what Firecracker opens a tap with.
const FLAGS: u16 = 0x5002;

/// Opens the tap `name` by its name, as Firecracker does.
pub(crate) fn open_tap(name: &str) -> io::Result<fs_err::File> {
    let tun = fs_err::OpenOptions::new();
    let mut tun = tun;
    let tun = tun.read(true).write(true).open("/dev/net/tun")?;
    let mut request = Request {
        name: [0; 16],
        flags: FLAGS,
        rest: [0; 22],
    };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: needed because no library offers TUNSETIFF. `Request` has the layout and the 40 bytes
    // of `struct ifreq`, and the call reads and writes no more.
    unsafe {
        ioctl(
            tun.file(),
            Setter::<{ opcode::write::<i32>(b'T', 202) }, Request>::new(request),
        )
    }?;
    Ok(tun)
}
