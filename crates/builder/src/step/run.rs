//! Executes a process in the stage's VM, which is started for the first one that the cache does
//! not know.

use firebuild_plan::{Network, Run, Security, Step, key};

use crate::bootstrap;
use crate::cache::Outcome;
use crate::error::StepError;
use crate::execute::{Current, Execution};
use crate::progress::{Event, Place};
use crate::vm::BuildVm;

impl<'a> Execution<'a> {
    pub(super) async fn process(
        &mut self,
        current: &mut Current<'a>,
        run: &Run,
        step: &Step,
        place: Place<'_>,
    ) -> Result<Outcome, StepError> {
        if !run.mounts.is_empty() {
            return Err(StepError::Unsupported("a mount of a RUN"));
        }
        if run.network == Network::None || run.security == Security::Insecure {
            return Err(StepError::Unsupported(
                "another network or security of a RUN",
            ));
        }
        let key = key::run(&current.state.chain, run, &[]);
        if let Some(outcome) = self.cache.get(&key)? {
            return Ok(outcome);
        }
        let store = self.cache.store;
        let vm = match &mut current.vm {
            Some(vm) => vm,
            none => {
                self.announce()?;
                let options = &self.request.vm;
                let vm =
                    BuildVm::start(&self.lease, options, &current.state, self.progress).await?;
                none.insert(vm)
            }
        };
        vm.lay_on(store, &current.state.layers, &step.origin)
            .await?;
        let layer = vm.run(run, &step.origin, place, self.progress).await?;
        // A layer that is valid by itself can still be one that nothing can lay on what is below.
        // It must not get into the cache.
        current.state.files(store)?;
        current.state.lay(store, layer).map_err(|error| {
            let why = bootstrap::chain(&error);
            StepError::Violation(format!("it sent a layer that fits nothing: {why}"))
        })?;
        Ok(self.cache.put(&key, layer, step)?)
    }

    /// Says once in a build what its VMs run in, and why.
    fn announce(&mut self) -> Result<(), StepError> {
        if !std::mem::replace(&mut self.announced, true) {
            let vmm = self.request.vm.host.vmm()?;
            let facts = vmm.facts();
            self.progress.event(Event::Note {
                text: &format!("build VMs run in {}: {}", facts.name, facts.reason),
            });
        }
        Ok(())
    }
}
