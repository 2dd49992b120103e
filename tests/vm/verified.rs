//! `run --root-hash`: a VM from the root file system that was meant, or none.

use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::live::Live;
use crate::session::{Session, output_of};
use crate::{BASE, session};

/// The test's image.
const IMAGE: &str = "test/verified:1";
const BLOCK: u64 = 4096;
/// What a changed file of the image begins with.
const MARK: &str = "this block stands alone";

/// An image of the test's own, and its root file system as the store has it for VMs that verify it.
struct Verified {
    session: Session,
    hash: String,
    data_blocks: u64,
    file: PathBuf,
}

impl Verified {
    /// `name` tells the image from those of other tests.
    fn new(name: &str) -> Self {
        let session = session();
        let text = format!("FROM {BASE}\nCOPY <<END /marked\n{MARK}\n{name}\nEND\n");
        session.build(&text, &["-t", IMAGE]).success();
        let exported = session.path("exported.img");
        let words = ["image", "export", IMAGE, "--type", "ext4", "--verity"];
        let more = ["--format", "json", "-o", exported.to_str().unwrap()];
        let told = session.json(&[&words[..], &more].concat());
        let hash = told["RootHash"].as_str().unwrap().to_owned();
        let ran = session.run(&["run", "--rm", "--root-hash", &hash, IMAGE, "--", "true"]);
        ran.success();
        let mut verified = Self {
            data_blocks: told["DataBlocks"].as_u64().unwrap(),
            hash,
            file: PathBuf::new(),
            session,
        };
        // The key is the tree's salt, which stands in the superblock behind the data.
        let mut salt = [0; 32];
        let at = verified.data_blocks * BLOCK + 88;
        let whole = fs_err::File::open(&exported).unwrap();
        whole.file().read_exact_at(&mut salt, at).unwrap();
        let digits = salt.map(|byte| format!("{byte:02x}")).concat();
        let root = verified.session.root().join("v1/rootfs");
        verified.file = root.join(format!("{digits}.img"));
        output_of("cmp", &[&exported, &verified.file]);
        verified
    }

    fn arguments<'a>(&'a self, script: &'a str) -> [&'a str; 8] {
        let hash = &self.hash;
        [
            "run",
            "--rm",
            "--root-hash",
            hash,
            IMAGE,
            "sh",
            "-c",
            script,
        ]
    }

    /// Changes one bit of the store's file.
    fn change(&self, at: u64) {
        let mut options = fs_err::OpenOptions::new();
        let file = options.read(true).write(true).open(&self.file);
        let file = file.unwrap().into_parts().0;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }

    /// Where the file `/marked` begins.
    fn mark(&self) -> u64 {
        let bytes = fs_err::read(&self.file).unwrap();
        let mut blocks = bytes.chunks(4096);
        blocks
            .position(|block| block.starts_with(MARK.as_bytes()))
            .unwrap() as u64
            * BLOCK
    }

    /// The number of the first block of the tree's lowest level, which is the last in the file.
    fn lowest(&self) -> u64 {
        let length = fs_err::metadata(&self.file).unwrap().len();
        length / BLOCK - self.data_blocks.div_ceil(128)
    }

    /// What `system verify` has to say of this image's files.
    fn broken(&self, more: &[&str]) -> Vec<(String, String)> {
        let words = [&["system", "verify", "--format", "json"], more].concat();
        let shown: serde_json::Value =
            serde_json::from_str(&self.session.run(&words).stdout).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let name = self.file.file_stem().unwrap().to_str().unwrap();
        let findings = shown["Broken"].as_array().unwrap().iter();
        let ours = findings.filter(|row| text(&row["Digest"]).contains(name));
        ours.map(|row| (text(&row["Problem"]), text(&row["State"])))
            .collect()
    }
}

#[test]
fn a_vm_runs_from_the_root_that_was_meant_and_from_no_other() {
    let verified = Verified::new("meant");
    let session = &verified.session;
    let ran = session.ok(&verified.arguments("cat /marked; cat /sys/block/dm-0/dm/name"));
    assert_eq!(ran, format!("{MARK}\nmeant\nroot\n"));
    // The workload may write as ever.
    session.ok(&verified.arguments("echo more >>/marked && rm -r /usr/share/doc"));
    assert_eq!(verified.broken(&[]), []);

    let another = format!("sha256:{}", "0f".repeat(32));
    let refused = session.run(&["run", "--rm", "--root-hash", &another, IMAGE, "true"]);
    let said = refused.failure();
    let expected = format!(
        "error: the root file system of `{IMAGE}` has the root hash `{}`, not `{}`\nhint: ",
        verified.hash,
        &another[7..]
    );
    assert!(said.starts_with(&expected), "{said}");
    let refused = session.run(&["run", "--root-hash", "0f", IMAGE, "true"]);
    assert!(refused.stderr.contains("a root hash has 64"), "{refused}");
    // It is an image's, as long as that is there.
    session.ok(&["image", "prune"]);
    assert!(verified.file.exists());
    session.ok(&["image", "rm", IMAGE]);
    session.ok(&["image", "prune"]);
    assert!(!verified.file.exists());
}

#[test]
fn what_is_changed_while_the_vm_runs_cannot_be_read() {
    let verified = Verified::new("changed");
    let script = "trap 'cat /marked; exit $?' USR1; echo ready; while :; do sleep 0.1; done";
    let mut live = Live::start(&mut verified.session.command(&verified.arguments(script)));
    live.until("ready");
    let number = verified.mark() / BLOCK;
    verified.change(number * BLOCK + 5);
    live.signal(Signal::USR1);
    let (status, said) = live.end();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("cat: /marked: Input/output error"), "{said}");
    assert!(!said.contains("stands alone"), "{said}");

    let problem = format!("its block {number} is not what its tree of hashes says");
    assert_eq!(
        verified.broken(&[]),
        [(problem.clone(), "found".to_owned())]
    );
    assert_eq!(
        verified.broken(&["--repair"]),
        [(problem, "mended".to_owned())]
    );
    let ran = verified.session.ok(&verified.arguments("cat /marked"));
    assert_eq!(ran, format!("{MARK}\nchanged\n"));
}

#[test]
fn a_tree_that_is_changed_is_refused() {
    let verified = Verified::new("tree");
    // The highest block, which is all of the tree that the host reads.
    verified.change((verified.data_blocks + 1) * BLOCK + 7);
    let said = verified.session.run(&verified.arguments("true")).failure();
    let expected =
        format!("error: the root file system of `{IMAGE}` was changed on this host's disk\nhint: ");
    assert!(said.starts_with(&expected), "{said}");
    verified.change((verified.data_blocks + 1) * BLOCK + 7);
    // The digest of the file system's beginning, in the lowest level: the guest finds that.
    let lowest = verified.lowest();
    verified.change(lowest * BLOCK);
    let said = verified.session.run(&verified.arguments("true")).failure();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("is not what its root hash stands for"),
        "{said}"
    );
    let repaired = verified.broken(&["--repair"]);
    let problem = format!("its block {lowest} is not what its tree of hashes says");
    assert_eq!(repaired, [(problem, "mended".to_owned())]);
}
