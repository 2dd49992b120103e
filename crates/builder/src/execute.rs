//! Executes a plan: all its stages at once, each operation from the cache or for real.
//!
//! A stage waits for others where it needs them, and not before. Its first RUN that the cache does
//! not know starts its VM; later ones go on in it, with what came between laid on. The VM ends with
//! the stage's last RUN, or [earlier](crate::schedule) when the stage has to wait.
//!
//! The first stage that fails ends the others. Their VMs are ended, and what they finished stays in
//! the cache.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use firebuild_core::{Digest, ImageConfig, Reference};
use firebuild_plan::key::Chain;
use firebuild_plan::{Base, Copy, Item, Operation, Plan, Source, Step, Unpack};
use firebuild_store::Lease;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::bootstrap;
use crate::build::Request;
use crate::cache::{Outcome, Results};
use crate::current::Current;
use crate::error::{Error, StepError};
use crate::fetch::Destination;
use crate::image;
use crate::progress::{Event, Place, Progress, StageRef};
use crate::room;
use crate::schedule::Schedule;
use crate::sources::Files;
use crate::stage::{Finished, Layer, Merged, StageState};
use crate::threads::Threads;
use crate::vm::BuildVm;

/// What a build gives: the target, what the cache saved, and the keys of its steps with their layers.
pub(crate) type Run = (StageState, Duration, Vec<(Digest, Option<Layer>)>);

/// A plan on its way: what its stages share.
pub(crate) struct Execution<'a> {
    pub(crate) lease: Lease,
    pub(crate) plan: &'a Plan,
    pub(crate) request: &'a Request<'a>,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) threads: Threads,
    pub(crate) schedule: Schedule<Finished>,
    pub(crate) results: Results,
    /// Cancelled when the build is to end before it is done.
    pub(crate) stop: CancellationToken,
    /// What ended it: the first error.
    failure: Mutex<Option<Error>>,
    /// Images that are only copied from.
    images: Mutex<BTreeMap<Reference, Arc<OnceCell<Arc<Finished>>>>>,
    /// Whether it was said what VMs run in.
    announced: AtomicBool,
    /// What the cache saved so far.
    saved: Mutex<Duration>,
    jobs: usize,
}

impl<'a> Execution<'a> {
    pub(crate) fn new(
        lease: Lease,
        plan: &'a Plan,
        request: &'a Request<'a>,
        progress: &'a dyn Progress,
    ) -> Self {
        let (cpus, memory) = (request.vm.cpus, request.vm.memory);
        let jobs = request.jobs;
        let jobs = jobs.unwrap_or_else(|| room::default_jobs(cpus, memory));
        Self {
            lease,
            plan,
            request,
            progress,
            threads: request.contexts.fetcher().threads().clone(),
            schedule: Schedule::new(plan.stages.len(), jobs),
            results: Results::default(),
            stop: CancellationToken::new(),
            failure: Mutex::default(),
            images: Mutex::default(),
            announced: AtomicBool::new(false),
            saved: Mutex::default(),
            jobs: jobs.get(),
        }
    }

    /// Where what steps and contexts fetch goes.
    pub(crate) fn destination(&self) -> Destination<'_> {
        Destination {
            lease: &self.lease,
            progress: self.progress,
        }
    }

    /// Builds every stage; the result is the target's, and what the cache saved.
    pub(crate) async fn run(self) -> Result<Run, Error> {
        let stages = &self.plan.stages;
        self.progress.event(Event::Build {
            stages: stages.len(),
            steps: stages.iter().map(|stage| stage.steps.len() + 1).sum(),
            jobs: self.jobs,
        });
        // If this future is dropped, work on other threads is to end as well.
        let stop = self.stop.clone().drop_guard();
        let all: FuturesUnordered<_> = (0..stages.len()).map(|index| self.stage(index)).collect();
        let left: Vec<Option<BuildVm<'_>>> = all.collect().await;
        self.threads.idle().await;
        for vm in left.into_iter().flatten() {
            self.debug(vm).await;
        }
        drop(stop);
        let failure = self.failure.into_inner();
        if let Some(error) = failure.unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let saved = self.saved.into_inner();
        let saved = saved.unwrap_or_else(PoisonError::into_inner);
        match self.schedule.finished(self.plan.target) {
            Some(target) => Ok((target.state.clone(), saved, self.results.used())),
            // Without a failure every stage is finished.
            None => Err(Error::Unsupported("a plan without its target")),
        }
    }

    /// How events call a stage.
    pub(crate) fn name(&self, index: usize) -> StageRef<'a> {
        StageRef {
            index,
            name: &self.plan.stages[index].name,
        }
    }

    /// Says once in a build what its VMs run in, and why.
    pub(crate) fn announce(&self) -> Result<(), StepError> {
        if !self.announced.swap(true, Ordering::Relaxed) {
            let options = &self.request.vm;
            let vmm = options.host.vmm_of(options.vmm, &options.firecracker)?;
            let facts = vmm.facts();
            self.progress.event(Event::Note {
                stage: None,
                text: &format!("build VMs run in {}: {}", facts.name, facts.reason),
            });
        }
        Ok(())
    }

    /// Lets a person look into the step that failed in this VM, which ends then.
    async fn debug(&self, mut vm: BuildVm<'_>) {
        if let Some(debugger) = self.request.debugger {
            let stage = self.name(vm.stage().index);
            self.progress.event(Event::Debugging { stage });
            let open = |program: &str| {
                let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                match &*failure {
                    Some(failure) => debugger.open(failure, program),
                    // A VM is left only where a step failed.
                    None => Err(std::io::ErrorKind::NotFound.into()),
                }
            };
            if let Err(error) = vm.debug(debugger.program(), open).await {
                let hint = error.hint().map(|hint| format!("; {hint}"));
                let text = bootstrap::chain(&error) + &hint.unwrap_or_default();
                let (stage, text) = (Some(stage), text.as_str());
                self.progress.event(Event::Warning { stage, text });
            }
        }
        vm.abandon().await;
    }

    /// Builds one stage, as far as no other fails. The VM is left in which the build failed, if it
    /// is to be looked into.
    async fn stage(&self, index: usize) -> Option<BuildVm<'_>> {
        let (began, stage) = (Instant::now(), self.name(index));
        self.progress.event(Event::StageStarted { stage });
        let state = StageState::new(
            Vec::new(),
            ImageConfig::scratch(self.plan.platform.clone()),
            0,
        );
        let mut current = Current::new(self, index, state);
        let result = tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            result = steps(&mut current) => Some(result),
        };
        let duration = began.elapsed();
        let mut failed = false;
        match result {
            Some(Ok(())) => self.progress.event(Event::StageDone { stage, duration }),
            Some(Err(error)) => failed = self.fail(error),
            None => {}
        }
        let vm = current.vm.take()?;
        if failed && vm.has_kept() {
            return Some(vm);
        }
        vm.abandon().await;
        None
    }

    /// Ends the build. The first error is the one that counts: true if it is this one.
    fn fail(&self, error: Error) -> bool {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let first = failure.is_none();
        failure.get_or_insert(error);
        self.stop.cancel();
        first
    }

    fn save(&self, time: Duration) {
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) += time;
    }

    /// An image of the store.
    async fn image(&self, reference: &Reference) -> Result<Arc<Finished>, Error> {
        let cell = {
            let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(images.entry(reference.clone()).or_default())
        };
        let load = async || {
            let state = image::state(self.lease.store(), reference)?;
            Ok::<_, Error>(Arc::new(Finished::new(state, Merged::default())))
        };
        cell.get_or_try_init(load).await.cloned()
    }
}

impl Current<'_> {
    /// What a step reads from, once it is there. `wanted` are the paths that it reads: a context
    /// that is no tree has only these.
    pub(crate) async fn source(
        &mut self,
        from: &Source,
        wanted: &[&str],
    ) -> Result<Arc<Files>, Error> {
        match from {
            Source::Context | Source::Named(_) => {
                let contexts = self.build.request.contexts;
                contexts.files(self.build.destination(), from, wanted).await
            }
            Source::Stage(_) | Source::Image(_) => match self.layered(from).await? {
                Some(layered) => layered.files(&self.build.threads, self.store()).await,
                None => Ok(Arc::default()),
            },
            Source::Empty => Ok(Arc::default()),
        }
    }

    /// The layers that a step reads from, if it reads from any, once they are there.
    pub(crate) async fn layers(&mut self, from: &Source) -> Result<Option<Chain>, Error> {
        let layered = self.layered(from).await?;
        Ok(layered.map(|layered| layered.state.chain))
    }

    async fn layered(&mut self, from: &Source) -> Result<Option<Arc<Finished>>, Error> {
        Ok(match from {
            Source::Stage(index) => Some(self.finished(*index).await?),
            Source::Image(reference) => Some(self.build.image(reference).await?),
            Source::Context | Source::Named(_) | Source::Empty => None,
        })
    }

    async fn base(&mut self) -> Result<(), Error> {
        match &self.stage().base {
            // That is what the stage has.
            Base::Scratch => {}
            Base::Stage(index) => {
                let parent = self.finished(*index).await?;
                self.state = StageState::from_stage(&parent.state);
            }
            Base::Image(reference) => self.state = image::state(self.store(), reference)?,
            Base::Context(name) => return self.files_of_context(name).await,
        }
        if let Some(epoch) = self.build.plan.epoch {
            (self.state.created, self.state.epoch) = (epoch, Some(epoch));
        }
        Ok(())
    }

    /// Begins with the files of a named context, as one layer.
    async fn files_of_context(&mut self, name: &str) -> Result<(), Error> {
        let stage = self.stage();
        let copy = Copy {
            from: Source::Named(name.to_owned()),
            items: vec![Item::Path("/".to_owned())],
            destination: "/".to_owned(),
            owner: None,
            mode: None,
            exclude: Vec::new(),
            parents: false,
            link: false,
            unpack: Unpack::Never,
        };
        let step = Step {
            operation: Operation::Copy(copy.clone()),
            origin: stage.origin.clone(),
            history: None,
        };
        let outcome = self
            .copy(&copy, &step)
            .await
            .map_err(|source| Error::Step {
                stage: stage.name.clone(),
                origin: Box::new(stage.origin.clone()),
                source: Box::new(source),
            })?;
        let history = outcome.layer.map(|_| stage.origin.text.as_str());
        self.state.push(outcome.layer, outcome.created, history);
        Ok(())
    }

    /// Says how a step ended.
    fn ended(&self, place: Place<'_>, outcome: &Outcome) {
        let size = outcome.layer.map(|layer| layer.size);
        self.tell(match outcome.cached {
            Some(saved) => {
                self.build.save(saved);
                Event::Cached { place, saved, size }
            }
            None => Event::Done {
                place,
                duration: self.worked(),
                size,
            },
        });
    }
}

/// Does everything that makes a stage, and lets the others have it.
async fn steps(current: &mut Current<'_>) -> Result<(), Error> {
    let stage = current.stage();
    let place = current.begin(1);
    current.tell(Event::Step {
        place,
        line: stage.origin.line,
        text: &stage.origin.text,
    });
    current.base().await?;
    current.ended(place, &Outcome::NOTHING);
    for (index, step) in stage.steps.iter().enumerate() {
        let place = current.begin(index + 2);
        current.tell(Event::Step {
            place,
            line: step.origin.line,
            text: &step.origin.text,
        });
        let outcome = match current.step(step, place).await {
            Ok(outcome) => outcome,
            Err(source) => {
                let duration = current.worked();
                current.tell(Event::Failed { place, duration });
                return Err(Error::Step {
                    stage: stage.name.clone(),
                    origin: Box::new(step.origin.clone()),
                    source: Box::new(source),
                });
            }
        };
        current.ended(place, &outcome);
        let history = step.history.as_deref();
        current.state.push(outcome.layer, outcome.created, history);
        current.end_unneeded(index).await?;
    }
    let finished = Arc::new(current.finish());
    current.build.schedule.finish(current.index, finished);
    Ok(())
}
