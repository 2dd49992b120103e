//! The disks of a VM: the images that it shares with others, and its own.

use fs_err::os::unix::fs::OpenOptionsExt as _;
use std::fs::File;

use firebuild_disk::ext4::{self, Options};
use firebuild_store::Store;

use crate::Error;
use crate::record::Record;

/// Opens the VM's own disk. If it is not there yet, it is made: an empty file system, of which only
/// what the guest writes takes room.
///
/// It has a journal, so that it can be mounted again however the VM ended. A file of its name is always
/// a whole file system.
pub(crate) fn open(record: &Record) -> Result<File, Error> {
    let path = &record.directories.disk;
    let doing = || format!("open the disk of VM `{}`", record.id);
    let existing = fs_err::OpenOptions::new().read(true).write(true).open(path);
    match existing {
        Ok(file) => Ok(file.into_parts().0),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(record),
        Err(source) => Err(Error::io(doing(), source)),
    }
}

fn create(record: &Record) -> Result<File, Error> {
    let path = &record.directories.disk;
    let new = path.with_extension("new");
    let doing = || format!("make the disk of VM `{}`", record.id);
    let file = fs_err::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .map_err(|source| Error::io(doing(), source))?
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
    fs_err::rename(new, path).map_err(|source| Error::io(doing(), source))?;
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
