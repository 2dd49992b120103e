//! What a VM's workload has mounted in its root: as people ask for it, and as the record keeps it.
//!
//! [`crate::volumes`] turns this into drives and devices.

use std::path::{Path, PathBuf};

use firebuild_core::{ByteSize, printable};
use firebuild_store::VolumeName;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The most mounts that a VM has. How many of them are devices is bounded by its VMM.
pub const MOST_MOUNTS: usize = 64;

/// The longest target, as the kernel has it, in bytes.
const LONGEST_TARGET: usize = 4095;

/// Shown of a text that is refused, in characters.
const SHOWN: usize = 200;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Mount {
    /// Where: an absolute path of the guest's, and not its root. It is made if it is missing.
    pub target: String,
    /// What.
    pub source: Source,
    /// Whether the workload cannot write there.
    #[serde(default)]
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all_fields = "PascalCase")]
pub enum Source {
    /// A volume, which is made if there is none of that name.
    Volume {
        /// Its name.
        name: VolumeName,
        /// How much it can hold, if it is made for this VM.
        size: ByteSize,
    },
    /// A directory that is kept as long as the VM is.
    Anonymous,
    /// What a directory of the host's holds when the VM is started for the first time: read-only.
    Snapshot(PathBuf),
    /// A directory of the host's itself.
    Host(PathBuf),
    /// Memory that is empty at first.
    Memory {
        /// The most that it holds; half of the VM's memory if none.
        size: Option<ByteSize>,
        /// The permission bits of its root: 0 to 0o7777. Those of the directory that it hides if none.
        mode: Option<u16>,
        /// Whether programs on it can be executed.
        executable: bool,
    },
}

impl Mount {
    /// A mount that the workload writes to. Of the target, `/./` and double slashes are taken out.
    #[must_use]
    pub fn new(target: &str, source: Source) -> Self {
        Self {
            target: cleaned(target),
            source,
            read_only: false,
        }
    }

    /// The directory of the host's that is mounted itself, if it is one.
    #[must_use]
    pub fn shared(&self) -> Option<&Path> {
        match &self.source {
            Source::Host(path) => Some(path),
            _ => None,
        }
    }

    /// Checks what types alone do not say.
    ///
    /// # Errors
    /// [`Error::Spec`] says what can be instead.
    pub fn check(&self) -> Result<(), Error> {
        let shown = printable(&self.target, SHOWN);
        let no = |text: String| Err(Error::Spec(text));
        if !self.target.starts_with('/') {
            return no(format!(
                "`{shown}` is not a path in the guest: write it from the root on, such as `/data`"
            ));
        }
        if self.target.contains('\0') || self.target.len() > LONGEST_TARGET {
            return no(format!("`{shown}` cannot be a path in the guest"));
        }
        if self.target.split('/').any(|part| part == "..") {
            return no(format!("`{shown}` has a `..` in it: write where it leads"));
        }
        if self.target == "/" {
            return no("nothing can be mounted on the guest's root `/`".to_owned());
        }
        for kept in ["/proc", "/sys", "/dev"] {
            if self.target == kept {
                return no(format!("the guest's `{kept}` is the kernel's own"));
            }
        }
        match &self.source {
            Source::Memory { mode, .. } if mode.is_some_and(|mode| mode > 0o7777) => {
                no("a mode has 4 octal digits at most, such as `1777`".to_owned())
            }
            Source::Memory {
                size: Some(size), ..
            } if size.0 < 4096 => no(format!(
                "a file system in memory has 4096 bytes at least, not {}",
                size.0
            )),
            Source::Volume { size, .. } => check_size(*size),
            _ => Ok(()),
        }
    }
}

/// Checks how much a volume can hold.
///
/// # Errors
/// [`Error::Spec`].
pub fn check_size(size: ByteSize) -> Result<(), Error> {
    let (least, most) = (ByteSize::mib(16), ByteSize::mib(16 << 20));
    if (least..=most).contains(&size) {
        return Ok(());
    }
    Err(Error::Spec(format!(
        "a volume has {least} to {most}, not {size}"
    )))
}

/// Checks mounts beside each other.
///
/// # Errors
/// [`Error::Spec`].
pub fn check_all(mounts: &[Mount]) -> Result<(), Error> {
    if mounts.len() > MOST_MOUNTS {
        return Err(Error::Spec(format!(
            "a VM has at most {MOST_MOUNTS} mounts, not {}",
            mounts.len()
        )));
    }
    for (index, mount) in mounts.iter().enumerate() {
        mount.check()?;
        if mounts[..index]
            .iter()
            .any(|other| other.target == mount.target)
        {
            return Err(Error::Spec(format!(
                "two things are to be mounted on `{}`",
                printable(&mount.target, SHOWN)
            )));
        }
    }
    Ok(())
}

fn cleaned(target: &str) -> String {
    let parts: Vec<&str> = target
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    let root = if target.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_checked() {
        let check = |target: &str| {
            let mount = Mount::new(target, Source::Anonymous);
            mount.check().map(|()| mount.target)
        };
        for (target, expected) in [
            ("/data", "/data"),
            ("/data/", "/data"),
            ("//a/./b//c", "/a/b/c"),
            ("/dev/shm", "/dev/shm"),
        ] {
            assert_eq!(check(target).unwrap(), expected);
        }
        let long = format!("/{}", "a".repeat(5000));
        for target in [
            "", "data", "/", "//", "/.", "/a/../b", "/..", "/proc", "/sys/", "/a\0b", &long,
        ] {
            assert!(check(target).is_err(), "{target:?}");
        }
    }

    #[test]
    fn mounts_beside_each_other_are_checked() {
        let mount = |target: &str| Mount::new(target, Source::Anonymous);
        assert!(check_all(&[mount("/a"), mount("/a/b"), mount("/b")]).is_ok());
        assert!(check_all(&[mount("/a"), mount("/a/")]).is_err());
        let many: Vec<Mount> = (0..=MOST_MOUNTS).map(|n| mount(&format!("/{n}"))).collect();
        assert!(check_all(&many).is_err());
        assert!(check_all(&many[1..]).is_ok());
    }

    #[test]
    fn sizes_and_modes_have_bounds() {
        let memory = |size, mode| {
            let source = Source::Memory {
                size,
                mode,
                executable: false,
            };
            Mount::new("/t", source).check().is_ok()
        };
        assert!(memory(Some(ByteSize::mib(1)), Some(0o1777)) && memory(None, None));
        assert!(!memory(Some(ByteSize(0)), None) && !memory(None, Some(0o10000)));
        for (size, fits) in [
            (0, false),
            (15, false),
            (16, true),
            (10 << 10, true),
            (17 << 20, false),
        ] {
            assert_eq!(check_size(ByteSize::mib(size)).is_ok(), fits, "{size}");
        }
    }
}
