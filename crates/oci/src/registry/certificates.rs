//! A registry's own certificates, in folders as Docker and Podman have them.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::{Options, RegistryError};
use crate::{ClientIdentity, Trust};

/// Whom to believe, and as whom to come, for a registry.
pub(super) fn of(
    registry: &str,
    options: &Options,
) -> Result<(Trust, Option<ClientIdentity>), RegistryError> {
    let (mut trust, mut identity) = (options.trust.clone(), None);
    let folders = options
        .certificates
        .iter()
        .map(|folder| folder.join(registry));
    for folder in options.certificate_directory.iter().cloned().chain(folders) {
        let files = files(&folder)?;
        let with = |extension| {
            let fits = move |path: &&PathBuf| path.extension() == Some(OsStr::new(extension));
            files.iter().filter(fits)
        };
        for path in with("crt") {
            trust = trust.and_pem(&read(path)?, &path.display().to_string())?;
        }
        if let (None, Some(path)) = (&identity, with("cert").next()) {
            let key = path.with_extension("key");
            let (chain_bytes, key_bytes) = (read(path)?, read(&key)?);
            let (path, key) = (path.display().to_string(), key.display().to_string());
            let found = ClientIdentity::from_pem((&chain_bytes, &path), (&key_bytes, &key))?;
            identity = Some(found);
        }
    }
    Ok((trust, identity))
}

/// In the order of their names; none if there is no such folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>, RegistryError> {
    let fail = |source| RegistryError::Certificates { source };
    let entries = match fs_err::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(fail)?,
    };
    let paths: Result<Vec<_>, _> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect();
    let mut paths = paths.map_err(fail)?;
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<Vec<u8>, RegistryError> {
    fs_err::read(path).map_err(|source| RegistryError::Certificates { source })
}
