//! What happened to VMs: events, in the store's log, which whoever did something writes to.
//!
//! An event that cannot be written is left out: nothing fails because of it.

use std::collections::BTreeMap;

use firebuild_core::{MachineId, MachineName};
use firebuild_store::Store;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::record::{Exit, Record, State};
use crate::spec::Purpose;
use crate::watch::Watch;

/// How many letters of a name or an attribute an event tells.
const LONGEST: usize = 256;

/// Something that happened to a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// What.
    pub action: String,
    /// To which VM.
    pub id: MachineId,
    /// What it was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<MachineName>,
    /// Which image it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// More about it, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// What happens to VMs, in the words of containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Its record was made.
    Create,
    /// Its workload has started.
    Start,
    /// Its workload was sent a signal.
    Kill,
    /// It was asked to end.
    Stop,
    /// It stands still.
    Pause,
    /// It goes on.
    Unpause,
    /// It has ended: `exitCode`, or `reason`.
    Die,
    /// It has ended and will be started again.
    Restart,
    /// It got another name: `oldName`.
    Rename,
    /// It got other limits or another policy.
    Update,
    /// Something is to be executed in it: `execID`, `command`.
    ExecCreate,
    /// That has begun: `execID`.
    ExecStart,
    /// That has ended: `execID`, `exitCode`.
    ExecDie,
    /// Its workload is healthy or not any more: `health`.
    HealthStatus,
    /// The kernel of the host killed its VMM, or something of it, for want of memory.
    Oom,
    /// Its record is gone.
    Destroy,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Create,
        Self::Start,
        Self::Kill,
        Self::Stop,
        Self::Pause,
        Self::Unpause,
        Self::Die,
        Self::Restart,
        Self::Rename,
        Self::Update,
        Self::ExecCreate,
        Self::ExecStart,
        Self::ExecDie,
        Self::HealthStatus,
        Self::Oom,
        Self::Destroy,
    ];

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Pause => "pause",
            Self::Unpause => "unpause",
            Self::Die => "die",
            Self::Restart => "restart",
            Self::Rename => "rename",
            Self::Update => "update",
            Self::ExecCreate => "exec_create",
            Self::ExecStart => "exec_start",
            Self::ExecDie => "exec_die",
            Self::HealthStatus => "health_status",
            Self::Oom => "oom",
            Self::Destroy => "destroy",
        }
    }
}

/// Writes that something happened to a VM that runs something. Those of builds are their builds' own
/// affair.
pub(crate) fn note(store: &Store, record: &Record, action: Action) {
    note_with(store, record, action, &[]);
}

/// The same, with more about it.
pub(crate) fn note_with(store: &Store, record: &Record, action: Action, more: &[(&str, &str)]) {
    write(store, record, action.word(), more);
}

/// Writes that something else happened to a VM, such as that it became healthy.
pub fn write(store: &Store, record: &Record, action: &str, more: &[(&str, &str)]) {
    if matches!(record.spec.purpose, Purpose::Build) {
        return;
    }
    let short = |text: &str| text.chars().take(LONGEST).collect::<String>();
    let image = record.spec.image.as_ref();
    let event = Event {
        time: Timestamp::now(),
        action: short(action),
        id: record.id.clone(),
        name: record.spec.name.clone(),
        image: image.map(|image| short(&image.reference)),
        attributes: more
            .iter()
            .map(|(name, value)| (short(name), short(value)))
            .collect(),
    };
    if let Ok(line) = serde_json::to_string(&event) {
        let _ = store.events().append(&line);
    }
}

/// Writes how a VM ended.
pub(crate) fn note_end(store: &Store, record: &Record, end: &State) {
    match end {
        State::Stopped { exit } => {
            let code = exit.code().to_string();
            let mut more = vec![("exitCode", code.as_str())];
            let number;
            if let Exit::Signal(signal) = exit {
                number = signal.to_string();
                more.push(("signal", &number));
            }
            note_with(store, record, Action::Die, &more);
        }
        State::Failed { reason } => {
            let text = reason.to_string();
            let line = text.lines().next().unwrap_or_default();
            note_with(store, record, Action::Die, &[("reason", line)]);
        }
        _ => {}
    }
}

/// The events of a store, from the oldest that is kept.
#[derive(Debug)]
pub struct Events {
    reader: firebuild_store::EventReader,
    watch: Option<Watch>,
}

impl Events {
    /// The events of a store. With `follow` there may be more later.
    ///
    /// # Errors
    /// [`Error::Io`] if the log cannot be watched.
    pub fn of(store: &Store, follow: bool) -> Result<Self, Error> {
        let events = store.events();
        let watch = follow.then(|| Watch::of(&events.directory())).transpose();
        let watch = watch.map_err(|source| Error::io("watch the log of events", source))?;
        let reader = events.read();
        Ok(Self { reader, watch })
    }

    /// Those that have come since the last call. Lines that are none are left out.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn next_ones(&mut self) -> Result<Vec<Event>, Error> {
        let lines = self.reader.lines()?;
        let event = |line: String| serde_json::from_str(&line).ok();
        Ok(lines.into_iter().filter_map(event).collect())
    }

    /// Waits until there may be more, at most until `limit`. Returns false if that has come, or if
    /// nobody follows.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn wait(&mut self, limit: Option<Timestamp>) -> Result<bool, Error> {
        let Some(watch) = &mut self.watch else {
            return Ok(false);
        };
        watch
            .wait(limit, None)
            .map_err(|source| Error::io("watch the log of events", source))
    }
}
