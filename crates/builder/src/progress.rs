//! What a build says while it works. How that looks is the caller's business.

use std::time::Duration;

pub use crate::bootstrap::Output;

/// Takes what a build says.
pub trait Progress {
    /// Something happened.
    fn event(&mut self, event: Event<'_>);
}

/// Where a step stands in the build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The stage's name.
    pub stage: &'a str,
    /// The step's number in its stage, from 1; the base is step 1.
    pub step: usize,
    /// How many steps the stage has.
    pub steps: usize,
}

/// Something that happened.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A step begins.
    Step {
        /// Which.
        place: Place<'a>,
        /// Its text.
        text: &'a str,
    },
    /// A step's result was known.
    Cached {
        /// Which.
        place: Place<'a>,
    },
    /// A step is done.
    Done {
        /// Which.
        place: Place<'a>,
        /// How long it took.
        duration: Duration,
        /// The size of what it added, in bytes; none if it added no layer.
        size: Option<u64>,
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
    /// Something else worth knowing, such as that a VM starts.
    Note {
        /// One line.
        text: &'a str,
    },
    /// Something that is probably not meant.
    Warning {
        /// One line.
        text: &'a str,
    },
}
