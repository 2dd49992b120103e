//! Everything that can be seen of a tree, as text: of a [`Tree`] and of a directory of the host.

use std::collections::HashMap;
use std::fmt::Write;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use firebuild_core::tree::{Kind, Node, NodeId, Tree};
use firebuild_oci::Sources;

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// The lines that only one of two listings has; empty if they are the same.
pub(crate) fn difference(ours: &[String], theirs: &[String]) -> String {
    let mut text = String::new();
    for (sign, lines, others) in [("ours", ours, theirs), ("theirs", theirs, ours)] {
        for line in lines.iter().filter(|line| !others.contains(line)) {
            writeln!(text, "{sign}: {line}").unwrap();
        }
    }
    if text.is_empty() && ours != theirs {
        text.push_str("another order");
    }
    text
}

/// One line for each name. The times of directories are left out where `times` is false, because
/// whoever fills a directory changes its time.
pub(crate) fn of_tree(tree: &Tree, sources: &Sources, times: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut names: HashMap<NodeId, String> = HashMap::new();
    tree.walk(&mut |path, id| {
        let path = show(path);
        let Node { metadata, kind } = tree.node(id);
        if let Some(first) = names.get(&id) {
            lines.push(format!("{path} = {first}"));
            return;
        }
        names.insert(id, path.clone());
        let mut line = format!(
            "{path} {:o} {}:{}",
            metadata.mode, metadata.uid, metadata.gid
        );
        if times || !tree.node(id).is_directory() {
            let time = metadata.mtime;
            write!(line, " {}.{:09}", time.seconds, time.nanoseconds).unwrap();
        }
        for (name, value) in &metadata.xattrs {
            write!(line, " {}={}", show(name), show(value)).unwrap();
        }
        match kind {
            Kind::Directory(_) => line.push_str(" directory"),
            Kind::File(content) => {
                let mut bytes = Vec::new();
                let mut reader = sources.open(content).unwrap();
                reader.read_to_end(&mut bytes).unwrap();
                write!(line, " file {}", show(&bytes)).unwrap();
            }
            Kind::Symlink(target) => write!(line, " -> {}", show(target)).unwrap(),
            Kind::CharacterDevice(d) => write!(line, " c {} {}", d.major, d.minor).unwrap(),
            Kind::BlockDevice(d) => write!(line, " b {} {}", d.major, d.minor).unwrap(),
            Kind::Fifo => line.push_str(" fifo"),
            Kind::Socket => line.push_str(" socket"),
        }
        lines.push(line);
    });
    lines
}

/// As [`of_tree`].
pub(crate) fn of_directory(root: &Path, times: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut names = HashMap::new();
    visit(root, root, times, &mut names, &mut lines);
    lines
}

fn visit(
    root: &Path,
    path: &Path,
    times: bool,
    names: &mut HashMap<(u64, u64), String>,
    lines: &mut Vec<String>,
) {
    let metadata = match fs_err::symlink_metadata(path) {
        // An overlay lists a whiteout that hides nothing, and then has nothing there.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        other => other.unwrap(),
    };
    let relative = path.strip_prefix(root).unwrap();
    let shown = show(relative.as_os_str().as_bytes());
    let key = (metadata.dev(), metadata.ino());
    if let Some(first) = names.get(&key).filter(|_| !metadata.is_dir()) {
        lines.push(format!("{shown} = {first}"));
        return;
    }
    names.insert(key, shown.clone());
    let mode = metadata.mode() & 0o7777;
    let mut line = format!("{shown} {mode:o} {}:{}", metadata.uid(), metadata.gid());
    if times || !metadata.is_dir() {
        let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
        write!(line, " {seconds}.{nanoseconds:09}").unwrap();
    }
    let mut attributes: Vec<_> = xattr::list(path).unwrap().collect();
    attributes.sort();
    for name in attributes {
        let value = xattr::get(path, &name).unwrap().unwrap_or_default();
        write!(line, " {}={}", show(name.as_bytes()), show(&value)).unwrap();
    }
    let (kind, device) = (metadata.file_type(), metadata.rdev());
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    if kind.is_dir() {
        line.push_str(" directory");
    } else if kind.is_file() {
        write!(line, " file {}", show(&fs_err::read(path).unwrap())).unwrap();
    } else if kind.is_symlink() {
        let target = fs_err::read_link(path).unwrap();
        write!(line, " -> {}", show(target.as_os_str().as_bytes())).unwrap();
    } else if kind.is_char_device() {
        write!(line, " c {major} {minor}").unwrap();
    } else if kind.is_block_device() {
        write!(line, " b {major} {minor}").unwrap();
    } else if kind.is_fifo() {
        line.push_str(" fifo");
    }
    lines.push(line);
    if kind.is_dir() {
        let mut children: Vec<Vec<u8>> = fs_err::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_vec())
            .collect();
        children.sort();
        for child in children {
            let child = path.join(std::ffi::OsStr::from_bytes(&child));
            visit(root, &child, times, names, lines);
        }
    }
}
