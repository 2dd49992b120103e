//! Kernels that VMs boot: taken in from files and packages, kept in a directory each.
//!
//! A kernel's directory holds
//! * `vmlinux`: the uncompressed ELF kernel;
//! * `original`: the kernel as it came;
//! * `config`: its configuration, if it is known;
//! * `modules/`: its modules as they came, if it has any;
//! * `kernel.json`: its [`KernelFacts`].
//!
//! What must hold: a kernel that was imported can boot a VM, as far as its configuration tells.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::error::{BootError, doing};
use super::image::{self, Image};
use super::modules::{Index, Module};

/// The drivers without which no VM comes up: modules and their configuration options, in the
/// order in which the guest wants them.
const DRIVERS: [(&str, &str); 5] = [
    ("virtio_mmio", "CONFIG_VIRTIO_MMIO"),
    ("virtio_blk", "CONFIG_VIRTIO_BLK"),
    ("virtio_net", "CONFIG_VIRTIO_NET"),
    ("ext4", "CONFIG_EXT4_FS"),
    ("overlay", "CONFIG_OVERLAY_FS"),
];

/// What a verified root file system needs besides.
const VERITY: [(&str, &str); 2] = [
    ("dm_mod", "CONFIG_BLK_DEV_DM"),
    ("dm_verity", "CONFIG_DM_VERITY"),
];

/// What directories of the host's need.
const SHARING: [(&str, &str); 2] = [("fuse", "CONFIG_FUSE_FS"), ("virtiofs", "CONFIG_VIRTIO_FS")];

/// The digests that it needs, as their modules are called by turns; newer kernels have them within.
const SHA256: [&str; 2] = ["sha256_generic", "sha256"];

/// What can only be built in; of each group, one is enough.
const BUILT_IN: [&[&str]; 6] = [
    &["CONFIG_BLK_DEV_INITRD"],
    &["CONFIG_DEVTMPFS"],
    &["CONFIG_TMPFS"],
    &["CONFIG_SERIAL_8250_CONSOLE"],
    &["CONFIG_INET"],
    // How the kernel learns of its devices.
    &["CONFIG_ACPI", "CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES"],
];

/// What is known of an imported kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct KernelFacts {
    /// The release, as `uname -r` has it.
    pub release: String,
    /// Whether its configuration is known; without it, its drivers are taken on trust.
    pub config: bool,
    /// The modules that VMs load, in load order.
    pub modules: Vec<String>,
    /// Whether it loads signed modules only.
    #[serde(default)]
    pub signed_modules: bool,
    /// Whether it finds devices through ACPI; else they must be on its command line. True where
    /// the configuration is not known.
    pub acpi: bool,
}

/// What a VM needs of its kernel beyond what every VM does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// dm-verity, for a root file system that is verified as it is read.
    pub verity: bool,
    /// virtio-fs, for directories of the host's.
    pub sharing: bool,
}

/// An imported kernel.
#[derive(Debug, Clone)]
pub struct Kernel {
    directory: PathBuf,
    facts: KernelFacts,
}

/// The files that make up a kernel, wherever they lie.
#[derive(Debug, Default)]
struct Parts {
    kernel: PathBuf,
    config: Option<PathBuf>,
    modules: Option<PathBuf>,
}

/// Takes in an ELF vmlinux, a bzImage or a Debian package that holds a kernel, into the directory
/// `into`, which exists and is empty.
///
/// # Errors
/// [`BootError`] if `input` is none of these or its kernel lacks what a VM needs. `into` is then
/// the caller's to throw away.
pub fn import(input: &Path, into: &Path) -> Result<KernelFacts, BootError> {
    if is_package(input)? {
        let unpacked = scratch(into)?;
        unpack_package(input, unpacked.path())?;
        return import_root(unpacked.path(), into);
    }
    let parts = Parts {
        kernel: input.to_owned(),
        ..Parts::default()
    };
    import_parts(&parts, into)
}

/// Takes in the one kernel of an unpacked root file system: `boot/vmlinuz-RELEASE`, its
/// configuration beside it, and its modules.
pub(super) fn import_root(root: &Path, into: &Path) -> Result<KernelFacts, BootError> {
    let mut kernels = Vec::new();
    for entry in fs_err::read_dir(root.join("boot")).into_iter().flatten() {
        let name = entry.map_err(doing("list the kernels"))?.file_name();
        if let Some(release) = name.to_str().and_then(|name| name.strip_prefix("vmlinuz-")) {
            kernels.push(release.to_owned());
        }
    }
    let [release] = &kernels[..] else {
        return Err(BootError::KernelCount {
            path: root.to_owned(),
            count: kernels.len(),
        });
    };
    let modules = ["lib/modules", "usr/lib/modules"].map(|path| root.join(path).join(release));
    let config = root.join(format!("boot/config-{release}"));
    let parts = Parts {
        kernel: root.join(format!("boot/vmlinuz-{release}")),
        config: Some(config).filter(|path| path.is_file()),
        modules: modules.into_iter().find(|path| path.is_dir()),
    };
    import_parts(&parts, into)
}

/// A directory beside the kernel's files that is gone when the import ends, however it ends.
pub(super) fn scratch(into: &Path) -> Result<tempfile::TempDir, BootError> {
    tempfile::Builder::new()
        .prefix(".unpacked-")
        .tempdir_in(into)
        .map_err(doing("make a directory to unpack the kernel in"))
}

fn import_parts(parts: &Parts, into: &Path) -> Result<KernelFacts, BootError> {
    let path = &parts.kernel;
    let original = fs_err::read(path).map_err(doing("read the kernel"))?;
    let vmlinux = match image::open(original) {
        Image::Elf(vmlinux) => vmlinux,
        Image::Unknown => return Err(BootError::NotAKernel { path: path.clone() }),
        Image::Unusable(reason) => {
            return Err(BootError::Unusable {
                path: path.clone(),
                reason,
            });
        }
    };
    let release = image::release(&vmlinux).ok_or_else(|| BootError::Unusable {
        path: path.clone(),
        reason: "it does not tell its release".to_owned(),
    })?;
    let config = match &parts.config {
        Some(config) => Some(fs_err::read(config).map_err(doing("read the configuration"))?),
        None => image::embedded_config(&vmlinux),
    };
    let index = match &parts.modules {
        Some(modules) => Index::read(modules)?,
        None => Index::default(),
    };
    let facts = examine(release, config.as_deref(), &index)?;
    keep(parts, into, &vmlinux, config.as_deref(), &facts).map_err(doing("store the kernel"))?;
    Ok(facts)
}

/// What a kernel is, or which drivers it lacks.
fn examine(
    release: String,
    config: Option<&[u8]>,
    index: &Index,
) -> Result<KernelFacts, BootError> {
    let config = config.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let set = |option: &str, value: char| {
        let line = format!("{option}={value}");
        config
            .as_ref()
            .is_none_or(|text| text.lines().any(|known| known == line))
    };
    let mut missing = without(&DRIVERS, index, |option| set(option, 'y'));
    for options in BUILT_IN {
        if !options.iter().any(|option| set(option, 'y')) {
            missing.push(options.join(" or "));
        }
    }
    if !missing.is_empty() {
        return Err(BootError::MissingDrivers { release, missing });
    }
    let modules = index.load_order(&DRIVERS.map(|(module, _)| module))?;
    Ok(KernelFacts {
        release,
        modules: modules.into_iter().map(|module| module.name).collect(),
        signed_modules: config.is_some() && set("CONFIG_MODULE_SIG_FORCE", 'y'),
        acpi: set("CONFIG_ACPI", 'y'),
        config: config.is_some(),
    })
}

/// The options of those drivers that are neither built in nor a module.
fn without(
    drivers: &[(&str, &str)],
    index: &Index,
    built_in: impl Fn(&str) -> bool,
) -> Vec<String> {
    let lacks = |(module, option): &&(&str, &str)| {
        !index.has(module) && !index.is_built_in(module) && !built_in(option)
    };
    let lacking = drivers.iter().filter(lacks);
    lacking.map(|(_, option)| (*option).to_owned()).collect()
}

fn keep(
    parts: &Parts,
    into: &Path,
    vmlinux: &[u8],
    config: Option<&[u8]>,
    facts: &KernelFacts,
) -> io::Result<()> {
    fs_err::write(into.join("vmlinux"), vmlinux)?;
    fs_err::copy(&parts.kernel, into.join("original"))?;
    if let Some(config) = config {
        fs_err::write(into.join("config"), config)?;
    }
    if let Some(modules) = &parts.modules {
        // The scratch directory lies in `into`, so this is one file system.
        fs_err::rename(modules, into.join("modules"))?;
    }
    let facts = serde_json::to_vec_pretty(facts)?;
    fs_err::write(into.join("kernel.json"), facts)
}

fn is_package(input: &Path) -> Result<bool, BootError> {
    use std::io::Read as _;
    let mut start = Vec::new();
    fs_err::File::open(input)
        .and_then(|file| file.take(8).read_to_end(&mut start))
        .map_err(doing("read the kernel"))?;
    Ok(start == b"!<arch>\n")
}

fn unpack_package(package: &Path, into: &Path) -> Result<(), BootError> {
    const TOOL: &str = "dpkg-deb";
    let package = package.canonicalize().map_err(doing("read the package"))?;
    let output = Command::new(TOOL).arg("-x").args([&package, into]).output();
    let output = match output {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(BootError::MissingTool { tool: "dpkg" });
        }
        other => other.map_err(doing("start `dpkg-deb`"))?,
    };
    if output.status.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(BootError::Tool { tool: TOOL, output })
}

impl Kernel {
    /// Opens a kernel that [`import`] left in `directory`.
    ///
    /// # Errors
    /// [`BootError`] if it has no facts, or facts that cannot be understood.
    pub fn open(directory: &Path) -> Result<Self, BootError> {
        let text = fs_err::read(directory.join("kernel.json")).map_err(doing("open a kernel"))?;
        let facts = serde_json::from_slice(&text).map_err(|source| BootError::Facts {
            path: directory.to_owned(),
            source,
        })?;
        Ok(Self {
            directory: directory.to_owned(),
            facts,
        })
    }

    /// What is known of it.
    #[must_use]
    pub fn facts(&self) -> &KernelFacts {
        &self.facts
    }

    /// The uncompressed ELF kernel: what QEMU's microvm and Firecracker boot.
    #[must_use]
    pub fn vmlinux(&self) -> PathBuf {
        self.directory.join("vmlinux")
    }

    /// The modules that a VM with these needs loads, in load order.
    pub(super) fn modules(&self, needs: Needs) -> Result<Vec<Module>, BootError> {
        if self.facts.modules.is_empty() && needs == Needs::default() {
            return Ok(Vec::new());
        }
        let index = Index::read(&self.directory.join("modules"))?;
        let mut wanted = DRIVERS.map(|(module, _)| module).to_vec();
        if needs.verity {
            self.require(&VERITY, &index)?;
            wanted.extend(SHA256);
            wanted.extend(VERITY.map(|(module, _)| module));
        }
        if needs.sharing {
            self.require(&SHARING, &index)?;
            wanted.extend(SHARING.map(|(module, _)| module));
        }
        index.load_order(&wanted)
    }

    /// Refuses to do without these drivers, where the configuration is known.
    fn require(&self, drivers: &[(&str, &str)], index: &Index) -> Result<(), BootError> {
        if !self.facts.config {
            return Ok(());
        }
        let config = fs_err::read_to_string(self.directory.join("config"));
        let config = config.map_err(doing("read the kernel's configuration"))?;
        let missing = without(drivers, index, |option| {
            config.lines().any(|line| line == format!("{option}=y"))
        });
        if missing.is_empty() {
            return Ok(());
        }
        Err(BootError::MissingDrivers {
            release: self.facts.release.clone(),
            missing,
        })
    }

    #[cfg(test)]
    pub(super) fn without_modules() -> Self {
        let facts = KernelFacts {
            release: "6.1.0".to_owned(),
            config: false,
            modules: Vec::new(),
            signed_modules: false,
            acpi: true,
        };
        Self {
            directory: PathBuf::from("/none"),
            facts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "CONFIG_BLK_DEV_INITRD=y\nCONFIG_DEVTMPFS=y\nCONFIG_TMPFS=y\n\
        CONFIG_SERIAL_8250_CONSOLE=y\nCONFIG_INET=y\nCONFIG_ACPI=y\nCONFIG_VIRTIO_MMIO=y\n\
        CONFIG_VIRTIO_BLK=y\nCONFIG_VIRTIO_NET=y\nCONFIG_EXT4_FS=y\nCONFIG_OVERLAY_FS=y\n";

    fn examined(config: &str) -> Result<KernelFacts, BootError> {
        examine("6.1".to_owned(), Some(config.as_bytes()), &Index::default())
    }

    #[test]
    fn a_kernel_with_everything_built_in_needs_no_modules() {
        let facts = examined(GOOD).unwrap();
        assert!(facts.modules.is_empty() && facts.acpi && facts.config);
        assert!(examine("6.1".to_owned(), None, &Index::default()).is_ok());
    }

    #[test]
    fn a_missing_driver_is_named() {
        for (from, to, named) in [
            (
                "CONFIG_OVERLAY_FS=y",
                "# CONFIG_OVERLAY_FS is not set",
                "CONFIG_OVERLAY_FS",
            ),
            (
                "CONFIG_VIRTIO_BLK=y",
                "CONFIG_VIRTIO_BLK=m",
                "CONFIG_VIRTIO_BLK",
            ),
            ("CONFIG_DEVTMPFS=y\n", "", "CONFIG_DEVTMPFS"),
            (
                "CONFIG_ACPI=y\n",
                "",
                "CONFIG_ACPI or CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES",
            ),
        ] {
            let error = examined(&GOOD.replace(from, to)).unwrap_err().to_string();
            assert_eq!(error, format!("kernel `6.1` has no driver for {named}"));
        }
        let commanded = GOOD.replace("CONFIG_ACPI=y", "CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES=y");
        assert!(!examined(&commanded).unwrap().acpi);
    }

    #[test]
    fn what_is_no_kernel_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let input = directory.path().join("input");
        let into = directory.path().join("into");
        fs_err::create_dir(&into).unwrap();
        for (bytes, expected) in [
            (&b"#!/bin/sh\n"[..], "is no kernel"),
            (b"", "is no kernel"),
            (b"\x7fELF\x01\x01", "not for x86-64"),
            (b"!<arch>\nnonsense", "`dpkg-deb` failed"),
        ] {
            fs_err::write(&input, bytes).unwrap();
            let error = import(&input, &into).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert_eq!(fs_err::read_dir(&into).unwrap().count(), 0);
        }
        assert!(import(&directory.path().join("none"), &into).is_err());
        assert!(Kernel::open(&into).is_err());
    }

    #[test]
    fn what_a_verified_root_needs_is_asked_for_only_then() {
        let directory = tempfile::tempdir().unwrap();
        let mut kernel = Kernel::without_modules();
        kernel.directory = directory.path().to_owned();
        let verity = Needs {
            verity: true,
            ..Needs::default()
        };
        // Taken on trust: the guest will see.
        assert_eq!(kernel.modules(verity).unwrap(), []);
        kernel.facts.config = true;
        for (config, missing) in [
            ("", Some("CONFIG_BLK_DEV_DM, CONFIG_DM_VERITY")),
            ("CONFIG_BLK_DEV_DM=y\n", Some("CONFIG_DM_VERITY")),
            ("CONFIG_BLK_DEV_DM=y\nCONFIG_DM_VERITY=y\n", None),
        ] {
            fs_err::write(directory.path().join("config"), config).unwrap();
            assert_eq!(kernel.modules(Needs::default()).unwrap(), []);
            let error = kernel.modules(verity).err().map(|error| error.to_string());
            let expected = missing.map(|text| format!("kernel `6.1.0` has no driver for {text}"));
            assert_eq!(error, expected);
        }
    }
}
