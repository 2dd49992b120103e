//! Where profiles are: `NAME.toml` in one directory.
//!
//! A profile appears whole or not at all: it is written beside, synced and renamed.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{Profile, ProfileError, ProfileName, Schema};

/// The most that is read of a profile.
const MOST: u64 = 1 << 20;

/// What the profile `default` is when it is made: nothing but an explanation.
const TEMPLATE: &str = "\
# The profile that holds where no other is asked for. Flags stand here without their dashes: those
# at the top hold for every command that has them, those in a section for that command.
#
# mem = 256
#
# [run]
# cpu = 2
# env = [\"TZ=UTC\"]
";

/// A directory of profiles.
#[derive(Debug)]
pub(crate) struct Profiles<'a> {
    directory: &'a Path,
}

impl<'a> Profiles<'a> {
    /// The profiles of a directory, which need not be there.
    pub(crate) fn at(directory: &'a Path) -> Self {
        Self { directory }
    }

    /// The file of a profile, which need not be there.
    pub(crate) fn path(&self, name: &ProfileName) -> PathBuf {
        self.directory.join(format!("{name}.toml"))
    }

    /// The names of all profiles, in order.
    ///
    /// # Errors
    /// If the directory is there and cannot be read.
    pub(crate) fn list(&self) -> io::Result<Vec<ProfileName>> {
        let entries = match fs_err::read_dir(self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let stem = name.to_str().and_then(|name| name.strip_suffix(".toml"));
            names.extend(stem.and_then(|stem| stem.parse().ok()));
        }
        names.sort();
        Ok(names)
    }

    /// The text of a profile.
    ///
    /// # Errors
    /// If it is not there, or cannot be read.
    pub(crate) fn text(&self, name: &ProfileName) -> Result<String, ProfileError> {
        let mut text = String::new();
        let read = fs_err::File::open(self.path(name))
            .and_then(|file| file.take(MOST + 1).read_to_string(&mut text));
        match read {
            Ok(_) if text.len() as u64 > MOST => Err(ProfileError::Large {
                name: name.clone(),
                most: MOST,
            }),
            Ok(_) => Ok(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ProfileError::Missing {
                name: name.clone(),
                directory: self.directory.to_owned(),
            }),
            Err(source) => Err(failed("read", name)(source)),
        }
    }

    /// A profile.
    ///
    /// # Errors
    /// If it is not there, or not a valid one.
    pub(crate) fn read(
        &self,
        name: &ProfileName,
        schema: &Schema,
    ) -> Result<Profile, ProfileError> {
        Profile::parse(name, &self.text(name)?, schema)
    }

    /// The profile `default`, if it is there or can be made. Where it cannot be seen, nobody has to
    /// know of it.
    ///
    /// # Errors
    /// If it is there and not a valid one.
    pub(crate) fn default_one(
        &self,
        schema: &Schema,
        make: bool,
    ) -> Result<Option<Profile>, ProfileError> {
        let name = ProfileName::default_one();
        match self.text(&name) {
            Ok(text) => Profile::parse(&name, &text, schema).map(Some),
            Err(ProfileError::Missing { .. }) => {
                if make {
                    // It would say nothing new.
                    let _ = self.write(&name, TEMPLATE, false);
                }
                Ok(None)
            }
            Err(ProfileError::Io { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a profile whose text is known to be one.
    ///
    /// # Errors
    /// If there is one and it is not to be replaced, or if it cannot be written.
    pub(crate) fn write(
        &self,
        name: &ProfileName,
        text: &str,
        replace: bool,
    ) -> Result<(), ProfileError> {
        let failed = failed("write", name);
        fs_err::create_dir_all(self.directory).map_err(&failed)?;
        let mut file = tempfile::Builder::new()
            .prefix(".profile-")
            .permissions(std::fs::Permissions::from_mode(0o644))
            .tempfile_in(self.directory)
            .map_err(&failed)?;
        let written = file.write_all(text.as_bytes());
        written
            .and_then(|()| file.as_file().sync_all())
            .map_err(&failed)?;
        let path = self.path(name);
        let persisted = match replace {
            true => file.persist(path),
            false => file.persist_noclobber(path),
        };
        match persisted {
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                Err(ProfileError::Exists { name: name.clone() })
            }
            Err(error) => Err(failed(error.error)),
            Ok(_) => self.sync(name),
        }
    }

    /// Removes a profile.
    ///
    /// # Errors
    /// If it is not there, or cannot be removed.
    pub(crate) fn remove(&self, name: &ProfileName) -> Result<(), ProfileError> {
        match fs_err::remove_file(self.path(name)) {
            Ok(()) => self.sync(name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ProfileError::Missing {
                name: name.clone(),
                directory: self.directory.to_owned(),
            }),
            Err(source) => Err(failed("remove", name)(source)),
        }
    }

    fn sync(&self, name: &ProfileName) -> Result<(), ProfileError> {
        let directory = fs_err::File::open(self.directory);
        directory
            .and_then(|directory| directory.sync_all())
            .map_err(failed("write", name))
    }
}

fn failed(doing: &'static str, name: &ProfileName) -> impl Fn(io::Error) -> ProfileError {
    move |source| ProfileError::Io {
        doing,
        name: name.clone(),
        source,
    }
}
