//! Changes that are made, written as a layer and laid on the tree below, against the same steps
//! taken on the tree itself.

use firebuild_core::tree::{Kind, Metadata, Node, NodeId, Tree, components};
use firebuild_oci::{Changes, Sources};
use proptest::prelude::*;

use crate::model::{archive, layers};
use crate::{listing, notation};

#[derive(Debug, Clone)]
enum Step {
    Put(String),
    Directory(String),
    Remove(String),
    Clear(String),
    Link(String, String),
}

fn path() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "c", "d"]);
    prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => path().prop_map(Step::Put),
        2 => path().prop_map(Step::Directory),
        3 => path().prop_map(Step::Remove),
        1 => path().prop_map(Step::Clear),
        1 => (path(), path()).prop_map(|(path, target)| Step::Link(path, target)),
    ]
}

fn file(number: u16) -> Node {
    Node {
        metadata: Metadata::root_owned(number),
        kind: Kind::Symlink(number.to_string().into_bytes().into()),
    }
}

fn directory(tree: &mut Tree, path: &[u8]) -> NodeId {
    let mut at = tree.root();
    for part in components(path) {
        at = match tree.child(at, part) {
            Some(id) if tree.node(id).is_directory() => id,
            _ => {
                let node = Node::directory(Metadata::root_owned(0o755));
                tree.insert(at, part, node).unwrap()
            }
        };
    }
    at
}

fn split(path: &str) -> (&[u8], &[u8]) {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    (parent.as_bytes(), name.as_bytes())
}

/// Takes a step on both. A link is only taken if the changes can make it.
fn take(step: &Step, number: u16, changes: &mut Changes<'_>, tree: &mut Tree) {
    match step {
        Step::Put(path) => {
            let node = Node {
                metadata: Metadata::root_owned(0o777),
                ..file(number)
            };
            changes.insert(path.as_bytes(), node.clone()).unwrap();
            let (parent, name) = split(path);
            let parent = directory(tree, parent);
            tree.insert(parent, name, node).unwrap();
        }
        Step::Directory(path) => {
            let metadata = Metadata::root_owned(0o700 + number % 8);
            changes
                .directory(path.as_bytes(), metadata.clone())
                .unwrap();
            let id = directory(tree, path.as_bytes());
            *tree.metadata_mut(id) = metadata;
        }
        Step::Remove(path) => {
            changes.remove(path.as_bytes()).unwrap();
            let (parent, name) = split(path);
            if let Some(parent) = tree.lookup(parent) {
                tree.remove(parent, name);
            }
        }
        Step::Clear(path) => {
            changes.opaque(path.as_bytes()).unwrap();
            let id = directory(tree, path.as_bytes());
            tree.clear(id);
        }
        Step::Link(path, target) => {
            // A link through what it replaces would have no target.
            if target.starts_with(path.as_str()) || path.starts_with(target.as_str()) {
                return;
            }
            if changes.link(path.as_bytes(), target.as_bytes()).is_ok() {
                let target = tree.lookup(target.as_bytes()).unwrap();
                let (parent, name) = split(path);
                let parent = directory(tree, parent);
                tree.link(parent, name, target).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_layer_of_changes_makes_them(
        layers in layers(),
        steps in prop::collection::vec(step(), 0..12),
    ) {
        let mut archives: Vec<_> = layers.iter().map(|layer| archive(layer, false)).collect();
        let (lower, _) = notation::merged(&archives).unwrap();
        let mut expected = lower.clone();
        let mut changes = Changes::over(&lower);
        for (number, step) in steps.iter().enumerate() {
            let number = u16::try_from(number).unwrap();
            take(step, number, &mut changes, &mut expected);
        }
        archives.push(changes.write(&Sources::new(), Vec::new()).unwrap());
        let (tree, sources) = notation::merged(&archives).unwrap();
        let ours = listing::of_tree(&tree, &sources, true);
        let expected = listing::of_tree(&expected, &sources, true);
        prop_assert_eq!(listing::difference(&ours, &expected), "");
    }
}
