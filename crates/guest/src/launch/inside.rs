//! What happens between the agent and the program: in the new process, up to its exec.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use firebuild_core::config::DEFAULT_PATH;
use rustix::fs::Mode;
use rustix::mount::{MountFlags, mount_remount};
use rustix::process::{setsid, umask};
use rustix::system::sethostname;
use rustix::thread::UnshareFlags;

use super::attach::Opened;
use super::{
    Isolation, Launch, Namespaces, Order, Refusal, cgroup, confine, copying, devices, limits,
    namespaces, receive, root, user,
};
use crate::error::{Doing as _, GuestError, Result, chain};
use crate::{network, sys};

/// The file for login shells, which Docker has no word for and the original firebuild wrote.
const PROFILE: &str = "/etc/profile.d/run-env.sh";
const NOT_FOUND: u32 = 127;
const NOT_EXECUTABLE: u32 = 126;

/// Becomes the program, or tells why not. Never returns otherwise.
pub(crate) fn main() {
    let Ok((order, mut socket)) = receive() else {
        return;
    };
    if let Some(copying) = &order.launch.copying {
        return copying::perform(copying, &order, socket);
    }
    let refusal = become_program(&order, &socket);
    let text = serde_json::to_vec(&refusal).unwrap_or_default();
    // The agent may be gone, and then nobody listens.
    let _ = socket.write_all(&text);
}

fn become_program(order: &Order, socket: &UnixStream) -> Refusal {
    match prepare(order, socket) {
        Ok(mut command) => {
            let error = command.exec();
            Refusal::Program(
                format!(
                    "cannot execute `{}`: {error}",
                    command.get_program().display()
                ),
                status(&error),
            )
        }
        Err(refusal) => refusal,
    }
}

/// Everything up to the exec.
fn prepare(order: &Order, socket: &UnixStream) -> std::result::Result<Command, Refusal> {
    go_there(order, socket)?;
    command(&order.launch, socket)
}

/// Goes to where the process is to be.
pub(super) fn go_there(order: &Order, socket: &UnixStream) -> std::result::Result<(), Refusal> {
    let Order { launch, group } = order;
    setsid().doing(|| "make a session".to_owned())?;
    if let Some(group) = group {
        cgroup::enter(group)?;
    }
    if launch.joined.is_empty() {
        make_place(order, socket)?;
    } else {
        join(launch)?;
    }
    limits::set(&launch.limits)?;
    Ok(())
}

/// Makes new namespaces, and everything in them that the process finds.
fn make_place(order: &Order, socket: &UnixStream) -> std::result::Result<(), Refusal> {
    let Order { launch, group } = order;
    let mut flags = UnshareFlags::NEWNS;
    if group.is_some() {
        // Its processes see it as the only one.
        flags |= UnshareFlags::NEWCGROUP;
    }
    if launch.isolation == Isolation::Step {
        flags |= UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    }
    if launch.offline {
        flags |= UnshareFlags::NEWNET;
    }
    sys::unshare(flags).doing(|| "make namespaces".to_owned())?;
    if launch.isolation == Isolation::Step {
        sethostname(launch.hostname.as_bytes()).doing(|| "set the host name".to_owned())?;
    }
    if launch.offline {
        network::own_loopback()?;
    }
    put_together(launch)?;
    if launch.kept {
        Namespaces::own()?.give(socket)?;
    }
    for (path, mode, content) in &launch.files {
        write_own_file(path, *mode, content)?;
    }
    make_directories(launch)?;
    if let Some(profile) = &launch.profile {
        write_own_file(PROFILE, 0o644, profile)?;
    }
    if launch.read_only {
        mount_remount("/", MountFlags::BIND | MountFlags::RDONLY, c"")
            .doing(|| "make the root read-only".to_owned())?;
    }
    Ok(())
}

/// Goes where another process is or was.
fn join(launch: &Launch) -> Result<()> {
    namespaces::enter(&launch.joined)?;
    umask(Mode::from_raw_mode(0o022));
    match launch.isolation {
        // What is mounted there shows processes that have ended.
        Isolation::Step => devices::show_processes(launch.is_confined()),
        Isolation::Workload | Isolation::Init => Ok(()),
    }
}

/// Enters the root, with all that is mounted in it.
pub(super) fn put_together(launch: &Launch) -> std::result::Result<(), Refusal> {
    // One that is mounted below another would be hidden by it, were it there first. Of two in one
    // place, the one that is written later is seen.
    let mut attachments = launch.attachments.clone();
    attachments.sort_by(|one, other| one.target.cmp(&other.target));
    umask(Mode::from_raw_mode(0o022));
    let opened = root::enter(launch, &attachments)?;
    umask(Mode::empty());
    devices::populate(launch.isolation, launch.is_confined(), launch.shared_memory)?;
    umask(Mode::from_raw_mode(0o022));
    opened.into_iter().try_for_each(Opened::mount)
}

fn make_directories(launch: &Launch) -> std::result::Result<(), Refusal> {
    for directory in launch.directories.iter().chain([&launch.workdir]) {
        fs_err::create_dir_all(Path::new("/").join(directory)).map_err(|error| {
            Refusal::Program(
                format!("cannot make directory `{directory}`: {}", chain(&error)),
                0,
            )
        })?;
    }
    Ok(())
}

fn write_own_file(path: &str, mode: u16, content: &str) -> Result<()> {
    let doing = || format!("write `{path}`");
    if let Some(parent) = Path::new(path).parent() {
        fs_err::create_dir_all(parent).doing(doing)?;
    }
    fs_err::write(path, content).doing(doing)?;
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode.into())).doing(doing)
}

/// Goes to the working directory, becomes the user, and finds the program. The directory may be one
/// that the user could not enter, as in every container.
fn command(launch: &Launch, socket: &UnixStream) -> std::result::Result<Command, Refusal> {
    let identity = user::find(&launch.user)?;
    let mut environment = launch.environment.clone();
    for (name, value) in [
        ("PATH", DEFAULT_PATH),
        ("HOSTNAME", &launch.hostname),
        ("HOME", &identity.home),
    ] {
        if !environment.iter().any(|(known, _)| known == name) {
            environment.push((name.to_owned(), value.to_owned()));
        }
    }
    enter_workdir(launch)?;
    launch.streams.take(identity.uid, socket)?;
    if launch.is_confined() {
        confine::limit()?;
    }
    user::become_user(&identity)
        .map_err(|error| Refusal::Agent(format!("cannot become user {}: {error}", identity.uid)))?;
    if launch.is_confined() {
        confine::drop_the_rest()?;
    }
    let Some((name, arguments)) = launch.arguments.split_first() else {
        return Err(Refusal::Program(
            "there is no program to start".to_owned(),
            0,
        ));
    };
    let path = environment.iter().rfind(|(known, _)| known == "PATH");
    let program = find_program(name, path.map_or("", |(_, path)| path))?;
    let mut command = Command::new(program);
    command
        .arg0(name)
        .args(arguments)
        .env_clear()
        .envs(environment);
    for (name, value) in &launch.secrets {
        if value.contains(&0) {
            let what = format!("`{name}` cannot hold a secret with a NUL byte");
            return Err(Refusal::Program(what, 0));
        }
        command.env(name, OsStr::from_bytes(value));
    }
    Ok(command)
}

/// A process that joins a step finds what that left: the directory may be gone.
fn enter_workdir(launch: &Launch) -> std::result::Result<(), Refusal> {
    let is_joined = !launch.joined.is_empty();
    match std::env::set_current_dir(Path::new("/").join(&launch.workdir)) {
        Err(_) if is_joined && launch.isolation == Isolation::Step => {
            std::env::set_current_dir("/")
        }
        other => other,
    }
    .map_err(|error| {
        let status = if is_joined { NOT_EXECUTABLE } else { 0 };
        Refusal::Program(
            format!("cannot enter `{}`: {error}", launch.workdir),
            status,
        )
    })
}

/// Looks a program up as a shell does: a name with a slash as it is, any other along the path.
fn find_program(name: &str, path: &str) -> std::result::Result<PathBuf, Refusal> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let mut denied = None;
    for directory in path.split(':') {
        // An empty part is the working directory.
        let directory = if directory.is_empty() { "." } else { directory };
        let candidate = Path::new(directory).join(name);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => denied = Some(error),
        }
    }
    Err(match denied {
        Some(error) if status(&error) == NOT_EXECUTABLE && !name.is_empty() => {
            Refusal::Program(format!("cannot execute `{name}`: {error}"), NOT_EXECUTABLE)
        }
        _ => Refusal::Program(format!("`{name}` is not found in `PATH`"), NOT_FOUND),
    })
}

fn executable(candidate: &Path) -> io::Result<()> {
    let found = rustix::fs::stat(candidate)?;
    if rustix::fs::FileType::from_raw_mode(found.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK)?;
    Ok(())
}

/// What a shell returns for a program that cannot be executed.
fn status(error: &io::Error) -> u32 {
    if error.kind() == io::ErrorKind::NotFound {
        NOT_FOUND
    } else {
        NOT_EXECUTABLE
    }
}

/// Text as a path of the image.
pub(super) fn path(text: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(text))
}

impl From<GuestError> for Refusal {
    fn from(error: GuestError) -> Self {
        Self::Agent(chain(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_up_as_shells_do() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for part in ["one", "two/dir"] {
            fs_err::create_dir_all(at(part)).unwrap();
        }
        for (file, mode) in [
            ("one/plain", 0o644),
            ("two/plain", 0o755),
            ("one/data", 0o644),
        ] {
            fs_err::write(at(file), "#!/bin/sh\n").unwrap();
            fs_err::set_permissions(at(file), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = format!("{}:/none:{}", at("one").display(), at("two").display());
        let found = |name: &str| find_program(name, &path);
        assert_eq!(found("plain"), Ok(at("two/plain")));
        assert_eq!(found("./x/y"), Ok(PathBuf::from("./x/y")));
        for (name, expected) in [("data", 126), ("dir", 126), ("none", 127), ("", 127)] {
            match found(name) {
                Err(Refusal::Program(_, status)) => assert_eq!(status, expected, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}
