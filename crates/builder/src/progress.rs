//! What a build says while it works. How that looks is the caller's business.
//!
//! Stages are built at the same time, so events of several stages come mixed; each says which
//! stage it belongs to.

use std::time::Duration;

pub use crate::bootstrap::Output;

/// Takes what a build says. Several stages speak at once.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// A stage of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageRef<'a> {
    /// Its position in the plan.
    pub index: usize,
    /// Its name.
    pub name: &'a str,
}

/// Where a step stands in the build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// Its stage.
    pub stage: StageRef<'a>,
    /// The step's number in its stage, from 1; the base is step 1.
    pub step: usize,
    /// How many steps the stage has.
    pub steps: usize,
}

/// What a stage waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait<'a> {
    /// Another stage, whose files it needs.
    Stage(StageRef<'a>),
    /// Another stage that executes the same step on the same files at the moment.
    Step,
    /// The end of another VM: no more may run at once.
    Slot,
    /// The disk of this cache, which another VM has, of this build or another.
    Cache(&'a str),
}

/// Something that happened.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// The build begins.
    Build {
        /// How many stages it has.
        stages: usize,
        /// How many steps they have together, bases included.
        steps: usize,
        /// How many VMs may run at once.
        jobs: usize,
    },
    /// A stage begins.
    StageStarted {
        /// Which.
        stage: StageRef<'a>,
    },
    /// A stage is done.
    StageDone {
        /// Which.
        stage: StageRef<'a>,
        /// Since it began.
        duration: Duration,
    },
    /// A stage can not go on for now.
    Waiting {
        /// Which.
        stage: StageRef<'a>,
        /// For what.
        wait: Wait<'a>,
    },
    /// It goes on.
    Waited {
        /// Which.
        stage: StageRef<'a>,
        /// For what it waited.
        wait: Wait<'a>,
        /// How long.
        duration: Duration,
    },
    /// A stage's VM starts.
    VmStarting {
        /// Whose.
        stage: StageRef<'a>,
        /// The VM's id.
        id: &'a str,
    },
    /// A stage's VM has booted, and its agent has called.
    VmReady {
        /// Whose.
        stage: StageRef<'a>,
        /// The VM's id.
        id: &'a str,
        /// How long that took.
        duration: Duration,
    },
    /// A stage's VM has ended.
    VmEnded {
        /// Whose.
        stage: StageRef<'a>,
        /// The VM's id.
        id: &'a str,
        /// Since it started.
        duration: Duration,
    },
    /// A step begins.
    Step {
        /// Which.
        place: Place<'a>,
        /// The line that it is written on, from 1.
        line: u32,
        /// Its text.
        text: &'a str,
    },
    /// A step's result was known.
    Cached {
        /// Which.
        place: Place<'a>,
        /// How long it took when it was executed, as far as that was noted.
        saved: Duration,
        /// The size of what it adds, in bytes; none if it adds no layer.
        size: Option<u64>,
    },
    /// A step is done.
    Done {
        /// Which.
        place: Place<'a>,
        /// How long it took, without what it [waited](Wait).
        duration: Duration,
        /// The size of what it added, in bytes; none if it added no layer.
        size: Option<u64>,
    },
    /// A step failed, and with it the build: the build's error says why.
    Failed {
        /// Which.
        place: Place<'a>,
        /// How long it took, without what it [waited](Wait).
        duration: Duration,
    },
    /// A person looks into a failed step now: all else has ended, and what is shown of the build
    /// makes room.
    Debugging {
        /// Whose VM it is.
        stage: StageRef<'a>,
    },
    /// A step's process wrote a line.
    Line {
        /// Which.
        place: Place<'a>,
        /// To which output.
        output: Output,
        /// The line without its line feed.
        line: &'a [u8],
    },
    /// Something is fetched. Told when it begins, and then several times a second as more of it
    /// comes. It may be for a step, or for the build before it begins.
    Fetching {
        /// Its address, or what it is.
        source: &'a str,
        /// How many bytes are here.
        bytes: u64,
        /// How many it will have together, if that is known.
        size: Option<u64>,
    },
    /// All of it is here.
    Fetched {
        /// Its address, or what it is.
        source: &'a str,
        /// How many bytes it has; none if what was here already is still right.
        bytes: Option<u64>,
        /// How long it took.
        duration: Duration,
    },
    /// Something is sent. Told as [`Event::Fetching`] is.
    Sending {
        /// What it is.
        source: &'a str,
        /// How many bytes have gone.
        bytes: u64,
        /// How many it has together, if that is known by now.
        size: Option<u64>,
    },
    /// All of it has gone.
    Sent {
        /// What it is.
        source: &'a str,
        /// How many bytes it has; none if it was there.
        bytes: Option<u64>,
        /// How long it took.
        duration: Duration,
    },
    /// Something else worth knowing.
    Note {
        /// The stage that it is about, if it is about one.
        stage: Option<StageRef<'a>>,
        /// One line.
        text: &'a str,
    },
    /// Something that is probably not meant.
    Warning {
        /// The stage that it is about, if it is about one.
        stage: Option<StageRef<'a>>,
        /// One line.
        text: &'a str,
    },
}
