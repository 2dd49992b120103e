//! The judges: `e2fsck`, `debugfs` and a loop mount.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use firebuild_core::tree::Tree;
use firebuild_disk::ext4::{self, Options, Summary};
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
        let output = Command::new("e2fsck")
            .args(["-f", "-n"])
            .arg(self.path())
            .env("LC_ALL", "C")
            .output()
            .expect("e2fsck is installed");
        let said = String::from_utf8_lossy(&output.stdout);
        let lines = said.lines().count();
        // Five passes and the count of what is in use.
        assert!(output.status.success() && lines == 6, "{said}");
    }

    /// What `debugfs` answers.
    pub(crate) fn debugfs(&self, request: &str) -> String {
        let output = Command::new("debugfs")
            .args(["-R", request])
            .arg(self.path())
            .output()
            .expect("debugfs is installed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Has Linux mount it.
    pub(crate) fn mount(&self, options: &str) -> Mount {
        let at = self.folder.path().join("mounted");
        fs_err::create_dir_all(&at).unwrap();
        let status = Command::new("mount")
            .args(["-t", "ext4", "-o", &format!("loop,{options}")])
            .arg(self.path())
            .arg(&at)
            .status()
            .unwrap();
        assert!(status.success(), "Linux mounts the image");
        Mount { at }
    }
}

/// A mounted image, unmounted when dropped.
pub(crate) struct Mount {
    at: PathBuf,
}

impl Mount {
    pub(crate) fn path(&self) -> &Path {
        &self.at
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(&self.at).status();
        let unmounted = status.is_ok_and(|status| status.success());
        assert!(
            unmounted || std::thread::panicking(),
            "the image is unmounted"
        );
    }
}
