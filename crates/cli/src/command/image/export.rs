//! `firebuild image export`: images as files.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use firebuild_builder::rootfs::{self, Verity};
use firebuild_core::{ByteSize, Reference};
use firebuild_oci::Image;
use firebuild_store::Lease;
use serde::Serialize;

use super::find;
use crate::arguments::values;
use crate::command::{Format, Global};
use crate::error::hinted;
use crate::terminal;

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
    #[arg(long, value_name = "MIB", value_parser = values::whole::<u64>(1, 16 << 20))]
    filesystem_size_mbs: Option<u64>,
    /// With `ext4`: add a dm-verity tree behind the file system, and print its root hash
    #[arg(long)]
    verity: bool,
    /// How to print what `--verity` tells
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What is needed to use a file system with a tree of hashes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Protected {
    root_hash: String,
    hash_offset: u64,
    data_blocks: u64,
}

impl Export {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<()> {
        let lease = global.store()?.lease()?;
        let image = find(lease.store(), &self.name)?;
        let needs_ext4 = [
            ("--filesystem-size-mbs", self.filesystem_size_mbs.is_some()),
            ("--verity", self.verity),
        ];
        for (flag, _) in needs_ext4.iter().filter(|(_, given)| *given) {
            ensure!(
                self.kind == ExportType::Ext4,
                "`{flag}` is of no use without `--type ext4`"
            );
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
        let written = self.write(&lease, &image, &beside).and_then(|protected| {
            fs_err::rename(&beside, &self.output)?;
            Ok(protected)
        });
        if written.is_err() {
            // The error that counts is the first one.
            let _ = fs_err::remove_file(&beside);
        }
        let protected = written.with_context(|| {
            let (name, output) = (self.name.familiar(), self.output.display());
            format!("cannot export `{name}` to `{output}`")
        })?;
        match protected {
            Some(verity) => self.tell(&verity),
            None => Ok(()),
        }
    }

    fn tell(&self, verity: &Verity) -> anyhow::Result<()> {
        let protected = Protected {
            root_hash: verity.root_hash.hex(),
            hash_offset: verity.hash_offset,
            data_blocks: verity.data_blocks,
        };
        if self.format == Format::Json {
            return terminal::print_json(&protected);
        }
        let Protected {
            root_hash,
            hash_offset,
            data_blocks,
        } = protected;
        terminal::print(format_args!(
            "root hash    {root_hash}\nhash offset  {hash_offset}\ndata blocks  {data_blocks}\n"
        ))
    }

    fn write(&self, lease: &Lease, image: &Image, path: &Path) -> anyhow::Result<Option<Verity>> {
        let file = fs_err::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?
            .into_parts()
            .0;
        if self.kind == ExportType::Ext4 {
            let protected = self.write_ext4(lease, image, &file)?;
            file.sync_all()?;
            return Ok(protected);
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
        output.into_inner()?.sync_all()?;
        Ok(None)
    }

    fn write_ext4(
        &self,
        lease: &Lease,
        image: &Image,
        file: &File,
    ) -> anyhow::Result<Option<Verity>> {
        let wanted = ByteSize::mib(self.filesystem_size_mbs.unwrap_or(0));
        let written = rootfs::export(lease.store(), image, wanted, file)?;
        if let Some(size) = self.filesystem_size_mbs
            && written.size > wanted
        {
            let least = written.size.0.div_ceil(1 << 20);
            return Err(hinted(
                format!("the files do not fit into {size} MiB"),
                format!("ask for `--filesystem-size-mbs {least}` or more"),
            ));
        }
        if !self.verity {
            return Ok(None);
        }
        Ok(Some(rootfs::protect(image, written.size, file)?))
    }
}
