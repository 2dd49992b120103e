//! Roots put together by the kernel, each in a mount namespace of its own, in which a directory
//! plays the VM's first root.

use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, Uid, chown, lstat, makedev, mknodat};
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use rustix::thread::UnshareFlags;

use super::{Attachment, Isolation, Launch, Refusal, Root, SUPPLIED, Source, Streams, inside};

/// The directory that plays the first root.
struct Rig {
    directory: tempfile::TempDir,
    attachments: Vec<Attachment>,
}

impl Rig {
    fn new() -> Self {
        // The build's directory: a memory file system may lack attributes.
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let rig = Self {
            directory,
            attachments: Vec::new(),
        };
        let system = ["image/dev", "image/proc", "image/sys"];
        for below in ["f", "image/etc", "older", "d", "src/tree/sub"]
            .iter()
            .chain(&system)
        {
            fs_err::create_dir_all(rig.at(below)).unwrap();
        }
        for file in ["hosts", "hostname", "resolv.conf"] {
            fs_err::write(rig.at("f").join(file), file).unwrap();
        }
        for file in ["src/tree/file", "src/tree/sub/file", "src/secret"] {
            fs_err::write(rig.at(file), file).unwrap();
        }
        rig
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path.trim_start_matches('/'))
    }

    fn mount(mut self, target: &str, source: Source, read_only: bool) -> Self {
        self.attachments.push(Attachment {
            target: target.to_owned(),
            source,
            read_only,
        });
        self
    }

    fn tree(self, target: &str, read_only: bool) -> Self {
        self.mount(target, Source::Directory("/src/tree".into()), read_only)
    }

    fn secret(self, target: &str) -> Self {
        self.mount(target, Source::Data("/src/secret".into()), true)
    }

    fn memory(self, target: &str) -> Self {
        self.mount(target, crate::volumes::memory_of_step(None), false)
    }

    fn scratch(self, target: &str, file: Option<&str>) -> Self {
        let number = self.attachments.len();
        let root = Root {
            lowers: vec!["/src/tree".into()],
            upper: format!("/d/x{number}").into(),
            work: format!("/d/y{number}").into(),
            volatile: true,
        };
        let file = file.map(str::to_owned);
        self.mount(target, Source::Scratch { root, file }, false)
    }

    /// Enters the root and calls `inside`.
    fn enter(&self, inside: impl FnOnce() + Send + 'static) -> Result<(), Refusal> {
        let base = self.directory.path().to_owned();
        let launch = Launch {
            root: Root {
                lowers: vec!["/older".into(), "/image".into()],
                upper: "/d/0".into(),
                work: "/d/w0".into(),
                volatile: true,
            },
            joined: Vec::new(),
            kept: false,
            streams: Streams::Output,
            isolation: Isolation::Step,
            offline: false,
            privileged: false,
            copying: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            secrets: Vec::new(),
            workdir: "/".to_owned(),
            user: String::new(),
            hostname: "x".to_owned(),
            supplied: SUPPLIED.into(),
            attachments: self.attachments.clone(),
            process_ids: None,
            limits: Vec::new(),
            shared_memory: None,
            read_only: false,
            directories: Vec::new(),
            files: Vec::new(),
            profile: None,
        };
        let thread = std::thread::spawn(move || {
            crate::sys::unshare(UnshareFlags::NEWNS).unwrap();
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private).unwrap();
            mount_bind(&base, &base).unwrap();
            rustix::process::chdir(&base).unwrap();
            rustix::process::chroot(".").unwrap();
            inside::put_together(&launch)?;
            inside();
            Ok(())
        });
        thread.join().unwrap()
    }

    /// What the step has changed.
    fn changed(&self) -> Vec<String> {
        let root = self.at("d/0");
        let (mut names, mut todo) = (Vec::new(), vec![root.clone()]);
        // A step may be refused before it has anything to write to.
        todo.retain(|root| root.exists());
        while let Some(directory) = todo.pop() {
            for entry in fs_err::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                let name = entry
                    .path()
                    .strip_prefix(&root)
                    .unwrap()
                    .display()
                    .to_string();
                names.push(name);
                if entry.file_type().unwrap().is_dir() {
                    todo.push(entry.path());
                }
            }
        }
        names.sort();
        names
    }
}

fn read(path: &str) -> String {
    fs_err::read_to_string(path).unwrap()
}

fn refused(path: &str) -> io::ErrorKind {
    fs_err::write(path, "x").unwrap_err().kind()
}

#[test]
fn mounts_leave_no_trace() {
    let rig = Rig::new();
    for directory in ["image/there/dir", "image/there/memory"] {
        fs_err::create_dir_all(rig.at(directory)).unwrap();
    }
    let private = std::fs::Permissions::from_mode(0o750);
    fs_err::set_permissions(rig.at("image/there/memory"), private).unwrap();
    fs_err::write(rig.at("image/there/file"), "image").unwrap();
    symlink("/elsewhere/target", rig.at("image/link")).unwrap();
    let rig = rig
        .tree("/there/dir", true)
        .secret("/there/file")
        .memory("/there/memory")
        .tree("/new/dir", false)
        .secret("/run/secrets/key")
        .memory("/memory")
        .scratch("/scratch", None)
        .scratch("/scratch-file", Some("file"))
        .secret("/dev/firebuild/ca.crt")
        .secret("/link");
    let entered = rig.enter(|| {
        assert_eq!(read("/there/dir/sub/file"), "src/tree/sub/file");
        assert_eq!(refused("/there/dir/x"), io::ErrorKind::ReadOnlyFilesystem);
        for file in [
            "/there/file",
            "/run/secrets/key",
            "/dev/firebuild/ca.crt",
            "/link",
            "/elsewhere/target",
        ] {
            assert_eq!(read(file), "src/secret", "{file}");
            assert_eq!(refused(file), io::ErrorKind::ReadOnlyFilesystem, "{file}");
        }
        fs_err::write("/new/dir/kept", "kept").unwrap();
        for (directory, mode) in [("/there/memory", 0o750), ("/memory", 0o1777)] {
            fs_err::write(Path::new(directory).join("x"), "x").unwrap();
            assert_eq!(lstat(directory).unwrap().st_mode & 0o7777, mode);
        }
        fs_err::write("/scratch/sub/file", "other").unwrap();
        fs_err::write("/scratch-file", "other").unwrap();
        assert_eq!(read("/scratch-file"), "other");
        assert_eq!(read("/etc/hosts"), "hosts");
    });
    assert_eq!(entered, Ok(()));
    assert_eq!(rig.changed(), [""; 0]);
    for file in ["file", "sub/file"] {
        let file = format!("src/tree/{file}");
        assert_eq!(fs_err::read_to_string(rig.at(&file)).unwrap(), file);
    }
    assert!(rig.at("src/tree/kept").exists());
}

#[test]
fn mounts_nest() {
    let rig = Rig::new()
        .memory("/a")
        .tree("/a/b", true)
        .scratch("/a/b/sub", None)
        .tree("/cache", false)
        .secret("/cache/deep/key")
        .scratch("/s", None)
        .secret("/s/key")
        .memory("/twice")
        .tree("/twice", true)
        // Whatever the order in which they are written.
        .secret("/outer/inner/key")
        .tree("/outer/inner/tree", true)
        .memory("/outer")
        .memory("/outer/inner");
    let entered = rig.enter(|| {
        assert_eq!(read("/a/b/file"), "src/tree/file");
        assert_eq!(read("/a/b/sub/sub/file"), "src/tree/sub/file");
        for file in ["/cache/deep/key", "/s/key"] {
            assert_eq!(read(file), "src/secret", "{file}");
        }
        assert_eq!(read("/twice/file"), "src/tree/file");
        assert_eq!(read("/outer/inner/key"), "src/secret");
        assert_eq!(read("/outer/inner/tree/file"), "src/tree/file");
        fs_err::write("/outer/file", "").unwrap();
    });
    assert_eq!(entered, Ok(()));
    assert_eq!(rig.changed(), [""; 0]);
    // A cache keeps the empty place, as container engines leave it.
    assert_eq!(fs_err::read(rig.at("src/tree/deep/key")).unwrap(), b"");
}

#[test]
fn what_cannot_be_is_said() {
    let told = |rig: Rig| {
        let refusal = rig.enter(|| {}).unwrap_err();
        assert_eq!(rig.changed(), [""; 0]);
        match refusal {
            Refusal::Program(text, 0) => text,
            other => panic!("{other:?}"),
        }
    };
    let image = || {
        let rig = Rig::new();
        fs_err::write(rig.at("image/file"), "").unwrap();
        fs_err::create_dir(rig.at("image/dir")).unwrap();
        symlink("loop", rig.at("image/loop")).unwrap();
        symlink("/missing", rig.at("src/tree/out")).unwrap();
        rig
    };
    for (rig, expected) in [
        (
            image().tree("/file", true),
            "`/file`: what is there is not a directory",
        ),
        (
            image().memory("/file"),
            "`/file`: what is there is not a directory",
        ),
        (image().secret("/dir"), "`/dir`: there is a directory"),
        (
            image().scratch("/dir", Some("file")),
            "`/dir`: there is a directory",
        ),
        (
            image().secret("/file/x"),
            "`/file/x`: `/file` is not a directory",
        ),
        (
            image().tree("/x", true).secret("/x/new"),
            "`/x/new`: `/x` lacks the place and is read-only",
        ),
        (
            image().tree("/x", false).secret("/x/out/key"),
            "`/x/out/key`: a link in an earlier mount leads out of it",
        ),
        (
            image().secret("/loop"),
            "`/loop`: `/loop` leads through too many links",
        ),
        (
            image().secret("/dir/.."),
            "`/dir/..`: it is the root directory",
        ),
    ] {
        assert_eq!(told(rig), format!("cannot mount on {expected}"));
    }
}

#[test]
fn a_place_that_a_layer_removed_is_there_again() {
    let rig = Rig::new();
    fs_err::create_dir_all(rig.at("image/gone/below")).unwrap();
    let (at, mode) = (rig.at("older/gone"), Mode::from_raw_mode(0o600));
    mknodat(CWD, at, FileType::CharacterDevice, mode, makedev(0, 0)).unwrap();
    let rig = rig.tree("/gone/below", true);
    let entered = rig.enter(|| {
        assert_eq!(read("/gone/below/file"), "src/tree/file");
        assert_eq!(fs_err::read_dir("/gone").unwrap().count(), 1);
    });
    assert_eq!(entered, Ok(()));
    assert_eq!(rig.changed(), [""; 0]);
}

#[test]
fn what_is_written_beside_a_mount_finds_the_images_directory() {
    let rig = Rig::new();
    let private = rig.at("image/private");
    fs_err::create_dir(&private).unwrap();
    fs_err::write(private.join("kept"), "kept").unwrap();
    fs_err::set_permissions(&private, std::fs::Permissions::from_mode(0o1750)).unwrap();
    chown(&private, Some(Uid::from_raw(7)), None).unwrap();
    let rig = rig.secret("/private/new/key");
    let entered = rig.enter(|| {
        assert_eq!(read("/private/kept"), "kept");
        fs_err::write("/private/own", "").unwrap();
    });
    assert_eq!(entered, Ok(()));
    assert_eq!(rig.changed(), ["private", "private/own"]);
    let stat = lstat(rig.at("d/0/private")).unwrap();
    assert_eq!((stat.st_mode & 0o7777, stat.st_uid), (0o1750, 7));
}

#[test]
fn the_kernels_settings_are_not_a_steps() {
    let entered = Rig::new().enter(|| {
        for setting in ["/proc/sys/kernel/core_pattern", "/sys/kernel/profiling"] {
            let error = fs_err::OpenOptions::new().write(true).open(setting);
            let kind = error.unwrap_err().kind();
            assert_eq!(kind, io::ErrorKind::ReadOnlyFilesystem, "{setting}");
        }
        fs_err::read("/proc/sys/kernel/ostype").unwrap();
    });
    assert_eq!(entered, Ok(()));
}

#[test]
fn an_image_that_lacks_the_systems_directories_gets_them() {
    let rig = Rig::new();
    for directory in ["dev", "proc", "sys"] {
        fs_err::remove_dir(rig.at("image").join(directory)).unwrap();
    }
    fs_err::create_dir(rig.at("image/sys")).unwrap();
    let rig = rig.secret("/dev/firebuild/ca.crt").secret("/run/key");
    let entered = rig.enter(|| {
        assert_eq!(read("/dev/firebuild/ca.crt"), "src/secret");
        assert!(Path::new("/proc/self").exists());
    });
    assert_eq!(entered, Ok(()));
    assert_eq!(rig.changed(), ["dev", "proc"]);
    let stat = lstat(rig.at("d/0/dev")).unwrap();
    assert_eq!((stat.st_mode & 0o7777, stat.st_uid), (0o755, 0));
}
