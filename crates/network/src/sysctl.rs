//! Kernel parameters of the calling thread's network namespace.

use std::io;
use std::path::Path;

use crate::Error;

/// Sets a parameter below `/proc/sys/net`, unless it is so already. One that the kernel does not
/// have concerns a protocol that it does not have.
pub(crate) fn set(name: &str, value: &str) -> Result<(), Error> {
    let path = Path::new("/proc/sys/net").join(name);
    let written = match fs_err::read_to_string(&path) {
        Ok(old) if old.trim() == value => Ok(()),
        Ok(_) => fs_err::write(&path, value),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    written.map_err(Error::system(format!(
        "set the kernel parameter `net/{name}` to {value}"
    )))
}

/// Whether the kernel has IPv6, and it is not switched off for good.
pub(crate) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// Has the namespace forward packets of IPv6. It would then no longer believe the routers that it has
/// its own addresses and routes from, so devices that believe routers are told to go on.
pub(crate) fn forward_ipv6() -> Result<(), Error> {
    const DEVICES: &str = "/proc/sys/net/ipv6/conf";
    let read = |name: &str| {
        let text = fs_err::read_to_string(Path::new(DEVICES).join(name));
        text.map(|text| text.trim().to_owned()).unwrap_or_default()
    };
    if read("all/forwarding") == "1" {
        return Ok(());
    }
    // A kernel without IPv6 has nothing there.
    let devices = fs_err::read_dir(DEVICES).into_iter().flatten().flatten();
    for device in devices {
        let name = device.file_name().to_string_lossy().into_owned();
        if read(&format!("{name}/accept_ra")) == "1" {
            set(&format!("ipv6/conf/{name}/accept_ra"), "2")?;
        }
    }
    set("ipv6/conf/all/forwarding", "1")
}
