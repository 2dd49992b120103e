//! One stage in the making: what it has so far, what it waits for, and what it says.
//!
//! Everything that a step needs from the rest of the build comes through here, so that the two rules
//! of [`schedule`](crate::schedule) and [`threads`](crate::threads) hold: a stage ends its VM before
//! it waits for another stage, and heavy work is done on other threads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use firebuild_core::Digest;
use firebuild_core::tree::Tree;
use firebuild_oci::{Changes, Exported, Sources};
use firebuild_plan::{Operation, Stage, Step, key};
use firebuild_store::{Lease, Store};
use tokio_util::sync::CancellationToken;

use crate::cache::{Claim, Known, Made, Outcome};
use crate::error::{Error, StepError};
use crate::execute::Execution;
use crate::mounts::cache::Disks;
use crate::progress::{Event, Place, StageRef, Wait};
use crate::schedule::{self, Slot};
use crate::sources::Files;
use crate::stage::{Finished, Layer, Merged, StageState};
use crate::vm::{BuildVm, Ground};
use crate::{epoch, rootfs, time};

/// A stage in the making and its VM, if one is needed.
pub(crate) struct Current<'a> {
    pub(crate) build: &'a Execution<'a>,
    /// Its position in the plan.
    pub(crate) index: usize,
    pub(crate) state: StageState,
    pub(crate) vm: Option<BuildVm<'a>>,
    /// The disks that the next VM gets.
    pub(crate) next_disks: Disks,
    merged: Merged,
    /// When the step began, and how long it has waited since.
    step: (Instant, Duration),
}

/// What a step's work on a thread has at hand: the files of the layers below.
pub(crate) struct Below {
    pub(crate) lease: Lease,
    layers: Vec<Layer>,
    merged: Merged,
    stop: CancellationToken,
}

impl<'a> Current<'a> {
    pub(crate) fn new(build: &'a Execution<'a>, index: usize, state: StageState) -> Self {
        Self {
            build,
            index,
            state,
            vm: None,
            next_disks: Disks::default(),
            merged: Merged::default(),
            step: (Instant::now(), Duration::ZERO),
        }
    }

    pub(crate) fn stage(&self) -> &'a Stage {
        &self.build.plan.stages[self.index]
    }

    pub(crate) fn store(&self) -> &'a Store {
        self.build.lease.store()
    }

    /// Says something.
    pub(crate) fn tell(&self, event: Event<'_>) {
        self.build.progress.event(event);
    }

    /// How events call the stage.
    pub(crate) fn name(&self) -> StageRef<'a> {
        self.build.name(self.index)
    }

    /// Step `step`, from 1, begins.
    pub(crate) fn begin(&mut self, step: usize) -> Place<'a> {
        self.step = (Instant::now(), Duration::ZERO);
        Place {
            stage: self.name(),
            step,
            steps: self.stage().steps.len() + 1,
        }
    }

    /// How long the step has worked so far: since it began, without what it waited.
    pub(crate) fn worked(&self) -> Duration {
        let (began, waited) = self.step;
        began.elapsed().saturating_sub(waited)
    }

    /// Waits for what another stage brings about. The stage's VM ends before.
    pub(crate) async fn wait<F: Future>(
        &mut self,
        wait: Wait<'_>,
        what: F,
    ) -> Result<F::Output, Error> {
        let stage = self.name();
        self.tell(Event::Waiting { stage, wait });
        let began = Instant::now();
        let result = schedule::empty_handed(&mut self.vm, what).await?;
        let duration = began.elapsed();
        self.step.1 += duration;
        self.tell(Event::Waited {
            stage,
            wait,
            duration,
        });
        Ok(result)
    }

    /// Another stage, once it is finished.
    pub(crate) async fn finished(&mut self, index: usize) -> Result<Arc<Finished>, Error> {
        let schedule = &self.build.schedule;
        match schedule.finished(index) {
            Some(finished) => Ok(finished),
            None => {
                let other = Wait::Stage(self.build.name(index));
                self.wait(other, schedule.wait(index)).await
            }
        }
    }

    /// What is known for a key. If another stage is finding it out, this waits for it.
    pub(crate) async fn known(&mut self, key: Digest) -> Result<Known, Error> {
        let key = key::dated(&key, self.build.plan.epoch);
        let cell = self.build.results.cell(&key);
        let cell = match Arc::clone(&cell).try_lock_owned() {
            Ok(cell) => cell,
            Err(_) => self.wait(Wait::Step, cell.lock_owned()).await?,
        };
        let mut claim = Claim::new(key, cell);
        let anew = self.build.request.no_cache.covers(&self.stage().name);
        if let Some(found) = claim
            .found()
            .filter(|found| !anew || found.stage != self.index)
        {
            return Ok(Known::Yes(found.outcome));
        }
        if anew {
            return Ok(Known::No(claim));
        }
        if let Some(known) = claim.look_up(self.store(), self.index)? {
            return Ok(Known::Yes(known));
        }
        if self.import(key).await?
            && let Some(known) = claim.look_up(self.store(), self.index)?
        {
            return Ok(Known::Yes(known));
        }
        Ok(Known::No(claim))
    }

    /// Takes a result from one of the caches of other machines, if one has it. A registry that
    /// does not give what it has promised costs time, but not the build.
    async fn import(&self, key: Digest) -> Result<bool, Error> {
        for cache in &*self.build.request.cache_from {
            match (self.import_from(cache, key).await, cache.remote()) {
                (Ok(false), _) => {}
                (Ok(true), _) => return Ok(true),
                (Err(error), None) => return Err(error.into()),
                (Err(error), Some(name)) if cache.give_up() => {
                    let cause = std::error::Error::source(&error);
                    let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
                    let text = format!("the cache `{name}` is not asked any more: {error}{cause}");
                    self.build.progress.event(Event::Warning {
                        stage: Some(self.build.name(self.index)),
                        text: &text,
                    });
                }
                (Err(_), Some(_)) => {}
            }
        }
        Ok(false)
    }

    async fn import_from(
        &self,
        cache: &Exported,
        key: Digest,
    ) -> Result<bool, firebuild_oci::Error> {
        let lease = self.build.lease.clone();
        let Some(obtained) = cache.obtain(&lease, &key).await? else {
            return Ok(false);
        };
        let keep = move || obtained.keep(&lease);
        self.build.threads.run(keep).await?;
        Ok(true)
    }

    /// Keeps a step's result.
    pub(crate) async fn keep(
        &mut self,
        claim: Claim,
        layer: Layer,
        step: &Step,
    ) -> Result<Outcome, Error> {
        let epoch = self.build.plan.epoch;
        let made = Made {
            created: epoch.unwrap_or_else(time::now),
            duration: self.worked(),
            description: step.origin.text.clone(),
        };
        let (lease, stage) = (self.build.lease.clone(), self.index);
        let keep = move || {
            let layer = match epoch {
                Some(epoch) => epoch::dated(&lease, layer, epoch)?,
                None => layer,
            };
            claim.keep(lease.store(), stage, layer, made)
        };
        self.build.threads.run(keep).await
    }

    /// Does work on another thread, with the files of the layers so far at hand.
    pub(crate) async fn work<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Below) -> Result<T, StepError> + Send + 'static,
    ) -> Result<T, StepError> {
        let mut below = Below {
            lease: self.build.lease.clone(),
            layers: self.state.layers.clone(),
            merged: std::mem::take(&mut self.merged),
            stop: self.build.stop.clone(),
        };
        let work = move || (work(&mut below), below.merged);
        let (result, merged) = self.build.threads.run(work).await;
        self.merged = merged;
        result
    }

    /// The stage's VM; started on the layers so far if there is none.
    pub(crate) async fn running(&mut self) -> Result<&mut BuildVm<'a>, StepError> {
        let vm = match self.vm.take() {
            Some(vm) => vm,
            None => self.start().await?,
        };
        Ok(self.vm.insert(vm))
    }

    async fn start(&mut self) -> Result<BuildVm<'a>, StepError> {
        self.build.announce()?;
        let (store, layers) = (self.store().clone(), self.state.layers.clone());
        let root = move || {
            let laid = rootfs::ready(&store, &layers);
            Ok::<_, Error>((rootfs::of_layers(&store, &layers[..laid])?, laid))
        };
        let (root, laid) = self.build.threads.run(root).await?;
        let slot = self.slot().await?;
        let disks = std::mem::take(&mut self.next_disks);
        let ground = Ground {
            lease: &self.build.lease,
            options: &self.build.request.vm,
            progress: self.build.progress,
            keep: self.build.request.debugger.is_some(),
        };
        BuildVm::start(ground, self.name(), (root, laid), (slot, disks)).await
    }

    async fn slot(&mut self) -> Result<Slot, Error> {
        match self.build.schedule.try_slot() {
            Some(slot) => Ok(slot),
            None => self.wait(Wait::Slot, self.build.schedule.slot()).await,
        }
    }

    /// Ends the VM if no later step than `done`, from 0, can need it: another stage may.
    pub(crate) async fn end_unneeded(&mut self, done: usize) -> Result<(), Error> {
        let left = self.stage().steps.get(done + 1..).unwrap_or_default();
        let run = |step: &Step| matches!(step.operation, Operation::Run(_));
        if left.iter().any(run) {
            return Ok(());
        }
        match self.vm.take() {
            Some(vm) => vm.finish().await,
            None => Ok(()),
        }
    }

    /// The finished stage.
    pub(crate) fn finish(&mut self) -> Finished {
        Finished::new(self.state.clone(), std::mem::take(&mut self.merged))
    }
}

impl Below {
    /// The files of all the layers.
    pub(crate) fn files(&mut self) -> Result<&Files, Error> {
        self.merged.load(self.lease.store(), &self.layers)
    }

    /// Lays the layer on that the stage gets next, if that is possible.
    pub(crate) fn lay(&mut self, layer: Layer) -> Result<(), Error> {
        self.files()?;
        self.merged.lay(self.lease.store(), layer)
    }

    /// Makes a tree a layer of the store.
    pub(crate) fn write(&self, upper: Tree, sources: &Sources) -> Result<Layer, StepError> {
        self.write_changes(&Changes::whole(upper), sources)
    }

    /// Writes changes into the store.
    pub(crate) fn write_changes(
        &self,
        changes: &Changes<'_>,
        sources: &Sources,
    ) -> Result<Layer, StepError> {
        let writer = Stoppable {
            output: self.lease.blob_writer()?,
            stop: &self.stop,
        };
        let written = changes.write(sources, writer);
        let writer = written.map_err(|error| match error {
            firebuild_oci::Error::Change { path, .. } => StepError::Whiteout(path),
            other => other.into(),
        })?;
        let blob = writer.output.commit(None)?;
        Ok(Layer {
            digest: blob.digest,
            size: blob.size,
        })
    }
}

/// An output that takes nothing any more once the build is to end.
struct Stoppable<'a, W> {
    output: W,
    stop: &'a CancellationToken,
}

impl<W: std::io::Write> std::io::Write for Stoppable<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.stop.is_cancelled() {
            return Err(std::io::Error::other("the build has ended"));
        }
        self.output.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.output.flush()
    }
}
