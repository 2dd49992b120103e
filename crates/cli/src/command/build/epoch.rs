//! `SOURCE_DATE_EPOCH` as the name of something that has a time of its own.

use firebuild_builder::StoreBases;
use firebuild_builder::contexts::Contexts;
use firebuild_builder::fetch::Destination;
use firebuild_builder::progress::Progress;
use firebuild_dockerfile::Dockerfile;
use firebuild_plan::lower::{self, lower, wanted_time};
use firebuild_plan::{Base, Item, Operation, Plan};
use firebuild_store::Store;

use super::OrNothing;
use crate::command::block_on;

/// Finds the time out that the options ask for by a name, and puts it into them. A name that means
/// nothing is left for lowering to refuse.
pub(super) fn find(
    store: &Store,
    dockerfile: &Dockerfile,
    contexts: &Contexts,
    progress: &dyn Progress,
    options: &mut lower::Options,
) -> anyhow::Result<()> {
    let Some(name) = wanted_time(dockerfile, options) else {
        return Ok(());
    };
    if options.times.contains_key(&name) {
        return Ok(());
    }
    let lease = store.lease()?;
    let to = Destination {
        lease: &lease,
        progress,
    };
    if let Some(time) = block_on(contexts.time_of(&name, to))?? {
        options.times.insert(name, time);
        return Ok(());
    }
    if let Some(item) = added(store, dockerfile, options, &name) {
        let time = block_on(contexts.time_of_item(&item, to))??;
        options.times.insert(name, time);
    }
    Ok(())
}

/// What a stage adds from elsewhere, if it does nothing else and begins with nothing.
fn added(
    store: &Store,
    dockerfile: &Dockerfile,
    options: &lower::Options,
    stage: &str,
) -> Option<Item> {
    let mut alone = options.clone();
    alone.target = Some(stage.to_owned());
    // Its own time has no part in what it does.
    alone.times.insert(stage.to_owned(), None);
    let plan: Plan = lower(dockerfile, &alone, &OrNothing(StoreBases(store))).ok()?;
    let stage = plan.stages.get(plan.target)?;
    let ([step], Base::Scratch) = (stage.steps.as_slice(), &stage.base) else {
        return None;
    };
    match &step.operation {
        Operation::Copy(copy) => match copy.items.as_slice() {
            [item @ (Item::Http { .. } | Item::Git { .. })] => Some(item.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// Lets a time that is asked for by a name be any, where nothing is made.
pub(super) fn overlook(dockerfile: &Dockerfile, options: &mut lower::Options) {
    if let Some(name) = wanted_time(dockerfile, options) {
        options.times.entry(name).or_insert(None);
    }
}
