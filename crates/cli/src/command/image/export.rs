//! `firebuild image export`: images as files.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use firebuild_core::{ByteSize, Reference};
use firebuild_oci::Image;
use firebuild_store::Lease;

use super::find;
use crate::command::Global;
use crate::error::hinted;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExportType {
    /// The archive of an OCI image layout
    OciArchive,
    /// What `docker load` reads
    DockerArchive,
    /// A directory as the OCI image layout specification has it
    OciDir,
    /// The merged files as one tar archive
    RootfsTar,
    /// The merged files as a file system with a journal, to use as a disk
    Ext4,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The image
    name: Reference,
    /// What to write
    #[arg(long = "type", value_enum)]
    kind: ExportType,
    /// Where to write it: a file, or for `oci-dir` a directory that is not there yet
    #[arg(long, short, value_name = "PATH")]
    output: PathBuf,
    /// With `ext4`: how large the file system is; as small as it can be if not given
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=16 << 20))]
    filesystem_size_mbs: Option<u64>,
}

impl Export {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<()> {
        let lease = global.store()?.lease()?;
        let image = find(lease.store(), &self.name)?;
        if self.filesystem_size_mbs.is_some() && self.kind != ExportType::Ext4 {
            let message = "`--filesystem-size-mbs` is of no use without `--type ext4`";
            return Err(anyhow::anyhow!(message));
        }
        if self.kind == ExportType::OciDir {
            let written =
                firebuild_oci::export_oci_dir(lease.store(), &image, &self.name, &self.output);
            return Ok(written?);
        }
        // Written beside and renamed, so that a file of that name is always a whole one.
        let beside = self
            .output
            .with_extension(format!("{}.partial", std::process::id()));
        let written = self
            .write(&lease, &image, &beside)
            .and_then(|()| Ok(fs_err::rename(&beside, &self.output)?));
        if written.is_err() {
            // The error that counts is the first one.
            let _ = fs_err::remove_file(&beside);
        }
        written.with_context(|| {
            let (name, output) = (self.name.familiar(), self.output.display());
            format!("cannot export `{name}` to `{output}`")
        })
    }

    fn write(&self, lease: &Lease, image: &Image, path: &Path) -> anyhow::Result<()> {
        let file = fs_err::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?
            .into_parts()
            .0;
        if self.kind == ExportType::Ext4 {
            self.write_ext4(lease, image, &file)?;
            return Ok(file.sync_all()?);
        }
        let output = BufWriter::with_capacity(1 << 20, file);
        let output = match self.kind {
            ExportType::OciArchive => {
                firebuild_oci::export_oci_archive(lease, image, &self.name, output)?
            }
            ExportType::DockerArchive => {
                firebuild_oci::export_docker_archive(lease, image, &self.name, output)?
            }
            ExportType::RootfsTar | ExportType::OciDir | ExportType::Ext4 => {
                firebuild_oci::export_rootfs_tar(lease.store(), image, output)?
            }
        };
        Ok(output.into_inner()?.sync_all()?)
    }

    fn write_ext4(&self, lease: &Lease, image: &Image, file: &File) -> anyhow::Result<()> {
        let wanted = ByteSize::mib(self.filesystem_size_mbs.unwrap_or(0));
        let written = firebuild_builder::rootfs::export(lease.store(), image, wanted, file)?;
        match self.filesystem_size_mbs {
            Some(size) if written.size > wanted => Err(hinted(
                format!("the files do not fit into {size} MiB"),
                format!(
                    "ask for `--filesystem-size-mbs {}` or more",
                    written.size.0.div_ceil(1 << 20)
                ),
            )),
            _ => Ok(()),
        }
    }
}
