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
