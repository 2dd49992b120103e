//! An image in an OCI layout as lines: one for each file, one for each word of its configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

use firebuild_core::Digest;
use firebuild_core::tree::{Kind, Node, NodeId, Tree};
use firebuild_oci::Sources;
use firebuild_store::Store;
use serde_json::Value;

/// The members of a configuration that are compared.
const MEMBERS: [&str; 12] = [
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
];

/// Reads the only image of a layout.
pub(crate) fn of(layout: &Path, scratch: &Path) -> BTreeSet<String> {
    let store = Store::open(scratch).unwrap();
    let image = firebuild_oci::import_oci_dir(
        &store,
        (layout, None),
        &firebuild_builder::rootfs::Ext4,
        &["judged".parse().unwrap()],
    );
    let image = image.unwrap();
    let (tree, sources) = firebuild_oci::image_tree(&store, image.diff_ids()).unwrap();
    let mut lines = files(&tree, &sources);
    lines.extend(configuration(&serde_json::to_value(&image.config).unwrap()));
    lines
}

/// What a configuration in Docker's form says of the process, where it says something.
pub(crate) fn configuration(image: &Value) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let nothing = |value: &Value| {
        let members = value.as_array().map(Vec::len);
        members.or(value.as_object().map(|members| members.len())) == Some(0)
    };
    for name in MEMBERS {
        let value = &image["config"][name];
        if !nothing(value) {
            words(&format!("config {name}"), value, &mut lines);
        }
    }
    lines
}

fn files(tree: &Tree, sources: &Sources) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let mut names: BTreeMap<NodeId, String> = BTreeMap::new();
    tree.walk(&mut |path, id| {
        // What the root directory is like, buildah leaves to chance.
        if path.is_empty() {
            return;
        }
        let path = String::from_utf8_lossy(path).into_owned();
        let node = tree.node(id);
        let first = names.entry(id).or_insert_with(|| path.clone());
        let metadata = &node.metadata;
        let mut line = format!(
            "{path}: {:o} {}:{} {}",
            metadata.mode,
            metadata.uid,
            metadata.gid,
            kind(node, sources)
        );
        if *first != path {
            line += &format!(" same as {first}");
        }
        for (name, value) in &metadata.xattrs {
            line += &format!(" {}={}", name.escape_ascii(), value.escape_ascii());
        }
        lines.insert(line);
    });
    lines
}

fn kind(node: &Node, sources: &Sources) -> String {
    match &node.kind {
        Kind::Directory(_) => "directory".to_owned(),
        Kind::File(content) => {
            let mut bytes = Vec::new();
            let mut reader = sources.open(content).unwrap();
            reader.read_to_end(&mut bytes).unwrap();
            format!(
                "file of {} bytes {}",
                bytes.len(),
                Digest::of(&bytes).short()
            )
        }
        Kind::Symlink(target) => format!("link to {}", target.escape_ascii()),
        Kind::CharacterDevice(device) => format!("character {}:{}", device.major, device.minor),
        Kind::BlockDevice(device) => format!("block {}:{}", device.major, device.minor),
        Kind::Fifo => "fifo".to_owned(),
        Kind::Socket => "socket".to_owned(),
    }
}

/// `config NAME KEY: VALUE` for each value; the members of a list in their order, in one line.
fn words(name: &str, value: &Value, lines: &mut BTreeSet<String>) {
    match value {
        Value::Null => {}
        Value::Object(members) => {
            for (key, member) in members {
                words(&format!("{name} {key}"), member, lines);
            }
            if members.is_empty() {
                lines.insert(name.to_owned());
            }
        }
        Value::Array(members) => {
            let text = |member: &Value| match member.as_str() {
                Some(text) => text.to_owned(),
                None => member.to_string(),
            };
            let members: Vec<String> = members.iter().map(text).collect();
            lines.insert(format!("{name}: {}", members.join(" | ")));
        }
        Value::String(text) if text.is_empty() => {}
        Value::String(text) => drop(lines.insert(format!("{name}: {text}"))),
        other => drop(lines.insert(format!("{name}: {other}"))),
    }
}
