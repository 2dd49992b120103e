//! The store's promises, with threads, with processes that are killed, and on a full disk.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what fails in a test's own steps fails the test"
)]

mod blobs;
mod cache_disks;
mod directories;
mod images;
mod machines;
mod space;
mod volumes;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use firebuild_core::Reference;
use firebuild_store::layout::{self, Descriptor, Manifest};
use firebuild_store::{Lease, Store};
use tempfile::TempDir;

/// A store in a directory that goes away.
fn store() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    (directory, store)
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs_err::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// An image of one layer with these bytes.
fn image(lease: &Lease, layer: &[u8]) -> Descriptor {
    let config = lease.put(b"{}").unwrap().descriptor(layout::CONFIG);
    let layers = vec![lease.put(layer).unwrap().descriptor(layout::LAYER)];
    let manifest = serde_json::to_vec(&Manifest::new(config, layers)).unwrap();
    lease.put(&manifest).unwrap().descriptor(layout::MANIFEST)
}

/// The variable that makes this program a child of one of its own tests.
const CHILD: &str = "FIREBUILD_STORE_TEST_CHILD";

/// The store's root, if this process is a child.
fn child_root() -> Option<std::path::PathBuf> {
    std::env::var_os(CHILD).map(Into::into)
}

/// Runs test `name` of this program as a process of its own, which sees its [`child_root`].
fn spawn(name: &str, root: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until a child says that it is ready.
fn wait_ready(child: &mut Child) {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    for line in lines {
        if line.unwrap().ends_with("ready") {
            return;
        }
    }
    panic!("the child ended before it was ready");
}

/// Says so, and then waits for its own death.
fn ready_and_wait() -> ! {
    println!("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    std::process::exit(1)
}
