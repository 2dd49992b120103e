//! Walks a plan: each stage in turn, each operation from the cache or for real.
//!
//! A stage's first RUN that the cache does not know starts the stage's VM; later ones go on in it,
//! with what came between laid on. The VM ends with its stage, however that ends.

use std::collections::BTreeMap;
use std::time::Instant;

use firebuild_core::{ImageConfig, Reference};
use firebuild_plan::{Base, Plan, Stage};
use firebuild_store::{Lease, Store};

use crate::build::Request;
use crate::cache::Cache;
use crate::error::Error;
use crate::image;
use crate::progress::{Event, Place, Progress};
use crate::sources::Files;
use crate::stage::StageState;
use crate::vm::BuildVm;

/// A plan on its way.
pub(crate) struct Execution<'a> {
    pub(crate) cache: Cache<'a>,
    pub(crate) lease: Lease,
    plan: &'a Plan,
    pub(crate) request: &'a Request<'a>,
    pub(crate) progress: &'a mut dyn Progress,
    /// The build context, once something was copied from it.
    pub(crate) context: Option<Files>,
    /// The stages that are done.
    pub(crate) stages: Vec<StageState>,
    /// Images that are only copied from.
    pub(crate) images: BTreeMap<Reference, StageState>,
    /// Whether it was said what VMs run in.
    pub(crate) announced: bool,
}

/// A stage in the making and its VM, if one was needed.
pub(crate) struct Current<'a> {
    stage: &'a Stage,
    pub(crate) state: StageState,
    pub(crate) vm: Option<BuildVm>,
}

impl<'a> Execution<'a> {
    pub(crate) fn new(
        lease: Lease,
        store: &'a Store,
        plan: &'a Plan,
        request: &'a Request<'a>,
        progress: &'a mut dyn Progress,
    ) -> Self {
        let ignored = request.no_cache;
        Self {
            cache: Cache { store, ignored },
            lease,
            plan,
            request,
            progress,
            context: None,
            stages: Vec::new(),
            images: BTreeMap::new(),
            announced: false,
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
            self.progress.event(if outcome.cached {
                Event::Cached { place }
            } else {
                Event::Done {
                    place,
                    duration: started.elapsed(),
                    size: outcome.layer.map(|layer| layer.size),
                }
            });
            current
                .state
                .push(outcome.layer, outcome.created, step.history.as_deref());
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
            Base::Image(reference) => image::state(self.cache.store, reference),
            Base::Context(_) => Err(Error::Unsupported("a named context as a base")),
        }
    }
}
