//! The calls into the kernel that Rust cannot check: the code between `fork` and `exec`, KVM's
//! version, inherited descriptors. Nothing else in the crate is `unsafe`.
#![allow(
    unsafe_code,
    reason = "children are confined, and descriptors inherited, by calls without a safe wrapper"
)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::ioctl;
use rustix::mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change, mount_remount};
use rustix::process::{Pid, Resource, Rlimit, Signal};
use rustix::thread::{Gid, Uid, UnshareFlags, unshare_unsafe};

use crate::vmm::group::Groups;
use crate::vmm::ids::Ids;

/// `KVM_GET_API_VERSION` of `linux/kvm.h`.
const KVM_GET_API_VERSION: ioctl::Opcode = ioctl::opcode::none(0xAE, 0x00);

struct KvmVersion;

// SAFETY: needed because rustix has no such request. The opcode is KVM_GET_API_VERSION, which takes
// no argument, writes no memory, and returns a number: what the four items here say.
unsafe impl ioctl::Ioctl for KvmVersion {
    type Output = i32;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> ioctl::Opcode {
        KVM_GET_API_VERSION
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(
        out: ioctl::IoctlOutput,
        _: *mut std::ffi::c_void,
    ) -> rustix::io::Result<i32> {
        Ok(out)
    }
}

/// The version of KVM's interface behind an open `/dev/kvm`.
pub(crate) fn kvm_version(kvm: impl AsFd) -> io::Result<i32> {
    // SAFETY: needed because rustix cannot know every device's requests. See `KvmVersion`; a
    // descriptor that is not KVM's answers with an error.
    Ok(unsafe { ioctl::ioctl(kvm, KvmVersion) }?)
}

/// `TUNSETOWNER` of `linux/if_tun.h`.
const TUNSETOWNER: ioctl::Opcode = ioctl::opcode::write::<i32>(b'T', 204);

/// `TUNSETGROUP` of `linux/if_tun.h`.
const TUNSETGROUP: ioctl::Opcode = ioctl::opcode::write::<i32>(b'T', 206);

/// Makes an open tap one that the user and group of `ids` may open by its name.
pub(crate) fn give_tap(tap: impl AsFd, ids: Ids) -> io::Result<()> {
    // SAFETY: needed because rustix cannot know every device's requests. Both requests take a number
    // in place of a pointer and write no memory (`tun_chr_ioctl` of Linux); a descriptor that is no
    // tap answers with an error.
    unsafe {
        ioctl::ioctl(
            &tap,
            ioctl::IntegerSetter::<TUNSETOWNER>::new_usize(ids.uid as usize),
        )?;
        ioctl::ioctl(
            &tap,
            ioctl::IntegerSetter::<TUNSETGROUP>::new_usize(ids.gid as usize),
        )?;
    }
    Ok(())
}

/// Makes the child that `command` starts give up what a VMM does not need, before it runs its
/// program: its user and groups (if `ids` are given), the right to get others by any program,
/// core dumps. It is killed when the thread that starts it ends, and so with this process. `kept`
/// stay open in it, under the numbers that they have now. It enters the control
/// groups `groups`.
pub(crate) fn confine(command: &mut Command, ids: Option<Ids>, kept: Vec<OwnedFd>, groups: Groups) {
    let parent = rustix::process::getpid();
    let in_child = move || {
        groups.enter()?;
        confine_self(parent, ids, &kept)
    };
    // SAFETY: needed because a running child cannot be confined from outside. Between fork and
    // exec the closure makes system calls on values that it owns; it takes no lock, allocates
    // nothing and cannot panic.
    unsafe { command.pre_exec(in_child) };
}

fn confine_self(parent: Pid, ids: Option<Ids>, kept: &[OwnedFd]) -> io::Result<()> {
    for fd in kept {
        fcntl_setfd(fd, FdFlags::empty())?;
    }
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(Resource::Core, none)?;
    if let Some(ids) = ids {
        let (uid, gid) = (Uid::from_raw(ids.uid), Gid::from_raw(ids.gid));
        match ids.device_group {
            Some(group) => rustix::thread::set_thread_groups(&[Gid::from_raw(group)])?,
            None => rustix::thread::set_thread_groups(&[])?,
        }
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    }
    rustix::thread::set_no_new_privs(true)?;
    // Only now: a change of user takes it away.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid() != Some(parent) {
        // The parent died before it could be noticed.
        return Err(Errno::SRCH.into());
    }
    Ok(())
}

/// Makes the child that `command` starts the leader of a session of its own, out of reach of the
/// terminal's signals, with `kept` open in it under the numbers that they have now.
pub(crate) fn detach(command: &mut Command, kept: Vec<OwnedFd>) {
    let in_child = move || {
        rustix::process::setsid()?;
        for fd in &kept {
            fcntl_setfd(fd, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: needed because only the child itself can make its session. Between fork and exec
    // the closure makes system calls on values that it owns; it takes no lock, allocates nothing
    // and cannot panic.
    unsafe { command.pre_exec(in_child) };
}

/// Makes the child that `command` starts serve a directory: `kept` stays open in it under the number that
/// it has now, and what is in `read_only` can only be read by it, whatever its client asks for.
pub(crate) fn serve_directory(
    command: &mut Command,
    read_only: Option<&Path>,
    kept: OwnedFd,
) -> io::Result<()> {
    let directory = read_only.map(|path| CString::new(path.as_os_str().as_bytes()));
    let directory = directory.transpose()?;
    let in_child = move || {
        rustix::process::setsid()?;
        fcntl_setfd(&kept, FdFlags::empty())?;
        if let Some(directory) = &directory {
            // SAFETY: needed because the library cannot know what sharing descriptors would mean; with
            // this flag none are unshared.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change(c"/", private)?;
            let directory = directory.as_c_str();
            mount_bind(directory, directory)?;
            mount_remount(directory, MountFlags::BIND | MountFlags::RDONLY, c"")?;
        }
        Ok(())
    };
    // SAFETY: needed because only the child itself can enter its namespaces. Between fork and exec the
    // closure makes system calls on values that it owns; its paths are C strings already, so it
    // allocates nothing; it takes no lock and cannot panic.
    unsafe { command.pre_exec(in_child) };
    Ok(())
}

/// Takes over a descriptor that this process was started with, and keeps it from its own children.
///
/// # Errors
/// There is none of that number, or it was opened by this process itself.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(Errno::BADF.into());
    }
    // SAFETY: needed because a number is all that a parent can pass on. The borrow lasts for two
    // calls, which fail if no such descriptor is open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    // Everything that Rust opens is closed on exec: what is not came from the parent, and what
    // was taken over by a call of this function is from then on.
    if fcntl_getfd(borrowed)?.contains(FdFlags::CLOEXEC) {
        return Err(Errno::BADF.into());
    }
    fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: needed as above. The descriptor is open, and no value of this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Lets the memory of a constant that lies in this program's file go; it comes back when it is
/// looked at again.
pub(crate) fn forget(constant: &'static [u8]) {
    const PAGE: usize = 4096;
    let range = constant.as_ptr_range();
    let start = (range.start as usize).next_multiple_of(PAGE);
    let end = (range.end as usize) / PAGE * PAGE;
    if let Some(length) = end.checked_sub(start) {
        // SAFETY: needed because no safe call gives pages back. All of the pages lie within
        // `constant`, which nobody ever writes: they are as in the file, and are read from there
        // when they are touched again, so that no reader sees a difference.
        let _ = unsafe {
            rustix::mm::madvise(
                start as *mut std::ffi::c_void,
                length,
                rustix::mm::Advice::LinuxDontNeed,
            )
        };
    }
}

/// Gives back what this process has in memory and does not need to have there while nothing happens: free
/// pieces of its heap, and the pages of its program, which come back when they are used.
pub(crate) fn rest() {
    #[cfg(target_env = "gnu")]
    // SAFETY: needed because Rust's allocator is the C library's, and has no such call. It takes its
    // own locks, and gives back only what nobody has allocated.
    unsafe {
        libc::malloc_trim(0);
    }
    let maps = fs_err::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, end) in program_pages(&maps, rest as *const () as usize) {
        // SAFETY: needed because no safe call gives pages back. These are mapped from the program's own
        // file, which stays mapped; nobody can write them, and they lie below what the loader has
        // changed, so that they are as in the file, and are read from there when they are touched again.
        let _ = unsafe {
            rustix::mm::madvise(
                start as *mut std::ffi::c_void,
                end - start,
                rustix::mm::Advice::LinuxDontNeed,
            )
        };
    }
}

/// What of the program that has the function at `code` nobody can have written: its code, and the
/// constants below it. What the loader relocates, and protects then, is above.
fn program_pages(maps: &str, code: usize) -> Vec<(usize, usize)> {
    // `START-END PERMISSIONS OFFSET DEVICE INODE PATH`, in the order of addresses (`proc_pid_maps(5)`).
    let entries = maps.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        let (permissions, _offset) = (words.next()?, words.next()?);
        let file = (words.next()?, words.next()?);
        Some(((address(start)?, address(end)?), permissions, file))
    });
    let entries: Vec<_> = entries.collect();
    let has_code = |&&((start, end), ..): &&((usize, usize), &str, _)| (start..end).contains(&code);
    let Some(&((_, last), "r-xp", file)) = entries.iter().find(has_code) else {
        return Vec::new();
    };
    let own = entries.iter().filter(|((_, end), permissions, of)| {
        *of == file && *end <= last && ["r-xp", "r--p"].contains(permissions)
    });
    own.map(|(range, ..)| *range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rests_comes_back() {
        let resident = || {
            let status = fs_err::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("RssFile:"));
            let size = line.unwrap().split_ascii_whitespace().nth(1).unwrap();
            size.parse::<u32>().unwrap()
        };
        let agent = firebuild_core::Digest::of(crate::boot::agent());
        let before = resident();
        rest();
        assert!(resident() < before);
        assert_eq!(firebuild_core::Digest::of(crate::boot::agent()), agent);
    }

    #[test]
    fn only_what_is_as_in_the_file_is_let_go() {
        let maps = "1000-2000 r--p 00000000 fe:00 7 /bin/a\n\
            2000-4000 r-xp 00001000 fe:00 7 /bin/a\n\
            4000-5000 r--p 00003000 fe:00 7 /bin/a\n\
            5000-6000 rw-p 00004000 fe:00 7 /bin/a\n\
            6000-7000 rw-p 00000000 00:00 0 [heap]\n\
            7000-8000 r-xp 00000000 fe:00 8 /lib/b\n";
        let let_go = |code| program_pages(maps, code);
        assert_eq!(let_go(0x2fff), [(0x1000, 0x2000), (0x2000, 0x4000)]);
        assert_eq!(let_go(0x7000), [(0x7000, 0x8000)]);
        for nowhere in [0, 0x4000, 0x5800, 0x6000, 0x8000] {
            assert_eq!(let_go(nowhere), []);
        }
        assert_eq!(program_pages("nonsense\n1-2\n", 1), []);
    }

    #[test]
    fn what_is_forgotten_comes_back() {
        let agent = crate::boot::agent();
        let before = firebuild_core::Digest::of(agent);
        forget(agent);
        forget(&agent[..10]);
        forget(&[]);
        assert_eq!(firebuild_core::Digest::of(agent), before);
    }

    #[test]
    fn only_what_a_parent_passed_on_is_taken_over() {
        use std::os::fd::AsRawFd;
        let ours = fs_err::File::open("/dev/null").unwrap();
        assert!(inherited(ours.file().as_raw_fd()).is_err());
        for number in [-1, 0, 1, 2, 999_999] {
            assert!(inherited(number).is_err(), "{number}");
        }
    }
}
