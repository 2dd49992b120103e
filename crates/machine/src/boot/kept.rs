//! The initramfs of a kernel, made once and kept beside it.
//!
//! Its name tells what it is good for: what a VM needs of its kernel, and a digest of the agent and of
//! the code that makes archives. So one of another firebuild is never taken for it; it is replaced.
//!
//! What must hold: nothing depends on it. One that is not there, or not whole, is made anew, and where
//! none can be kept, the archive is in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use firebuild_store::{KernelId, Store};

use super::kernel::{Kernel, Needs};
use super::{BootError, agent, initramfs};
use crate::vmm::qemu;
use crate::{Error, sys};

/// Of the agent and of this crate's code about initramfs; `build.rs` makes it.
const KEY: &str = env!("FIREBUILD_INITRAMFS_KEY");

/// How long the last block of an archive is, which is a whole number of them.
const BLOCK: u16 = 512;

/// The initramfs of kernel `id`, which is `kernel`, for VMs with these needs: a file that any user may
/// read who has it open.
///
/// # Errors
/// Those of [`initramfs`]; [`Error::Io`].
pub(crate) fn open(
    store: &Store,
    id: &KernelId,
    kernel: &Kernel,
    needs: Needs,
) -> Result<File, Error> {
    let kind = kind(needs);
    let kept = store.kernels().kept(id, kind, KEY);
    if let Some(file) = kept.filter(|file| is_whole(file).unwrap_or(false)) {
        return Ok(file);
    }
    let archive = made(kernel, needs)?;
    match store.kernels().keep(id, kind, KEY, &archive) {
        Ok(file) => Ok(file),
        // The store is full, or cannot be written, or the kernel is just being removed.
        Err(_) => qemu::in_memory(&archive)
            .map_err(|source| Error::io("pass the initramfs on to the VMM", source)),
    }
}

fn made(kernel: &Kernel, needs: Needs) -> Result<Vec<u8>, BootError> {
    let archive = initramfs(kernel, agent(), needs);
    // Three megabytes that a supervisor would keep resident for nothing.
    sys::forget(agent());
    archive
}

/// One word for everything that a VM may need.
fn kind(needs: Needs) -> &'static str {
    match (needs.verity, needs.sharing) {
        (false, false) => "plain",
        (true, false) => "verity",
        (false, true) => "sharing",
        (true, true) => "verity+sharing",
    }
}

/// Whether a file begins and ends as an archive does.
fn is_whole(file: &File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let Some(last) = length.checked_sub(BLOCK.into()) else {
        return Ok(false);
    };
    let (mut begin, mut end) = ([0; 6], [0; BLOCK as usize]);
    file.read_exact_at(&mut begin, 0)?;
    file.read_exact_at(&mut end, last)?;
    // The entry that ends it may begin in the block before.
    let mark = b"!!!\0";
    let is_ended = end.windows(mark.len()).any(|window| window == mark);
    Ok(length.is_multiple_of(BLOCK.into()) && begin == *b"070701" && is_ended)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn store() -> (tempfile::TempDir, Store, KernelId, Kernel) {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let id: KernelId = "one".parse().unwrap();
        let staged = store.temporary_directory().unwrap();
        let facts = r#"{"release":"6.1","config":false,"modules":[],"acpi":true}"#;
        fs_err::write(staged.path().join("kernel.json"), facts).unwrap();
        let path = store.kernels().put(&id, staged, false).unwrap();
        let kernel = Kernel::open(&path).unwrap();
        (root, store, id, kernel)
    }

    fn content(file: &File) -> Vec<u8> {
        let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn it_is_made_once() {
        let (_root, store, id, kernel) = store();
        let expected = initramfs(&kernel, agent(), Needs::default()).unwrap();
        let first = open(&store, &id, &kernel, Needs::default()).unwrap();
        let second = open(&store, &id, &kernel, Needs::default()).unwrap();
        assert!(content(&first) == expected && content(&second) == expected);
        let inode = |file: &File| file.metadata().unwrap().ino();
        assert_eq!(inode(&first), inode(&second));
        // QEMU is another user, and gets no copy; nor does it get what others boot into its hands.
        assert_eq!(first.metadata().unwrap().mode() & 0o777, 0o644);
        assert!(first.write_at(b"x", 0).is_err() && second.write_at(b"x", 0).is_err());
    }

    #[test]
    fn what_is_not_whole_is_made_anew() {
        let (_root, store, id, kernel) = store();
        let expected = initramfs(&kernel, agent(), Needs::default()).unwrap();
        drop(open(&store, &id, &kernel, Needs::default()).unwrap());
        let directory = store.kernels().get(&id).unwrap().join("initramfs");
        let path = fs_err::read_dir(&directory).unwrap().next().unwrap();
        let path = path.unwrap().path();
        for damage in [0, 5, 1024, expected.len() - 512, expected.len() - 1] {
            fs_err::write(&path, &expected[..damage]).unwrap();
            let again = open(&store, &id, &kernel, Needs::default()).unwrap();
            assert!(content(&again) == expected, "{damage}");
        }
        // One of another firebuild goes.
        fs_err::rename(&path, directory.join("plain-0123456789abcdef")).unwrap();
        drop(open(&store, &id, &kernel, Needs::default()).unwrap());
        assert_eq!(fs_err::read_dir(&directory).unwrap().count(), 1);
        assert!(path.exists());
    }

    #[test]
    fn where_none_can_be_kept_it_is_in_memory() {
        let (_root, store, id, kernel) = store();
        let directory = store.kernels().get(&id).unwrap().join("initramfs");
        // In the way, for root too.
        fs_err::write(&directory, b"").unwrap();
        let expected = initramfs(&kernel, agent(), Needs::default()).unwrap();
        let file = open(&store, &id, &kernel, Needs::default()).unwrap();
        assert!(content(&file) == expected);
    }

    #[test]
    fn each_need_has_its_own() {
        let all = [(false, false), (true, false), (false, true), (true, true)];
        let mut kinds = all.map(|(verity, sharing)| kind(Needs { verity, sharing }));
        kinds.sort_unstable();
        assert!(kinds.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
