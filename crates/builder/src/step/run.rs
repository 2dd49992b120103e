//! Executes a process in the stage's VM, which is started for the first one that the cache does
//! not know.

use firebuild_plan::{Run, Step, key};

use crate::bootstrap;
use crate::cache::{Known, Outcome};
use crate::current::{Below, Current};
use crate::error::StepError;
use crate::progress::Place;

impl Current<'_> {
    pub(super) async fn process(
        &mut self,
        run: &Run,
        step: &Step,
        place: Place<'_>,
    ) -> Result<Outcome, StepError> {
        let bound = self.bound(run).await?;
        let content = self.mounted_content(run, &bound).await?;
        let key = key::run(&self.state.chain, run, &content);
        let claim = match self.known(key).await? {
            Known::Yes(outcome) => return Ok(outcome),
            Known::No(claim) => claim,
        };
        // No VM is needed to see that something is missing.
        self.check_given(run)?;
        let (store, layers) = (self.store(), self.state.layers.clone());
        self.disks(run).await?;
        self.running().await?;
        let mounted = self.mount(run, &bound).await?;
        let vm = self.running().await?;
        vm.lay_on(store, &layers, &step.origin).await?;
        let layer = vm.run(run, mounted, &step.origin, place).await?;
        // A layer that is valid by itself can still be one that nothing can lay on what is below.
        // It must not get into the cache.
        let fits = move |below: &mut Below| Ok(below.lay(layer)?);
        self.work(fits).await.map_err(|error| {
            let why = bootstrap::chain(&error);
            StepError::Violation(format!("it sent a layer that fits nothing: {why}"))
        })?;
        Ok(self.keep(claim, layer, step).await?)
    }
}
