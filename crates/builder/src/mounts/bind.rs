//! Bind mounts: files of contexts, stages and images.
//!
//! What decides whether a RUN was executed before is their content, without times. The guest gets
//! them as an archive, which the store has under its digest: the same files are sent to a VM once.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use firebuild_core::Digest;
use firebuild_core::tree::{Kind, NodeId, Tree, TreeError};
use firebuild_oci::Changes;
use firebuild_plan::{Mount, Run, Source};
use firebuild_protocol::command::SINGLE;

use super::{Material, Mounted};
use crate::copy::Match;
use crate::current::{Below, Current};
use crate::error::StepError;
use crate::fingerprint;
use crate::sources::Files;

/// What a mount shows: a file or directory of a tree.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    files: Arc<Files>,
    node: NodeId,
    single: bool,
}

impl Bound {
    fn find(files: Arc<Files>, path: &str, source: &Source) -> Result<Self, StepError> {
        let missing = |_: TreeError| StepError::MountSource {
            path: path.to_owned(),
            source_name: name(source),
        };
        let node = files.tree.resolve(path.as_bytes(), true).map_err(missing)?;
        let single = match files.tree.node(node).kind {
            Kind::Directory(_) => false,
            Kind::File(_) => true,
            _ => {
                return Err(StepError::MountSource {
                    path: path.to_owned(),
                    source_name: name(source),
                });
            }
        };
        Ok(Self {
            files,
            node,
            single,
        })
    }

    fn digest(&self) -> std::io::Result<Digest> {
        let all = Match {
            tree: Cow::Borrowed(&self.files.tree),
            name: Vec::new(),
            node: self.node,
            implied: BTreeSet::new(),
        };
        fingerprint::of(&[all], &self.files.sources)
    }

    /// A tree of what is shown, and nothing else.
    fn tree(&self) -> Result<Tree, TreeError> {
        let from = &self.files.tree;
        let mut graft = Graft {
            from,
            known: HashMap::new(),
        };
        if self.single {
            let mut tree = Tree::default();
            let root = tree.root();
            tree.insert(root, SINGLE.as_bytes(), from.node(self.node).clone())?;
            return Ok(tree);
        }
        let mut tree = Tree::new(from.node(self.node).metadata.clone());
        let root = tree.root();
        graft.directory(self.node, &mut tree, root)?;
        Ok(tree)
    }
}

/// Copies nodes from one tree to another, with the files that have several names.
struct Graft<'a> {
    from: &'a Tree,
    known: HashMap<NodeId, NodeId>,
}

impl Graft<'_> {
    fn directory(&mut self, from: NodeId, to: &mut Tree, at: NodeId) -> Result<(), TreeError> {
        for (name, child) in self.from.entries(from) {
            if let Some(known) = self.known.get(&child) {
                to.link(at, name.as_bytes(), *known)?;
                continue;
            }
            let node = self.from.node(child);
            if node.is_directory() {
                let empty = firebuild_core::tree::Node::directory(node.metadata.clone());
                let made = to.insert(at, name.as_bytes(), empty)?;
                self.directory(child, to, made)?;
            } else {
                let made = to.insert(at, name.as_bytes(), node.clone())?;
                self.known.insert(child, made);
            }
        }
        Ok(())
    }
}

impl Current<'_> {
    /// What a RUN's mounts show, each in its place; waits for the stages that it is in.
    pub(crate) async fn bound(&mut self, run: &Run) -> Result<Vec<Option<Bound>>, StepError> {
        let mut all = Vec::new();
        for mount in &run.mounts {
            let shown = match mount {
                Mount::Bind(bind) => Some((&bind.from, &bind.path)),
                Mount::Cache(cache) if cache.from != Source::Empty => {
                    Some((&cache.from, &cache.path))
                }
                _ => None,
            };
            all.push(match shown {
                None => None,
                Some((from, path)) => {
                    let files = self.source(from, &[path]).await?;
                    Some(Bound::find(files, path, from)?)
                }
            });
        }
        Ok(all)
    }

    /// The digests of what a RUN's bind mounts show.
    pub(crate) async fn mounted_content(
        &mut self,
        run: &Run,
        bound: &[Option<Bound>],
    ) -> Result<Vec<Digest>, StepError> {
        let is_bind = |mount: &Mount| matches!(mount, Mount::Bind(_));
        let binds = run.mounts.iter().zip(bound);
        let binds: Vec<Bound> = binds
            .filter(|(mount, _)| is_bind(mount))
            .filter_map(|(_, bound)| bound.clone())
            .collect();
        if binds.is_empty() {
            return Ok(Vec::new());
        }
        let digest = move |_: &mut Below| {
            let digests = binds.iter().map(Bound::digest);
            digests.collect::<Result<_, _>>().map_err(StepError::Read)
        };
        self.work(digest).await
    }

    /// Makes what a mount shows an archive, and offers it. The result is the name of the resource,
    /// and whether it is one file.
    pub(super) async fn archive(
        &mut self,
        bound: &Bound,
        mounted: &mut Mounted,
    ) -> Result<(String, bool), StepError> {
        let shown = bound.clone();
        let write = move |below: &mut Below| {
            let all = Changes::whole(shown.tree()?).plain();
            below.write_changes(&all, &shown.files.sources)
        };
        let layer = self.work(write).await?;
        let resource = format!("binds/{}", layer.digest);
        let path = self.store().blob_path(&layer.digest);
        mounted
            .materials
            .push((resource.clone(), Material::File(path)));
        Ok((resource, bound.single))
    }
}

/// What people call a source.
fn name(source: &Source) -> String {
    match source {
        Source::Context => "the build context".to_owned(),
        Source::Named(name) => format!("context `{name}`"),
        Source::Stage(_) => "its stage".to_owned(),
        Source::Image(reference) => format!("image `{}`", reference.familiar()),
        Source::Empty => "`scratch`".to_owned(),
    }
}
