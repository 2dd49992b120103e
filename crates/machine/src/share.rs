//! Directories of the host's that a guest mounts, by virtio-fs.
//!
//! Each is served by a `virtiofsd` of its own, which sees nothing but that directory: it makes its own
//! namespaces, and its root is the directory. It speaks with the VMM over a pair of descriptors that
//! has no name; so it ends when the VMM does, whatever happens to anybody else.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::volumes::{Layout, share_tag};
use crate::{Error, snapshot, sys};

/// Where distributions have the program: first the newer one, written in Rust, which is a package of
/// its own, then QEMU's own.
const PROGRAMS: [&str; 3] = [
    "/usr/libexec/virtiofsd",
    "/usr/lib/virtiofsd",
    "/usr/lib/qemu/virtiofsd",
];

/// A directory that is served.
#[derive(Debug)]
pub struct SharedDirectory {
    /// What the guest knows it by.
    pub tag: String,
    /// The VMM's end.
    pub socket: OwnedFd,
}

/// Starts to serve a VM's directories. `runtime` is its directory of sockets.
///
/// # Errors
/// [`Error::NoDirectory`]; [`Error::NoVirtiofsd`]; [`Error::Io`].
pub(crate) fn serve(layout: &Layout, runtime: &Path) -> Result<Vec<SharedDirectory>, Error> {
    let mut served = Vec::new();
    for (number, (directory, read_only)) in layout.shares.iter().enumerate() {
        let program = program().ok_or(Error::NoVirtiofsd)?;
        // So that it is said in our words if it is gone.
        drop(snapshot::open_directory(directory)?);
        let tag = share_tag(number);
        let socket = runtime.join(format!("{tag}.sock"));
        let socket = start(&program, directory, *read_only, &socket).map_err(|source| {
            Error::io(
                format!("share the directory `{}`", directory.display()),
                source,
            )
        })?;
        served.push(SharedDirectory { tag, socket });
    }
    Ok(served)
}

fn program() -> Option<PathBuf> {
    let mut all = PROGRAMS.iter().map(PathBuf::from);
    all.find(|program| program.is_file())
}

fn start(program: &Path, directory: &Path, read_only: bool, path: &Path) -> io::Result<OwnedFd> {
    // It wants to be connected to; both ends are there before it is started, and the name goes at once.
    let listener = UnixListener::bind(path)?;
    let ours = UnixStream::connect(path);
    fs_err::remove_file(path)?;
    let ours = ours?;
    let listener = OwnedFd::from(listener);
    let source = directory
        .to_str()
        .filter(|text| !text.contains([',', '\\', '\n']));
    let source = source.ok_or_else(|| {
        io::Error::other("its path has a comma, a backslash or bytes that are no text in it")
    })?;
    let mut command = Command::new(program);
    command
        .arg(format!("--fd={}", listener.as_raw_fd()))
        .args(["-f", "-o", &format!("source={source}")])
        .args([
            "-o",
            "sandbox=namespace",
            "-o",
            "xattr",
            "-o",
            "log_level=err",
        ])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    sys::serve_directory(&mut command, read_only.then_some(directory), listener)?;
    log::debug!("start {}", firebuild_core::words(&command));
    let mut child = command.spawn()?;
    drop(command);
    std::thread::Builder::new()
        .name("virtiofsd".to_owned())
        .stack_size(64 << 10)
        .spawn(move || child.wait())?;
    Ok(ours.into())
}
