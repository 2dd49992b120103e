//! Guests that verify their root file system. The host is made to believe that it is the right one:
//! what is tested is the guest's own refusal.

use std::os::unix::fs::FileExt as _;
use std::process::Command;

use firebuild_core::{ByteSize, Digest};
use firebuild_disk::verity;
use firebuild_machine::boot::Kernel;
use firebuild_machine::output::{Entry, Stream};
use firebuild_machine::record::{Exit, State};
use firebuild_machine::{MachineSpec, client};
use firebuild_protocol::boot::RootVerity;

use crate::host::Place;
use crate::real::{kernel, said, shell};

const BLOCK: u64 = 4096;

/// The image with a tree behind it, and what a guest is told of it.
struct Root {
    file: tempfile::NamedTempFile,
    told: RootVerity,
}

impl Root {
    fn new() -> Self {
        let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs_err::copy(crate::image::image(), file.path()).unwrap();
        let size = ByteSize(file.as_file().metadata().unwrap().len());
        let made = verity::append(file.as_file(), size, b"test").unwrap();
        let told = RootVerity {
            root_hash: made.root_hash,
            salt: Digest::from_bytes(made.salt),
            data_blocks: made.data_blocks,
        };
        Self { file, told }
    }

    /// Changes one bit.
    fn change(&self, at: u64) {
        let mut byte = [0];
        self.file.as_file().read_exact_at(&mut byte, at).unwrap();
        let changed = [byte[0] ^ 1];
        self.file.as_file().write_all_at(&changed, at).unwrap();
    }

    /// Where the one block is that begins with `text` and holds nothing else.
    fn block_of(&self, text: &[u8]) -> u64 {
        let mut expected = text.to_vec();
        expected.resize(4096, 0);
        let mut block = vec![0; 4096];
        let mut blocks = (0..self.told.data_blocks).map(|number| number * BLOCK);
        let found = blocks.find(|at| {
            self.file.as_file().read_exact_at(&mut block, *at).unwrap();
            block == expected
        });
        found.unwrap()
    }

    fn spec(&self, script: &str) -> MachineSpec {
        MachineSpec {
            verity: Some(self.told.clone()),
            ..shell(script)
        }
    }

    /// What the guest says instead of running from this root.
    fn refusal(&self) -> String {
        let place = Place::real(&kernel(), self.file.path());
        let spec = self.spec("echo it runs");
        let started = client::run(&place.host, spec, place.supervisor());
        let error = started.map(|vm| vm.record().clone()).unwrap_err();
        assert_eq!(error.exit_status(), 125);
        let text = error.to_string();
        assert!(!text.contains('\n'), "{text}");
        let (_, said) = text
            .split_once("ended before it reached the host: ")
            .unwrap_or_else(|| panic!("the guest gave no reason: {error:?}"));
        said.to_owned()
    }
}

#[test]
fn what_was_changed_cannot_be_read_and_all_else_can() {
    let root = Root::new();
    root.change(root.block_of(b"gone"));
    let place = Place::real(&kernel(), root.file.path());
    let script = "cat /data/keep /data/gone; s=$?; cat /proc/cmdline /sys/block/dm-0/ro; exit $s";
    let mut vm = client::run(&place.host, root.spec(script), place.supervisor()).unwrap();
    let entries: Vec<Entry> = vm.by_ref().map(Result::unwrap).collect();
    let (stdout, stderr) = (
        said(&entries, Stream::Stdout),
        said(&entries, Stream::Stderr),
    );
    assert!(stdout.starts_with("kept"), "{stdout}");
    assert!(stdout.contains(&root.told.to_string()), "{stdout}");
    assert!(stdout.ends_with("\n1\n"), "{stdout}");
    assert!(!stdout.contains("one"), "{stdout}");
    assert_eq!(stderr, "cat: /data/gone: Input/output error\n");
    let last = vm.finish(&place.host).unwrap();
    let exit = Exit::Status(1);
    assert_eq!(last.state, State::Stopped { exit });
    place.assert_released(&last);
}

#[test]
fn a_root_with_another_hash_is_refused() {
    let mut root = Root::new();
    let (hash, salt) = (root.told.root_hash, root.told.salt);
    root.told.root_hash = Digest::of(b"another");
    let expected = format!(
        "the root file system has the root hash `{}`, and this VM uses `{}` only",
        hash.hex(),
        root.told.root_hash.hex()
    );
    assert_eq!(root.refusal(), expected);
    root.told.root_hash = hash;
    root.told.salt = Digest::of(b"another");
    assert!(root.refusal().contains("has the root hash"));
    root.told.salt = salt;
    root.told.data_blocks += 1 << 20;
    let said = root.refusal();
    assert!(
        said.starts_with("cannot read the root file system's tree"),
        "{said}"
    );
    root.told.data_blocks -= 1 << 20;
    // The highest block of the tree, behind the superblock.
    root.change((root.told.data_blocks + 1) * BLOCK);
    assert!(root.refusal().contains("has the root hash"));
}

#[test]
fn a_root_that_is_not_what_its_tree_says_is_refused() {
    let root = Root::new();
    let refused = "the root file system is not what its root hash stands for, or is none";
    // The file system's own beginning, and the digest of that in the lowest level of the tree.
    for at in [1024 + 0x68, (root.told.data_blocks + 2) * BLOCK] {
        root.change(at);
        let said = root.refusal();
        assert!(said.starts_with(refused), "{said}");
        root.change(at);
    }
}

#[test]
fn a_kernel_that_cannot_verify_is_refused() {
    let root = Root::new();
    let without = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let kernel = kernel();
    for file in ["kernel.json", "vmlinux", "config"] {
        fs_err::copy(kernel.join(file), without.path().join(file)).unwrap();
    }
    // All modules but one.
    let copied = Command::new("cp")
        .arg("-r")
        .arg(kernel.join("modules"))
        .arg(without.path())
        .status();
    assert!(copied.unwrap().success());
    fs_err::remove_file(
        without
            .path()
            .join("modules/kernel/drivers/md/dm-verity.ko"),
    )
    .unwrap();
    let release = Kernel::open(without.path())
        .unwrap()
        .facts()
        .release
        .clone();
    let place = Place::real(without.path(), root.file.path());
    let refused = client::run(&place.host, root.spec("true"), place.supervisor());
    let error = refused.map(|vm| vm.record().clone()).unwrap_err();
    let expected = format!("kernel `{release}` has no driver for CONFIG_DM_VERITY");
    assert_eq!(error.to_string(), expected);
    assert!(error.hint().is_some());
}
