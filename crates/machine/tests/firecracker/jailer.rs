//! A stand-in for the jailer: it checks its arguments as the real one does, builds the same
//! directories, enters the same namespaces, changes root and user for good, and then is
//! Firecracker's stand-in, without executing it: the copy in the jail is for show, because a program
//! that is linked dynamically finds nothing there.

use std::ffi::OsString;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{FileType, Gid, Mode, Uid};
use rustix::process::{Resource, Rlimit};

use crate::server;
use crate::stand_in::{Behaviour, Oops};

/// What it was told.
#[derive(Default)]
struct Arguments {
    id: String,
    exec_file: PathBuf,
    uid: Option<u32>,
    gid: Option<u32>,
    base: PathBuf,
    netns: Option<PathBuf>,
    cgroup_version: u8,
    cgroups: Vec<(String, String)>,
    parent: Option<String>,
    limits: Vec<(String, u64)>,
    rest: Vec<String>,
}

/// Is the jailer until it is Firecracker.
pub(crate) fn main(arguments: Vec<OsString>) -> Result<(), Oops> {
    // Whatever is open now came from who started it.
    let inherited = open_files()?;
    let arguments = parse(arguments)?;
    let behaviour = Behaviour::beside(&arguments.exec_file);
    let name = arguments.exec_file.file_name().ok_or("no file name")?;
    let root = arguments.base.join(name).join(&arguments.id).join("root");
    fs_err::create_dir_all(&root)?;
    copy_program(&arguments.exec_file, &root.join(name))?;
    if let Some(path) = &arguments.netns {
        setns(fs_err::File::open(path)?, CloneFlags::CLONE_NEWNET)?;
    }
    for (name, value) in &arguments.limits {
        let resource = match &name[..] {
            "fsize" => Resource::Fsize,
            "no-file" => Resource::Nofile,
            _ => return Err(format!("unknown limit `{name}`").into()),
        };
        let limit = Rlimit {
            current: Some(*value),
            maximum: Some(*value),
        };
        rustix::process::setrlimit(resource, limit)?;
    }
    make_cgroups(&arguments, name.to_str().ok_or("a name")?)?;
    jail(&root)?;
    let (uid, gid) = (arguments.uid.ok_or("uid")?, arguments.gid.ok_or("gid")?);
    furnish(uid, gid)?;
    let pid_file = Path::new("/").join(format!("{}.pid", name.display()));
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).open(pid_file)?;
    std::io::Write::write_all(&mut file, std::process::id().to_string().as_bytes())?;
    fs_err::write("/inherited", inherited.join("\n"))?;
    rustix::thread::set_thread_groups(&[])?;
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_res_gid(group, group, group)?;
    rustix::thread::set_thread_res_uid(user, user, user)?;
    server::main(&arguments.id, &arguments.rest, behaviour)
}

fn parse(arguments: Vec<OsString>) -> Result<Arguments, Oops> {
    let mut words = arguments.into_iter().map(OsString::into_string);
    let mut told = Arguments {
        base: "/srv/jailer".into(),
        cgroup_version: 1,
        ..Arguments::default()
    };
    while let Some(word) = words.next() {
        let name = word.map_err(|_| "arguments are text")?;
        if name == "--" {
            told.rest = words.collect::<Result<_, _>>().map_err(|_| "text")?;
            break;
        }
        let value = words.next().ok_or(format!("`{name}` has no value"))?;
        let value = value.map_err(|_| "arguments are text")?;
        match &name[..] {
            "--id" => told.id = value,
            "--exec-file" => told.exec_file = fs_err::canonicalize(value)?,
            "--uid" => told.uid = Some(value.parse()?),
            "--gid" => told.gid = Some(value.parse()?),
            "--chroot-base-dir" => told.base = fs_err::canonicalize(value)?,
            "--netns" => told.netns = Some(value.into()),
            "--cgroup-version" => told.cgroup_version = value.parse()?,
            "--cgroup" => {
                let parts: Vec<&str> = value.split('=').collect();
                let [file, value] = parts[..] else {
                    return Err(format!("`{value}` is no control group's setting").into());
                };
                told.cgroups.push((file.to_owned(), value.to_owned()));
            }
            "--parent-cgroup" => told.parent = Some(value),
            "--resource-limit" => {
                let (name, value) = value.split_once('=').ok_or("a limit has a value")?;
                told.limits.push((name.to_owned(), value.parse()?));
            }
            _ => return Err(format!("unexpected argument `{name}`").into()),
        }
    }
    check(&told)?;
    Ok(told)
}

fn check(told: &Arguments) -> Result<(), Oops> {
    let id_fits = (1..=64).contains(&told.id.len())
        && told
            .id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let parent = told.parent.as_deref().unwrap_or("firecracker");
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    for (fits, what) in [
        (id_fits, "the id"),
        (told.exec_file.is_file(), "the program"),
        (told.uid.is_some() && told.gid.is_some(), "the user"),
        (told.base.is_dir(), "the directory of jails"),
        (
            matches!(told.cgroup_version, 1 | 2),
            "the version of control groups",
        ),
        (
            Path::new(parent).components().all(plain),
            "the parent's name",
        ),
        (told.cgroups.iter().all(|(_, v)| !v.is_empty()), "a setting"),
    ] {
        if !fits {
            return Err(format!("{what} is wrong").into());
        }
    }
    Ok(())
}

/// A copy, since 1.15 never over a link. The stand-in's is only the beginning.
fn copy_program(from: &Path, to: &Path) -> Result<(), Oops> {
    if fs_err::symlink_metadata(to).is_ok() {
        return Err(format!("`{}` is there already", to.display()).into());
    }
    let mut start = std::io::Read::take(fs_err::File::open(from)?, 4096);
    std::io::copy(&mut start, &mut fs_err::File::create(to)?)?;
    Ok(())
}

/// Makes the VM's own groups, sets what was asked for, and enters them.
fn make_cgroups(told: &Arguments, name: &str) -> Result<(), Oops> {
    let table = fs_err::read_to_string("/proc/mounts")?;
    let parent = told.parent.as_deref().unwrap_or(name);
    for (file, value) in &told.cgroups {
        let controller = file.split('.').next().ok_or("no controller")?;
        let root = table.lines().find_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let is_it = match told.cgroup_version {
                1 => words[2] == "cgroup" && words[3].split(',').any(|it| it == controller),
                _ => words[2] == "cgroup2",
            };
            is_it.then(|| PathBuf::from(words[1]))
        });
        let root = root.ok_or(format!("no hierarchy for `{controller}`"))?;
        let group = root.join(parent).join(&told.id);
        fs_err::create_dir_all(&group)?;
        fs_err::write(group.join(file), value)?;
        fs_err::write(group.join("cgroup.procs"), std::process::id().to_string())?;
    }
    Ok(())
}

/// A mount namespace of its own, in which `root` is all there is.
fn jail(root: &Path) -> Result<(), Oops> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    mount(none, "/", none, slave, none)?;
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(root), root, none, bind, none)?;
    std::env::set_current_dir(root)?;
    fs_err::create_dir("old_root")?;
    rustix::process::pivot_root(".", "old_root")?;
    std::env::set_current_dir("/")?;
    rustix::mount::unmount("old_root", rustix::mount::UnmountFlags::DETACH)?;
    Ok(fs_err::remove_dir("old_root")?)
}

/// The directories and devices of every jail.
fn furnish(uid: u32, gid: u32) -> Result<(), Oops> {
    let own = |path: &str| std::os::unix::fs::chown(path, Some(uid), Some(gid));
    for directory in ["/", "/dev", "/dev/net", "/run"] {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory)?;
        rustix::fs::chmod(directory, Mode::RWXU)?;
        own(directory)?;
    }
    for (path, major, minor) in [
        ("/dev/net/tun", 10, 200),
        ("/dev/kvm", 10, 232),
        ("/dev/urandom", 1, 9),
    ] {
        let device = rustix::fs::makedev(major, minor);
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path,
            FileType::CharacterDevice,
            mode,
            device,
        )?;
        own(path)?;
    }
    Ok(())
}

/// What is open, beside the standard streams.
pub(crate) fn open_files() -> Result<Vec<String>, Oops> {
    let mut open = Vec::new();
    for entry in fs_err::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let number: u32 = entry.file_name().to_str().ok_or("text")?.parse()?;
        if let Ok(target) = fs_err::read_link(entry.path())
            && number > 2
            && !target.starts_with("/proc")
        {
            open.push(target.display().to_string());
        }
    }
    Ok(open)
}

/// The stand-in, judged: what the real one refuses it refuses.
pub(crate) fn wrong_arguments_are_refused() {
    let good = [
        "--id",
        "a-1",
        "--exec-file",
        "/bin/sh",
        "--uid",
        "7",
        "--gid",
        "7",
    ];
    let base = ["--chroot-base-dir", "/tmp"];
    let with = |more: &[&str]| {
        let words = good.iter().chain(&base).chain(more);
        parse(words.map(OsString::from).collect())
    };
    assert!(with(&[]).is_ok());
    assert!(with(&["--cgroup", "memory.max=1", "--", "--anything"]).is_ok());
    for wrong in [
        ["--id", "a_b"],
        ["--id", ""],
        ["--exec-file", "/nowhere"],
        ["--uid", "-1"],
        ["--chroot-base-dir", "/nowhere"],
        ["--cgroup-version", "3"],
        ["--cgroup", "memory.max"],
        ["--cgroup", "a=b=c"],
        ["--parent-cgroup", "/a"],
        ["--parent-cgroup", "../a"],
        ["--resource-limit", "no-file"],
        ["--node", "0"],
    ] {
        assert!(with(&wrong).is_err(), "{wrong:?}");
    }
    let metadata = fs_err::metadata("/bin/sh").unwrap();
    assert!(metadata.uid() == 0, "the tests need root");
    let _ = std::fs::OpenOptions::new().mode(0o600);
}
