//! Caches: disks that outlive the VM. What a step sees of one is its directory `data`.

use std::path::{Path, PathBuf};

use firebuild_protocol::command::Access;
use firebuild_protocol::v1::bootstrap_client::BootstrapClient;
use rustix::fs::{FileType, Mode, OFlags, lstat};
use tonic::transport::Channel;

use super::memory::give;
use crate::bootstrap::transfer::{self, Form};
use crate::drives;
use crate::error::{Doing as _, GuestError, Result};

/// Mounts the disk with this serial.
pub(super) async fn mount(disk: String, number: usize) -> Result<PathBuf> {
    // Its journal may have something to say first.
    tokio::task::spawn_blocking(move || drives::mount_cache(&disk, number))
        .await
        .unwrap_or_else(|error| Err(GuestError::Told(error.to_string())))
}

/// The directory that steps see. If there is none it is made, complete or not at all.
pub(super) async fn data(
    client: &mut BootstrapClient<Channel>,
    cache: &Path,
    seed: Option<&str>,
    access: Access,
) -> Result<PathBuf> {
    let (data, new) = (cache.join("data"), cache.join("new"));
    let doing = || format!("make `{}`", data.display());
    // Whoever wrote the disk was a guest: a link would lead elsewhere.
    if lstat(&data).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory) {
        return Ok(data);
    }
    if lstat(&new).is_ok() {
        fs_err::remove_dir_all(&new).doing(doing)?;
    }
    fs_err::create_dir(&new).doing(doing)?;
    give(&new, access)?;
    if let Some(seed) = seed {
        transfer::lay_resource(client, seed, &new, Form::Plain).await?;
        sync(cache)?;
    }
    fs_err::rename(&new, &data).doing(doing)?;
    Ok(data)
}

/// Brings everything that was written to the disk.
pub(super) fn sync(cache: &Path) -> Result<()> {
    let doing = || format!("write `{}` to its disk", cache.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(cache, flags, Mode::empty()).doing(doing)?;
    rustix::fs::syncfs(directory).doing(doing)
}
