//! What else makes a file system of an image's layers.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use fs_err as fs;

use super::samples::Sample;
use crate::bench::host::{Host, time};
use crate::shell;

/// The suite whose tools are new enough.
const SUITE: &str = "trixie";

/// Other tools, some of them from a newer Debian than this host's.
pub(super) struct Peers {
    newer: PathBuf,
}

impl Peers {
    pub(super) fn prepare(host: &Host) -> anyhow::Result<Self> {
        let newer = host.directory.join("newer");
        if !newer.exists() {
            let partial = host.directory.join("newer.partial");
            if partial.exists() {
                fs::remove_dir_all(&partial)?;
            }
            let packages = "--include=erofs-utils,e2fsprogs,libarchive13t64";
            let mut extract = Command::new("mmdebstrap");
            extract.args(["--quiet", "--variant=extract", packages, SUITE]);
            shell::run(extract.arg(&partial))?;
            fs::rename(&partial, &newer)?;
        }
        Ok(Self { newer })
    }

    /// How a newer program is called.
    fn program(&self, path: &str) -> String {
        let libraries = self.newer.join("usr/lib/x86_64-linux-gnu");
        let libraries = libraries.display();
        let program = self.newer.join(path);
        format!(
            "{libraries}/ld-linux-x86-64.so.2 --library-path {libraries} {}",
            program.display()
        )
    }

    /// One turn of each.
    pub(super) fn measure(
        &self,
        host: &Host,
        sample: &Sample,
    ) -> anyhow::Result<Vec<(&'static str, Duration)>> {
        let scratch = host.directory.join("peers");
        let mut all = Vec::new();
        for (name, script) in self.scripts(sample)? {
            if scratch.exists() {
                fs::remove_dir_all(&scratch)?;
            }
            fs::create_dir_all(&scratch)?;
            let mut shell = Command::new("sh");
            shell.args(["-ec", &script]).current_dir(&scratch);
            all.push((name, time(&mut shell)?));
        }
        fs::remove_dir_all(&scratch)?;
        Ok(all)
    }

    fn scripts(&self, sample: &Sample) -> anyhow::Result<Vec<(&'static str, String)>> {
        let layers: Vec<String> = (0..sample.layers)
            .map(|layer| sample.archive(layer, "gzip").display().to_string())
            .collect();
        let mut bytes = 0;
        for layer in 0..sample.layers {
            bytes += fs::metadata(sample.archive(layer, "plain"))?.len();
        }
        // Small files take whole blocks.
        let size = format!("{}M", bytes * 3 / (1 << 20) + 64);
        let layout = sample.layout();
        let layout = layout.display();
        let list = layers.join(" ");
        let mke2fs = self.program("usr/sbin/mke2fs");
        let erofs = self.program("usr/bin/mkfs.erofs");
        let mut scripts = vec![
            (
                "`umoci unpack` and `mke2fs -d`",
                format!(
                    "umoci raw unpack --image {layout}:gzip tree >/dev/null 2>&1
                     mke2fs -q -t ext4 -i 4096 -d tree image {size}"
                ),
            ),
            (
                "`tar -x` and `mke2fs -d`",
                format!(
                    "mkdir tree; for l in {list}; do tar -xpf $l -C tree; done
                     mke2fs -q -t ext4 -i 4096 -d tree image {size}"
                ),
            ),
            (
                "`mkfs.erofs --tar=f` fed by `igzip`",
                format!(
                    "for l in {list}; do igzip -dc $l | {erofs} --quiet --tar=f image$(basename $l); done"
                ),
            ),
        ];
        // It takes one archive.
        if let [layer] = layers.as_slice() {
            scripts.push((
                "`mke2fs -d image.tar`",
                format!(
                    "igzip -dc {layer} > image.tar; {mke2fs} -q -t ext4 -i 4096 -d image.tar image {size}"
                ),
            ));
        }
        Ok(scripts)
    }
}
