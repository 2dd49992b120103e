//! Which of a kernel's modules a VM needs, and in which order they are loaded.
//!
//! A module says itself what it depends on (its `.modinfo` section); so no `depmod` has to have
//! run, which a package's mere extraction does not do.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::compression::unpack;
use super::elf::Elf;
use super::error::{BootError, doing};

/// A module that was found, ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Module {
    /// Its name, with underscores.
    pub(super) name: String,
    /// Its uncompressed bytes.
    pub(super) bytes: Vec<u8>,
}

/// The modules of one kernel, by name.
#[derive(Debug, Default)]
pub(super) struct Index {
    files: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
}

impl Index {
    /// Reads which modules a directory `lib/modules/RELEASE` has; none if it does not exist.
    pub(super) fn read(directory: &Path) -> Result<Self, BootError> {
        let mut index = Self::default();
        if !directory.is_dir() {
            return Ok(index);
        }
        let list = directory.join("modules.builtin");
        match fs_err::read_to_string(list) {
            Ok(text) => index.built_in = text.lines().map(module_name).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(doing("read the list of built-in modules")(error)),
        }
        index
            .walk(directory)
            .map_err(doing("list the kernel's modules"))?;
        Ok(index)
    }

    fn walk(&mut self, directory: &Path) -> io::Result<()> {
        for entry in fs_err::read_dir(directory)? {
            let entry = entry?;
            let path = entry.path();
            // `build` and `source` are links to elsewhere.
            if entry.file_type()?.is_dir() {
                self.walk(&path)?;
            } else if is_module(&path) {
                self.files
                    .insert(module_name(&path.to_string_lossy()), path);
            }
        }
        Ok(())
    }

    /// Whether the kernel has the module in itself, as far as its list says.
    pub(super) fn is_built_in(&self, name: &str) -> bool {
        self.built_in.contains(name)
    }

    /// Whether there is a file for it.
    pub(super) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// `wanted` and all that they depend on, each once, in an order in which they can be loaded.
    /// What has no file is left out: it is built in, or was found missing before.
    pub(super) fn load_order(&self, wanted: &[&str]) -> Result<Vec<Module>, BootError> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in wanted {
            self.visit(name, &mut seen, &mut order)?;
        }
        Ok(order)
    }

    fn visit(
        &self,
        name: &str,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<Module>,
    ) -> Result<(), BootError> {
        let Some(path) = self
            .files
            .get(name)
            .filter(|_| seen.insert(name.to_owned()))
        else {
            return Ok(());
        };
        let packed = fs_err::read(path).map_err(doing("read a kernel module"))?;
        let damaged = |reason: String| BootError::Module {
            name: name.to_owned(),
            reason,
        };
        let bytes = unpack(&packed).map_err(|error| damaged(error.to_string()))?;
        let needed =
            dependencies(&bytes).ok_or_else(|| damaged("it is no module for x86-64".to_owned()))?;
        for other in needed {
            self.visit(&other, seen, order)?;
        }
        order.push(Module {
            name: name.to_owned(),
            bytes,
        });
        Ok(())
    }
}

fn is_module(path: &Path) -> bool {
    let name = path.to_string_lossy();
    [".ko", ".ko.xz", ".ko.zst", ".ko.gz"]
        .iter()
        .any(|suffix| name.ends_with(suffix))
}

/// `kernel/drivers/virtio/virtio-rng.ko.xz` is the module `virtio_rng`.
fn module_name(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.split(".ko")
        .next()
        .unwrap_or_default()
        .replace('-', "_")
}

/// Takes the signature that follows a module away. The kernel checks one that is there, at some
/// milliseconds each under emulation, and asks for none unless it was built to.
pub(super) fn unsigned(module: &[u8]) -> &[u8] {
    const MARK: &[u8] = b"~Module signature appended~\n";
    // `struct module_signature`: its last four bytes are the signature's length.
    const TRAILER: usize = 12;
    let signed = module.strip_suffix(MARK);
    let parts = signed.and_then(<[u8]>::split_last_chunk::<4>);
    let start = parts.and_then(|(rest, length)| {
        let rest = rest.len().checked_sub(TRAILER - length.len())?;
        rest.checked_sub(usize::try_from(u32::from_be_bytes(*length)).ok()?)
    });
    start.map_or(module, |end| &module[..end])
}

/// What must be loaded before a module: what it links to, then what it asks for softly.
fn dependencies(module: &[u8]) -> Option<Vec<String>> {
    let information = Elf::parse(module)?.section(b".modinfo")?;
    let values = |key: &'static [u8]| {
        information
            .split(|byte| *byte == 0)
            .filter_map(move |field| field.strip_prefix(key))
            .map(String::from_utf8_lossy)
    };
    let mut names = Vec::new();
    for softly in values(b"softdep=") {
        let before = softly.split("post:").next().unwrap_or_default();
        let words = before.split_ascii_whitespace();
        names.extend(
            words
                .filter(|word| *word != "pre:")
                .map(|word| word.replace('-', "_")),
        );
    }
    for list in values(b"depends=") {
        let list = list.split(',').filter(|name| !name.is_empty());
        names.extend(list.map(|name| name.replace('-', "_")));
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A relocatable file with nothing but a `.modinfo` section.
    fn module(information: &str) -> Vec<u8> {
        let names = b"\0.modinfo\0";
        let mut file = vec![0_u8; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[0x12] = 62;
        let section = |name: u8, offset: usize, length: usize| {
            let mut header = [0_u8; 64];
            header[0] = name;
            header[24..32].copy_from_slice(&(offset as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(length as u64).to_le_bytes());
            header
        };
        let at_names = 64 + information.len();
        let headers = at_names + names.len();
        file.extend(information.as_bytes());
        file.extend(names);
        file.extend(section(0, at_names, names.len()));
        file.extend(section(1, 64, information.len()));
        file[0x28..0x30].copy_from_slice(&(headers as u64).to_le_bytes());
        file[0x3a] = 64;
        file[0x3c] = 2;
        file
    }

    fn index(files: &[(&str, &str)], built_in: &str) -> (tempfile::TempDir, Index) {
        let directory = tempfile::tempdir().unwrap();
        for (path, information) in files {
            let path = directory.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, module(information)).unwrap();
        }
        fs_err::write(directory.path().join("modules.builtin"), built_in).unwrap();
        let index = Index::read(directory.path()).unwrap();
        (directory, index)
    }

    #[test]
    fn dependencies_come_first_and_once() {
        let (_directory, index) = index(
            &[
                ("kernel/virtio/virtio.ko", "name=virtio\0depends=\0"),
                ("kernel/virtio/virtio_ring.ko", "depends=virtio\0"),
                (
                    "kernel/virtio/virtio-mmio.ko",
                    "depends=virtio_ring,virtio\0",
                ),
                ("kernel/net/virtio_net.ko", "depends=net_failover,virtio\0"),
                ("kernel/net/net_failover.ko", "depends=failover\0"),
                ("kernel/net/failover.ko", "depends=\0"),
                (
                    "kernel/fs/ext4.ko",
                    "softdep=pre: crc32c post: other\0depends=jbd2\0",
                ),
                ("kernel/lib/crc32c.ko", "depends=\0"),
                ("kernel/lib/other.ko", "depends=\0"),
            ],
            "kernel/fs/jbd2/jbd2.ko\n",
        );
        let order = index
            .load_order(&["virtio_mmio", "virtio_net", "ext4", "absent"])
            .unwrap();
        let names: Vec<&str> = order.iter().map(|module| module.name.as_str()).collect();
        let expected = [
            "virtio",
            "virtio_ring",
            "virtio_mmio",
            "failover",
            "net_failover",
            "virtio_net",
            "crc32c",
            "ext4",
        ];
        assert_eq!(names, expected);
        assert!(index.is_built_in("jbd2") && !index.has("jbd2"));
    }

    #[test]
    fn a_circle_ends() {
        let (_directory, index) = index(&[("a.ko", "depends=b\0"), ("b.ko", "depends=a\0")], "");
        assert_eq!(index.load_order(&["a"]).unwrap().len(), 2);
    }

    #[test]
    fn a_file_that_is_no_module_is_named() {
        let (directory, _) = index(&[], "");
        fs_err::write(directory.path().join("virtio_blk.ko"), b"nonsense").unwrap();
        let index = Index::read(directory.path()).unwrap();
        let error = index.load_order(&["virtio_blk"]).unwrap_err();
        assert!(error.to_string().contains("`virtio_blk`"), "{error}");
    }

    #[test]
    fn a_signature_is_taken_away() {
        let trailer = [0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 5];
        let mark = b"~Module signature appended~\n";
        let signed = [&b"module"[..], b"12345", &trailer, mark].concat();
        assert_eq!(unsigned(&signed), b"module");
        for other in [&b"module"[..], b"", mark, &signed[7..]] {
            assert_eq!(unsigned(other), other);
        }
    }

    #[test]
    fn names_are_the_kernels() {
        for (path, name) in [
            ("kernel/drivers/char/hw_random/virtio-rng.ko", "virtio_rng"),
            ("kernel/fs/overlayfs/overlay.ko.xz", "overlay"),
            ("x.ko.zst", "x"),
        ] {
            assert_eq!(module_name(path), name);
        }
    }
}
