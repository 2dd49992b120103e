//! The judges: `e2fsck`, `debugfs` and a loop mount.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use firebuild_core::tree::Tree;
use firebuild_disk::ext4::{self, Options, Summary};
use rustix::mount::UnmountFlags;
use tempfile::TempDir;

use crate::sample::Bytes;

/// An image in a folder of its own.
pub(crate) struct Image {
    pub(crate) folder: TempDir,
    pub(crate) summary: Summary,
}

impl Image {
    /// Writes a tree and has it checked.
    pub(crate) fn of(tree: &Tree, content: &Bytes, options: &Options) -> Self {
        let image = Self::with(|file| ext4::write(tree, content, file, options).unwrap());
        image.check();
        image
    }

    pub(crate) fn with(write: impl FnOnce(&File) -> Summary) -> Self {
        let folder = TempDir::new().unwrap();
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(folder.path().join("image"))
            .unwrap();
        let summary = write(&file);
        assert_eq!(file.metadata().unwrap().len(), summary.size.0);
        Self { folder, summary }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Panics unless `e2fsck` finds nothing.
    pub(crate) fn check(&self) {
        let output = self.run(&["e2fsck", "-f", "-n"]);
        let said = String::from_utf8_lossy(&output.stdout);
        let lines = said.lines().count();
        // Five passes and the count of what is in use.
        assert!(output.status.success() && lines == 6, "{said}");
    }

    /// What `debugfs` answers.
    pub(crate) fn debugfs(&self, request: &str) -> String {
        let output = self.run(&["debugfs", "-R", request]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a program with the image as its last argument.
    pub(crate) fn run(&self, command: &[&str]) -> Output {
        let mut process = Command::new(command[0]);
        process.args(&command[1..]).arg(self.path());
        run(&mut process)
    }

    /// Has Linux mount it. Until it is unmounted, this thread must run no program.
    pub(crate) fn mount(&self, options: &str) -> Mount {
        let at = self.folder.path().join("mounted");
        fs_err::create_dir_all(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "ext4", "-o", &format!("loop,{options}")]);
        let output = run(mount.arg(self.path()).arg(&at));
        assert!(output.status.success(), "Linux mounts the image");
        Mount {
            at,
            _quiet: SPAWNING.read().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// A process that is just being made has all files open that this one has. While one is made in
/// one thread, no other may have a file open on what it is about to unmount.
static SPAWNING: RwLock<()> = RwLock::new(());

fn run(command: &mut Command) -> Output {
    command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let alone = SPAWNING.write().unwrap_or_else(PoisonError::into_inner);
    let child = command.spawn().expect("e2fsprogs and mount are installed");
    drop(alone);
    child.wait_with_output().unwrap()
}

/// A mounted image, unmounted when dropped.
pub(crate) struct Mount {
    at: PathBuf,
    _quiet: RwLockReadGuard<'static, ()>,
}

impl Mount {
    pub(crate) fn path(&self) -> &Path {
        &self.at
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = rustix::mount::unmount(&self.at, UnmountFlags::empty());
        assert!(
            unmounted.is_ok() || std::thread::panicking(),
            "the image is unmounted: {unmounted:?}"
        );
    }
}
