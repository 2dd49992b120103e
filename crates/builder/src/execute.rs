//! Walks a plan: each stage in turn, each operation from the cache or for real.
//!
//! Copies are resolved here, on the host, without a VM. A stage's first RUN that the cache does
//! not know starts the stage's VM; later ones go on in it, with what came between laid on.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Read as _;
use std::time::Instant;

use firebuild_core::tree::{Content, Kind, Metadata, Node, Timestamp, Tree};
use firebuild_core::user;
use firebuild_core::{Digest, ImageConfig, Reference};
use firebuild_oci::{Changes, Sources};
use firebuild_plan::{
    Base, Copy, CopySource, Directory, Item, Operation, Plan, Run, Stage, Step, key,
};
use firebuild_store::{CacheRecord, Lease, Store};

use crate::build::Request;
use crate::context;
use crate::copy::{self, CopyError, Match};
use crate::error::{Error, StepError};
use crate::progress::{Event, Place, Progress};
use crate::sources::Files;
use crate::stage::{Layer, StageState};
use crate::vm::BuildVm;
use crate::{fingerprint, sources, time};

/// A plan on its way.
pub(crate) struct Execution<'a> {
    pub(crate) store: &'a Store,
    pub(crate) lease: Lease,
    pub(crate) plan: &'a Plan,
    pub(crate) request: &'a Request<'a>,
    pub(crate) progress: &'a mut dyn Progress,
    context: Option<Files>,
    /// The stages that are done.
    stages: Vec<StageState>,
    /// Images that are only copied from.
    images: BTreeMap<Reference, StageState>,
}

/// A stage in the making and its VM, if one was needed.
struct Current<'a> {
    stage: &'a Stage,
    state: StageState,
    vm: Option<BuildVm>,
}

/// What a step did.
enum Outcome {
    Cached(Option<Layer>, u64),
    Made(Option<Layer>, u64),
}

impl<'a> Execution<'a> {
    pub(crate) fn new(
        lease: Lease,
        store: &'a Store,
        plan: &'a Plan,
        request: &'a Request<'a>,
        progress: &'a mut dyn Progress,
    ) -> Self {
        Self {
            store,
            lease,
            plan,
            request,
            progress,
            context: None,
            stages: Vec::new(),
            images: BTreeMap::new(),
        }
    }

    /// Builds every stage; the result is the target's.
    pub(crate) async fn run(mut self) -> Result<StageState, Error> {
        for stage in &self.plan.stages {
            let state = self.stage(stage).await?;
            self.stages.push(state);
        }
        Ok(self.stages.swap_remove(self.plan.target))
    }

    async fn stage(&mut self, stage: &'a Stage) -> Result<StageState, Error> {
        let started = Instant::now();
        let place = Place {
            stage: &stage.name,
            step: 1,
            steps: stage.steps.len() + 1,
        };
        self.progress.event(Event::Step {
            place,
            text: &stage.origin.text,
        });
        let state = self.base(stage)?;
        self.progress.event(Event::Done {
            place,
            duration: started.elapsed(),
            size: None,
        });
        let mut current = Current {
            stage,
            state,
            vm: None,
        };
        let result = self.steps(&mut current).await;
        match current.vm.take() {
            Some(vm) if result.is_ok() => vm.finish().await?,
            Some(vm) => vm.abandon().await,
            None => {}
        }
        result.map(|()| current.state)
    }

    async fn steps(&mut self, current: &mut Current<'a>) -> Result<(), Error> {
        let stage = current.stage;
        for (index, step) in stage.steps.iter().enumerate() {
            let started = Instant::now();
            let place = Place {
                stage: &stage.name,
                step: index + 2,
                steps: stage.steps.len() + 1,
            };
            self.progress.event(Event::Step {
                place,
                text: &step.origin.text,
            });
            let outcome = self
                .step(current, step, place)
                .await
                .map_err(|source| Error::Step {
                    stage: stage.name.clone(),
                    origin: Box::new(step.origin.clone()),
                    source: Box::new(source),
                })?;
            let (layer, created) = match outcome {
                Outcome::Cached(layer, created) => {
                    self.progress.event(Event::Cached { place });
                    (layer, created)
                }
                Outcome::Made(layer, created) => {
                    let size = layer.map(|layer| layer.size);
                    self.progress.event(Event::Done {
                        place,
                        duration: started.elapsed(),
                        size,
                    });
                    (layer, created)
                }
            };
            current.state.push(layer, created, &step.history);
        }
        Ok(())
    }

    fn base(&self, stage: &Stage) -> Result<StageState, Error> {
        match &stage.base {
            Base::Scratch => Ok(StageState::new(
                Vec::new(),
                ImageConfig::scratch(self.plan.platform.clone()),
                0,
            )),
            Base::Stage(index) => Ok(StageState::from_stage(&self.stages[*index])),
            Base::Image(reference) => image_state(self.store, reference),
        }
    }

    async fn step(
        &mut self,
        current: &mut Current<'a>,
        step: &Step,
        place: Place<'_>,
    ) -> Result<Outcome, StepError> {
        for change in step.operation.changes() {
            change.apply(&mut current.state.config.config);
        }
        match &step.operation {
            Operation::Configure(_) => Ok(Outcome::Made(None, 0)),
            Operation::Directory(directory) => self.directory(current, directory, step),
            Operation::Copy(copy) => self.copy(current, copy, step),
            Operation::Run(run) => self.process(current, run, step, place).await,
        }
    }

    fn directory(
        &mut self,
        current: &mut Current<'a>,
        directory: &Directory,
        step: &Step,
    ) -> Result<Outcome, StepError> {
        let key = key::directory(&current.state.chain, directory);
        if let Some(outcome) = cached(self.store, &key, self.request.no_cache)? {
            return Ok(outcome);
        }
        let merged = current.state.files(self.store)?;
        let (passwd, group) = user_files(merged);
        let user = user::process_user(&directory.user, &passwd, &group)?;
        // A number alone owns what it makes with its own group, as in BuildKit.
        let (uid, gid) =
            user::owner(&directory.user, &passwd, &group).unwrap_or((user.uid, user.gid));
        let made = Metadata {
            uid,
            gid,
            mtime: now(),
            ..Metadata::root_owned(0o755)
        };
        let upper = copy::make_directory(&merged.tree, directory.path.as_bytes(), &made)?;
        let layer = match upper {
            Some(upper) => write(&self.lease, upper, &Sources::default())?,
            None => write_empty(&self.lease)?,
        };
        let created = remember(self.store, &key, layer, step)?;
        Ok(Outcome::Made(layer.unless_empty(), created))
    }

    fn copy(
        &mut self,
        current: &mut Current<'a>,
        copy: &Copy,
        step: &Step,
    ) -> Result<Outcome, StepError> {
        let no_cache = self.request.no_cache;
        let (store, lease) = (self.store, self.lease.clone());
        let from = self.load(&copy.from)?;
        let inline = inline(&copy.items, &mut from.sources)?;
        let sources = copied(copy, &from.tree, &inline)?;
        if copy.unpack {
            refuse_archives(&sources, &from.sources)?;
        }
        let content = fingerprint::of(&sources, &from.sources).map_err(StepError::Read)?;
        let key = key::copy(&current.state.chain, copy, &content);
        if let Some(outcome) = cached(store, &key, no_cache)? {
            return Ok(outcome);
        }
        let lower = current.state.files(store)?;
        let owner = copy.owner.as_ref().map(|owner| {
            let (passwd, group) = user_files(lower);
            user::owner(owner, &passwd, &group)
        });
        let request = copy::Request {
            sources: &sources,
            destination: copy.destination.as_bytes(),
            owner: owner.transpose()?,
        };
        let upper = copy::copy(&lower.tree, &request)?;
        let layer = write(&lease, upper, &from.sources)?;
        let created = remember(store, &key, layer, step)?;
        Ok(Outcome::Made(layer.unless_empty(), created))
    }

    /// What is copied from, loaded if it was not.
    fn load(&mut self, from: &CopySource) -> Result<&mut Files, Error> {
        match from {
            CopySource::Context => {
                if self.context.is_none() {
                    self.context = Some(context::scan(self.request.context, self.request.ignore)?);
                }
                Ok(self.context.get_or_insert_default())
            }
            CopySource::Stage(index) => {
                let stage = &mut self.stages[*index];
                stage.files(self.store)?;
                Ok(stage.loaded_files())
            }
            CopySource::Image(reference) => {
                let state = match self.images.entry(reference.clone()) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => entry.insert(image_state(self.store, reference)?),
                };
                state.files(self.store)?;
                Ok(state.loaded_files())
            }
        }
    }

    async fn process(
        &mut self,
        current: &mut Current<'a>,
        run: &Run,
        step: &Step,
        place: Place<'_>,
    ) -> Result<Outcome, StepError> {
        let key = key::run(&current.state.chain, run);
        if let Some(outcome) = cached(self.store, &key, self.request.no_cache)? {
            return Ok(outcome);
        }
        let vm = match &mut current.vm {
            Some(vm) => vm,
            none => none.insert(
                BuildVm::start(&self.lease, &self.request.vm, &current.state, self.progress)
                    .await?,
            ),
        };
        vm.lay_on(self.store, &current.state.layers, &step.origin)
            .await?;
        let layer = vm.run(run, &step.origin, place, self.progress).await?;
        let created = remember(self.store, &key, layer, step)?;
        Ok(Outcome::Made(layer.unless_empty(), created))
    }
}

/// What the cache has for a key.
fn cached(store: &Store, key: &Digest, no_cache: bool) -> Result<Option<Outcome>, StepError> {
    if no_cache {
        return Ok(None);
    }
    let Some(record) = store.cache().get(key)? else {
        return Ok(None);
    };
    let layer = Layer {
        digest: record.layer,
        size: record.size,
    };
    Ok(Some(Outcome::Cached(layer.unless_empty(), record.created)))
}

/// Keeps a result. What is returned is its time, so that an image from the cache is the same image.
fn remember(store: &Store, key: &Digest, layer: Layer, step: &Step) -> Result<u64, StepError> {
    let created = time::now();
    let record = CacheRecord {
        layer: layer.digest,
        size: layer.size,
        created,
        description: step.origin.text.clone(),
    };
    store.cache().put(key, &record)?;
    Ok(created)
}

fn write(lease: &Lease, upper: Tree, sources: &Sources) -> Result<Layer, StepError> {
    let writer = Changes::whole(upper).write(sources, lease.blob_writer()?)?;
    let blob = writer.commit(None)?;
    Ok(Layer {
        digest: blob.digest,
        size: blob.size,
    })
}

/// A layer without entries, which stands for "nothing to do" in the cache and is in no image.
fn write_empty(lease: &Lease) -> Result<Layer, StepError> {
    let blob = lease.put(&Layer::empty_bytes())?;
    Ok(Layer {
        digest: blob.digest,
        size: blob.size,
    })
}

/// An image of the store as the beginning of a stage.
pub(crate) fn image_state(store: &Store, reference: &Reference) -> Result<StageState, Error> {
    let image = crate::image::load(store, reference)?;
    let layers = image
        .config
        .rootfs
        .diff_ids
        .iter()
        .zip(&image.layers)
        .map(|(digest, layer)| Layer {
            digest: *digest,
            size: layer.size,
        });
    let created = time::parse(image.config.created.as_deref());
    Ok(StageState::new(
        layers.collect(),
        image.config.clone(),
        created,
    ))
}

/// The texts of a copy's here-documents, as files of a tree of their own; their bytes are added to
/// the sources of what else is copied.
fn inline(items: &[Item], sources: &mut Sources) -> Result<Tree, StepError> {
    let mut tree = Tree::default();
    for item in items {
        let Item::Inline { name, content } = item else {
            continue;
        };
        let number = sources.add_file(sources::text(content).map_err(StepError::Read)?);
        let kind = Kind::File(Content::whole(number, 0, content.len() as u64));
        let root = tree.root();
        tree.insert(
            root,
            name.as_bytes(),
            Node {
                metadata: Metadata::root_owned(0o644),
                kind,
            },
        )?;
    }
    Ok(tree)
}

/// What a copy's words name.
fn copied<'t>(copy: &Copy, from: &'t Tree, inline: &'t Tree) -> Result<Vec<Match<'t>>, CopyError> {
    let mut sources = Vec::new();
    for item in &copy.items {
        match item {
            Item::Path(path) => sources.extend(copy::matches(from, path.as_bytes())?),
            Item::Inline { name, .. } => sources.extend(copy::matches(inline, name.as_bytes())?),
        }
    }
    Ok(sources)
}

/// The image's `/etc/passwd` and `/etc/group`; empty where they are missing, no regular files, or
/// larger than any real one.
fn user_files(files: &Files) -> (Vec<u8>, Vec<u8>) {
    let read = |path: &[u8]| {
        let id = files.tree.resolve(path, true).ok()?;
        let Kind::File(content) = &files.tree.node(id).kind else {
            return None;
        };
        let mut bytes = Vec::new();
        let small = content.length <= user::LARGEST_FILE;
        small.then(|| {
            files
                .sources
                .open(content)
                .and_then(|mut reader| reader.read_to_end(&mut bytes))
                .ok()
        })??;
        Some(bytes)
    };
    (
        read(b"etc/passwd").unwrap_or_default(),
        read(b"etc/group").unwrap_or_default(),
    )
}

/// ADD unpacks archives, by their content; until it can, it says so.
fn refuse_archives(sources: &[Match<'_>], contents: &Sources) -> Result<(), StepError> {
    for source in sources {
        let Kind::File(content) = &source.tree.node(source.node).kind else {
            continue;
        };
        let mut head = Vec::new();
        contents
            .open(content)
            .and_then(|reader| reader.take(512).read_to_end(&mut head))
            .map_err(StepError::Read)?;
        let magic: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
        if magic.iter().any(|magic| head.starts_with(magic)) || head.get(257..262) == Some(b"ustar")
        {
            return Err(StepError::Archive(
                String::from_utf8_lossy(&source.name).into_owned(),
            ));
        }
    }
    Ok(())
}

fn now() -> Timestamp {
    Timestamp {
        seconds: i64::try_from(time::now()).unwrap_or_default(),
        nanoseconds: 0,
    }
}
