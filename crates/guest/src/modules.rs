//! Loading the kernel modules that came with the initramfs.

use rustix::system::finit_module;

use crate::console;
use crate::error::{Doing as _, Result};

const DIRECTORY: &str = "/modules";

/// Loads every module that `/modules/order` names, in that order, and frees their memory.
pub(crate) fn load() -> Result<()> {
    let order = fs_err::read_to_string(format!("{DIRECTORY}/order"))
        .doing(|| "read the list of modules".to_owned())?;
    for name in order.lines() {
        let path = format!("{DIRECTORY}/{name}");
        let file = fs_err::File::open(&path).doing(|| format!("open module `{name}`"))?;
        match finit_module(file.file(), c"", 0) {
            // Built in after all, or loaded already.
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error).doing(|| format!("load module `{name}`")),
        }
        console::debug(|| format!("module {name}"));
    }
    // The initramfs is memory.
    fs_err::remove_dir_all(DIRECTORY).doing(|| "remove the modules".to_owned())
}
