//! Who may go on, and who has to wait: stages wait for stages, VMs for a slot.
//!
//! What must hold, so that no two stages ever wait for each other: **whoever waits for something
//! that another stage brings about holds nothing that a stage may need to get on.** A VM has one of
//! the slots, and may have more, such as locks. So a stage's VM ends before the stage waits for
//! another stage, however many slots there are, and the next command gets a new VM on the layers
//! made so far. With this every holder of a slot is at work, a plan has no cycles, and the first
//! unfinished stage of the plan waits for nothing but a slot that somebody will give back.
//!
//! Keeping the VM while there is a free slot would save a boot now and then. But whether there is
//! one changes all the time: a rule by which VMs were taken away from waiting stages would be
//! needed, with the same cost for the stage that it hits.

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// The stages that are finished, and the slots for VMs.
#[derive(Debug)]
pub(crate) struct Schedule<T> {
    stages: Vec<watch::Sender<Option<Arc<T>>>>,
    slots: Arc<Semaphore>,
}

/// The right to run a VM, given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    #[expect(dead_code, reason = "held as long as the VM lives")]
    permit: Option<OwnedSemaphorePermit>,
}

impl Slot {
    /// The right to run a VM that is no stage's.
    pub(crate) fn beside() -> Self {
        Self { permit: None }
    }
}

/// What a stage holds and others may need: its VM, with slot and locks.
pub(crate) trait Held {
    /// Why it could not be given back.
    type Error;

    /// Gives back everything.
    async fn give_back(self) -> Result<(), Self::Error>;
}

impl<T> Schedule<T> {
    /// Nothing is finished, and `slots` VMs may run at once.
    pub(crate) fn new(stages: usize, slots: NonZeroUsize) -> Self {
        Self {
            stages: (0..stages).map(|_| watch::Sender::new(None)).collect(),
            slots: Arc::new(Semaphore::new(slots.get().min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Notes that a stage is finished.
    pub(crate) fn finish(&self, stage: usize, result: Arc<T>) {
        self.stages[stage].send_replace(Some(result));
    }

    /// A stage, if it is finished.
    pub(crate) fn finished(&self, stage: usize) -> Option<Arc<T>> {
        self.stages[stage].borrow().clone()
    }

    /// Waits until a stage is finished: something to do [`empty_handed`].
    pub(crate) async fn wait(&self, stage: usize) -> Arc<T> {
        let mut changes = self.stages[stage].subscribe();
        if let Ok(finished) = changes.wait_for(Option::is_some).await
            && let Some(result) = &*finished
        {
            return Arc::clone(result);
        }
        // The sender lives as long as `self`.
        std::future::pending().await
    }

    /// A slot, if there is one.
    pub(crate) fn try_slot(&self) -> Option<Slot> {
        let permit = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        Some(Slot {
            permit: Some(permit),
        })
    }

    /// Waits for a slot. Who came first gets it first.
    pub(crate) async fn slot(&self) -> Slot {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.slots).acquire_owned().await.ok();
        Slot { permit }
    }
}

/// Waits for what another stage brings about. Before that, `held` is given back.
pub(crate) async fn empty_handed<H: Held, F: Future>(
    held: &mut Option<H>,
    what: F,
) -> Result<F::Output, H::Error> {
    if let Some(held) = held.take() {
        held.give_back().await?;
    }
    Ok(what.await)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures::future::join_all;
    use proptest::prelude::*;

    use super::*;

    /// What a simulated stage does.
    #[derive(Debug, Clone, Copy)]
    enum Act {
        /// Works in its VM.
        Run,
        /// Needs the files of an earlier stage.
        Need(usize),
    }

    /// A VM without a machine.
    struct Vm<'a> {
        running: &'a AtomicUsize,
        _slot: Slot,
    }

    impl Held for Vm<'_> {
        type Error = Infallible;

        async fn give_back(self) -> Result<(), Infallible> {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(())
        }
    }

    impl Drop for Vm<'_> {
        fn drop(&mut self) {
            self.running.fetch_sub(1, Ordering::Relaxed);
        }
    }

    async fn stage(
        schedule: &Schedule<usize>,
        (running, most): (&AtomicUsize, &AtomicUsize),
        index: usize,
        acts: &[Act],
    ) {
        let mut vm = None;
        for act in acts {
            match *act {
                Act::Run => {
                    if vm.is_none() {
                        let slot = schedule.slot().await;
                        let now = running.fetch_add(1, Ordering::Relaxed) + 1;
                        most.fetch_max(now, Ordering::Relaxed);
                        vm = Some(Vm {
                            running,
                            _slot: slot,
                        });
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Act::Need(other) => {
                    let found = match schedule.finished(other) {
                        Some(found) => found,
                        None => empty_handed(&mut vm, schedule.wait(other)).await.unwrap(),
                    };
                    assert_eq!(*found, other);
                }
            }
        }
        schedule.finish(index, Arc::new(index));
    }

    /// How many VMs ran at once at most, if everything came to an end.
    fn simulate(stages: &[Vec<Act>], slots: usize) -> Option<usize> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let schedule = Schedule::new(stages.len(), NonZeroUsize::new(slots).unwrap());
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let counts = (&running, &most);
        runtime.block_on(async {
            let tasks = stages
                .iter()
                .enumerate()
                .map(|(index, acts)| stage(&schedule, counts, index, acts));
            // Paused time runs as soon as nothing else happens: whoever waits for ever is found.
            tokio::time::timeout(Duration::from_secs(100_000), join_all(tasks))
                .await
                .ok()
        })?;
        assert_eq!(running.load(Ordering::Relaxed), 0);
        Some(most.load(Ordering::Relaxed))
    }

    #[test]
    fn a_stage_with_a_vm_can_wait_for_one_that_needs_a_vm() {
        use Act::{Need, Run};
        // The second gets the only slot first, because the first has something to wait for.
        let stages = [
            vec![Run],
            vec![Need(0), Run],
            vec![Run, Need(1), Run],
            vec![Run, Run, Need(2), Need(0), Run],
        ];
        assert_eq!(simulate(&stages, 1), Some(1));
        assert_eq!(simulate(&stages, 2), Some(2));
        assert_eq!(simulate(&stages, 9), Some(3));
    }

    fn plans() -> impl Strategy<Value = Vec<Vec<Act>>> {
        let step = (any::<bool>(), any::<prop::sample::Index>());
        let plan = prop::collection::vec(prop::collection::vec(step, 0..6), 1..7);
        plan.prop_map(|stages| {
            let stages = stages.into_iter().enumerate();
            let act = |index, (run, other): (bool, prop::sample::Index)| match index {
                0 => Act::Run,
                _ if run => Act::Run,
                _ => Act::Need(other.index(index)),
            };
            stages
                .map(|(index, steps)| steps.into_iter().map(|step| act(index, step)).collect())
                .collect()
        })
    }

    proptest! {
        #[test]
        fn every_plan_comes_to_its_end(stages in plans(), slots in 1..4_usize) {
            let most = simulate(&stages, slots);
            prop_assert!(most.is_some_and(|most| most <= slots), "{most:?}");
        }
    }
}
