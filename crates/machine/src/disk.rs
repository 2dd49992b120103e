//! The disks of a VM: the images that it shares with others, and its own.

use fs_err::os::unix::fs::OpenOptionsExt as _;
use std::fs::File;

use firebuild_disk::ext4::{self, Options};
use firebuild_store::Store;

use crate::Error;
use crate::record::Record;

/// Makes the VM's own disk: an empty file system, of which only what the guest writes takes room.
///
/// It has no journal: the disk ends with the VM, so there is never anything to recover.
pub(crate) fn create(record: &Record) -> Result<File, Error> {
    let path = &record.directories.disk;
    let file = fs_err::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| Error::io(format!("make the disk of VM `{}`", record.id), source))?
        .into_parts()
        .0;
    let options = Options {
        identity: record.id.as_str().into(),
        ..Options::default()
    };
    ext4::write_empty(&file, record.spec.disk, &options).map_err(|source| Error::Disk {
        id: record.id.clone(),
        source,
    })?;
    Ok(file)
}

/// Opens the images that the VM shares with others, the lowest first.
pub(crate) fn open_roots(store: &Store, record: &Record) -> Result<Vec<File>, Error> {
    let open = |key| {
        let opened = fs_err::File::open(store.rootfs_path(key));
        let doing = || format!("open the root file system of VM `{}`", record.id);
        let opened = opened.map_err(|source| Error::io(doing(), source))?;
        Ok(opened.into_parts().0)
    };
    record.spec.rootfs.iter().map(open).collect()
}
