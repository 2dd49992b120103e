//! Which calls into the kernel are points: those that change something on disk or of the host, or
//! that another process hears of. Between two of them nothing happens that anybody else could see,
//! so that a death between them is the same as a death right before the second.

use std::os::unix::fs::FileExt as _;

use nix::libc;

/// A call as a stopped process is about to make it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// Its number.
    pub(super) number: i64,
    /// Its arguments.
    pub(super) arguments: [u64; 6],
}

/// What tells a point from others: of several in a row that are alike, the first counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Point {
    /// The call's name.
    pub(super) name: &'static str,
    /// What it changes: a path, a descriptor's file, a number.
    pub(super) what: String,
}

/// Where a call says what it changes.
#[derive(Debug, Clone, Copy)]
enum Object {
    /// A path at this argument.
    Path(usize),
    /// A descriptor at this argument.
    File(usize),
    /// A descriptor at this argument, if it is that of a path or a socket; bytes in pipes tell nobody anything.
    Data(usize),
    /// A path at the first argument, if the flags at the other say that it is made, and it is not there.
    Made(usize, usize),
    /// A path at this argument, if nothing is there yet.
    New(usize),
    /// A path at this argument, if something is there.
    Old(usize),
    /// A request at the second argument, if it is one that changes something.
    Request,
    /// A path at the first argument, if there is a file: programs are looked for in many places.
    Program,
    /// Nothing that could be told.
    None,
}

use Object::{Data, File, Made, New, None as Nothing, Old, Path, Program, Request};

const CALLS: &[(i64, &str, Object)] = &[
    (libc::SYS_renameat, "renameat", Path(3)),
    (libc::SYS_renameat2, "renameat2", Path(3)),
    (libc::SYS_linkat, "linkat", Path(3)),
    (libc::SYS_symlinkat, "symlinkat", Path(2)),
    (libc::SYS_unlinkat, "unlinkat", Old(1)),
    (libc::SYS_mkdirat, "mkdirat", New(1)),
    (libc::SYS_mknodat, "mknodat", Path(1)),
    (libc::SYS_openat, "openat", Made(1, 2)),
    (libc::SYS_truncate, "truncate", Path(0)),
    (libc::SYS_ftruncate, "ftruncate", File(0)),
    (libc::SYS_fallocate, "fallocate", File(0)),
    (libc::SYS_write, "write", Data(0)),
    (libc::SYS_writev, "writev", Data(0)),
    (libc::SYS_pwrite64, "pwrite64", Data(0)),
    (libc::SYS_copy_file_range, "copy_file_range", File(2)),
    (libc::SYS_fchmodat, "fchmodat", Path(1)),
    (libc::SYS_fchmod, "fchmod", File(0)),
    (libc::SYS_fchownat, "fchownat", Path(1)),
    (libc::SYS_fsetxattr, "fsetxattr", File(0)),
    (libc::SYS_flock, "flock", File(0)),
    (libc::SYS_mount, "mount", Path(1)),
    (libc::SYS_umount2, "umount2", Path(0)),
    (libc::SYS_move_mount, "move_mount", Path(3)),
    (libc::SYS_unshare, "unshare", Nothing),
    (libc::SYS_setns, "setns", Nothing),
    (libc::SYS_ioctl, "ioctl", Request),
    (libc::SYS_bind, "bind", File(0)),
    (libc::SYS_listen, "listen", File(0)),
    (libc::SYS_connect, "connect", File(0)),
    (libc::SYS_sendto, "sendto", File(0)),
    (libc::SYS_sendmsg, "sendmsg", File(0)),
    (libc::SYS_execve, "execve", Program),
    (libc::SYS_clone, "clone", Nothing),
    (libc::SYS_clone3, "clone3", Nothing),
    (libc::SYS_kill, "kill", Nothing),
    (libc::SYS_pidfd_send_signal, "pidfd_send_signal", Nothing),
    (libc::SYS_exit_group, "exit_group", Nothing),
];

/// Those that newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[(i64, &str, Object)] = &[
    (libc::SYS_rename, "rename", Path(1)),
    (libc::SYS_link, "link", Path(1)),
    (libc::SYS_symlink, "symlink", Path(1)),
    (libc::SYS_unlink, "unlink", Old(0)),
    (libc::SYS_mkdir, "mkdir", New(0)),
    (libc::SYS_rmdir, "rmdir", Old(0)),
    (libc::SYS_open, "open", Made(0, 1)),
    (libc::SYS_chmod, "chmod", Path(0)),
    (libc::SYS_chown, "chown", Path(0)),
    (libc::SYS_fork, "fork", Nothing),
    (libc::SYS_vfork, "vfork", Nothing),
];

#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[(i64, &str, Object)] = &[];

/// Makes or sets up a device, or shares a file's blocks: `TUNSETIFF`, `TUNSETPERSIST`, `FICLONE`,
/// `FICLONERANGE`.
const REQUESTS: [u64; 4] = [0x4004_54ca, 0x4004_54cb, 0x4004_9409, 0x4020_940d];

/// The point that a call of process `pid` is, if it is one.
pub(super) fn point(pid: i32, call: &Call) -> Option<Point> {
    let mut calls = CALLS.iter().chain(OLD_CALLS);
    let (_, name, object) = calls.find(|(number, _, _)| *number == call.number)?;
    let argument = |index: usize| call.arguments.get(index).copied().unwrap_or_default();
    let what = match *object {
        Path(index) => text(pid, argument(index)),
        File(index) => file(pid, argument(index)),
        Data(index) => Some(file(pid, argument(index))?)
            .filter(|path| is_kept(path))?
            .into(),
        Made(path, flags) => {
            let made = u64::from((libc::O_CREAT | libc::O_TMPFILE).unsigned_abs())
                & !u64::from(libc::O_DIRECTORY.unsigned_abs());
            let emptied = u64::from(libc::O_TRUNC.unsigned_abs());
            let name = (argument(flags) & made != 0).then(|| text(pid, argument(path)))?;
            let changes = argument(flags) & emptied != 0 || !is_there(pid, call, path, &name);
            changes.then_some(name)?
        }
        New(path) => {
            let name = text(pid, argument(path));
            (!is_there(pid, call, path, &name)).then_some(name)?
        }
        Old(path) => {
            let name = text(pid, argument(path));
            is_there(pid, call, path, &name).then_some(name)?
        }
        Request => REQUESTS
            .contains(&argument(1))
            .then(|| Some(format!("{:#x}", argument(1))))?,
        Program => Some(text(pid, argument(0))?)
            .filter(|path| std::path::Path::new(path).exists())?
            .into(),
        Nothing => None,
    };
    let what = what.unwrap_or_default();
    Some(Point { name, what })
}

/// Whether there is something under a name that a process has at this argument. A call that finds out that
/// there is, or is not, and changes nothing, is no point.
fn is_there(pid: i32, call: &Call, index: usize, name: &Option<String>) -> bool {
    let Some(name) = name else { return false };
    // The directory that the name is relative to is before it, if it is anywhere.
    let directory = index.checked_sub(1).and_then(|it| call.arguments.get(it));
    let number = directory.and_then(|it| i32::try_from(it.cast_signed()).ok());
    let above = match number {
        Some(number) if number >= 0 => format!("/proc/{pid}/fd/{number}"),
        _ => format!("/proc/{pid}/cwd"),
    };
    let above = if name.starts_with('/') {
        format!("/proc/{pid}/root")
    } else {
        above
    };
    let path = std::path::Path::new(&above).join(name.trim_start_matches('/'));
    path.symlink_metadata().is_ok()
}

/// Whether what is written to this file is still there, or heard of, when its writer is no more.
fn is_kept(path: &str) -> bool {
    path.starts_with("socket:")
        || path.starts_with('/') && !path.starts_with("/dev/") && !path.starts_with("/memfd:")
}

/// What a process has open under a number.
fn file(pid: i32, number: u64) -> Option<String> {
    let number = i32::try_from(number).ok()?;
    let path = fs_err::read_link(format!("/proc/{pid}/fd/{number}")).ok()?;
    Some(path.to_string_lossy().into_owned())
}

/// A path in a process's memory.
fn text(pid: i32, at: u64) -> Option<String> {
    let memory = fs_err::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut bytes = [0; 256];
    let count = memory.file().read_at(&mut bytes, at).ok()?;
    let text = bytes.get(..count)?.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}
