//! Becoming the user that a process runs as, by the image's own files.

use std::io::{self, Read as _};

use firebuild_core::user::{LARGEST_FILE, User, process_user};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::Refusal;

/// Finds who `spec` is in the image that is the root by now.
pub(super) fn find(spec: &str) -> Result<User, Refusal> {
    process_user(spec, &database("/etc/passwd"), &database("/etc/group"))
        .map_err(|error| Refusal::Program(error.to_string(), 0))
}

/// A regular file of moderate size, or nothing.
fn database(path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = fs_err::metadata(path).and_then(|found| {
        if found.is_file() && found.len() <= LARGEST_FILE {
            fs_err::File::open(path)?
                .take(LARGEST_FILE)
                .read_to_end(&mut bytes)
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    });
    match read {
        Ok(_) => bytes,
        Err(_) => Vec::new(),
    }
}

/// Takes the user's groups and number, for good. The process has one thread only, so what the
/// system does by thread is done for all of it.
pub(super) fn become_user(user: &User) -> io::Result<()> {
    let groups: Vec<Gid> = std::iter::once(user.gid)
        .chain(user.groups.iter().copied())
        .map(Gid::from_raw)
        .collect();
    set_thread_groups(&groups)?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}
