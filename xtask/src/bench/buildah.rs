//! Debian's `buildah`, with storage of its own, as the other side of a build.

use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;

use super::BASE;
use super::host::Host;
use crate::shell;

/// What it calls the base image.
pub(super) const BASE_NAME: &str = "localhost/bench/base:1";

/// buildah with the base image.
pub(super) struct Buildah {
    directory: PathBuf,
}

impl Buildah {
    /// Gives it the base image that firebuild has.
    pub(super) fn prepare(host: &Host) -> anyhow::Result<Self> {
        let directory = host.directory.join("buildah");
        fs::create_dir_all(&directory)?;
        let buildah = Self { directory };
        let mut known = buildah.command();
        known.args(["images", "--quiet", BASE_NAME]);
        if known.output()?.status.success() {
            return Ok(buildah);
        }
        let layout = buildah.directory.join("base");
        if layout.exists() {
            fs::remove_dir_all(&layout)?;
        }
        let mut export = host.command();
        export.args(["image", "export", BASE, "--type", "oci-dir", "-o"]);
        shell::run(export.arg(&layout))?;
        let id = shell::output(
            buildah
                .command()
                .arg("pull")
                .arg(format!("oci:{}", layout.display())),
        )?;
        let id = id.trim().lines().last().unwrap_or_default().to_owned();
        shell::run(buildah.command().args(["tag", &id, BASE_NAME]))?;
        fs::remove_dir_all(&layout)?;
        Ok(buildah)
    }

    /// `buildah`, to be given arguments.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("buildah");
        command
            .arg("--root")
            .arg(self.directory.join("storage"))
            .arg("--runroot")
            .arg(self.directory.join("run"))
            .args(["--storage-driver", "overlay"]);
        command
    }

    /// A build of the Dockerfile in `context`, without a network, its cache included or not.
    pub(super) fn build(&self, context: &Path, file: &Path, cached: bool) -> Command {
        let mut build = self.command();
        build
            .args(["build", "--quiet", "--isolation", "chroot", "--pull-never"])
            .arg(if cached { "--layers" } else { "--no-cache" })
            .arg("-f")
            .arg(file)
            .args(["-t", "localhost/bench/result:1"])
            .arg(context);
        build
    }
}
