//! What each operation of a plan does to its stage.
//!
//! * [`apart`]: what a copy takes that is in no tree of files: here-documents, downloads,
//!   repositories.
//! * [`copy`]: copies, resolved on the host.
//! * [`directory`]: what WORKDIR makes.
//! * [`run`]: processes, executed in the stage's VM.

mod apart;
mod copy;
mod directory;
mod run;

use std::io::Read as _;

use firebuild_core::tree::Kind;
use firebuild_core::user;
use firebuild_plan::{Operation, Step};

use crate::cache::Outcome;
use crate::current::Current;
use crate::error::StepError;
use crate::progress::Place;
use crate::sources::Files;

impl Current<'_> {
    /// Does one step, or finds its result in the cache.
    pub(crate) async fn step(
        &mut self,
        step: &Step,
        place: Place<'_>,
    ) -> Result<Outcome, StepError> {
        for change in step.operation.changes() {
            change.apply(&mut self.state.config);
        }
        match &step.operation {
            Operation::Configure(_) => Ok(Outcome::NOTHING),
            Operation::Directory(directory) => self.directory(directory, step).await,
            Operation::Copy(copy) => self.copy(copy, step).await,
            Operation::Run(run) => self.process(run, step, place).await,
        }
    }
}

/// The image's `/etc/passwd` and `/etc/group`; empty where they are missing, no regular files, or
/// larger than any real one.
fn user_files(files: &Files) -> (Vec<u8>, Vec<u8>) {
    let read = |path: &[u8]| {
        let id = files.tree.resolve(path, true).ok()?;
        let Kind::File(content) = &files.tree.node(id).kind else {
            return None;
        };
        let mut bytes = Vec::new();
        let small = content.length <= user::LARGEST_FILE;
        small.then(|| {
            files
                .sources
                .open(content)
                .and_then(|mut reader| reader.read_to_end(&mut bytes))
                .ok()
        })??;
        Some(bytes)
    };
    (
        read(b"etc/passwd").unwrap_or_default(),
        read(b"etc/group").unwrap_or_default(),
    )
}
