//! What of a VM can change after it was made, whether it runs or not.

use std::time::Duration;

use firebuild_core::MachineName;
use firebuild_store::Store;
use serde::{Deserialize, Serialize};

use crate::events::{self, Action};
use crate::limits::Limits;
use crate::record::Record;
use crate::restart::RestartPolicy;

/// What is to change; what is none stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Change {
    /// What a person calls it.
    pub name: Option<MachineName>,
    /// Whether it is started again when it has ended.
    pub restart: Option<RestartPolicy>,
    /// How long its workload may take to end when it was asked to.
    pub stop_time: Option<Duration>,
    /// What it may take of its host, as far as it is said.
    pub limits: Limits,
}

impl Change {
    /// Changes a record, which its owner writes afterwards.
    pub(crate) fn apply(&self, store: &Store, record: &mut Record) {
        if let Some(name) = &self.name {
            let old = record.spec.name.replace(name.clone());
            let old = old.as_ref().map_or("", MachineName::as_str);
            events::note_with(store, record, Action::Rename, &[("oldName", old)]);
        }
        let Self {
            name: _,
            restart,
            stop_time,
            limits,
        } = self;
        if restart.is_none() && stop_time.is_none() && *limits == Limits::default() {
            return;
        }
        record.spec.restart = restart.unwrap_or(record.spec.restart);
        record.spec.limits.change(limits);
        record.spec.stop_time = stop_time.or(record.spec.stop_time);
        events::note(store, record, Action::Update);
    }
}
