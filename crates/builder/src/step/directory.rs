//! What WORKDIR does beside its change of the configuration: a directory that is not there is made.

use firebuild_core::tree::{Metadata, Timestamp};
use firebuild_core::user;
use firebuild_oci::Sources;
use firebuild_plan::{Directory, Step, key};
use firebuild_store::Lease;

use super::user_files;
use crate::cache::{Known, Outcome};
use crate::copy;
use crate::current::{Below, Current};
use crate::error::StepError;
use crate::stage::Layer;
use crate::time;

impl Current<'_> {
    pub(super) async fn directory(
        &mut self,
        directory: &Directory,
        step: &Step,
    ) -> Result<Outcome, StepError> {
        let key = key::directory(&self.state.chain, directory);
        let claim = match self.known(key).await? {
            Known::Yes(outcome) => return Ok(outcome),
            Known::No(claim) => claim,
        };
        let directory = directory.clone();
        let layer = self.work(move |below| make(below, &directory)).await?;
        Ok(self.keep(claim, layer, step).await?)
    }
}

fn make(below: &mut Below, directory: &Directory) -> Result<Layer, StepError> {
    let merged = below.files()?;
    let (passwd, group) = user_files(merged);
    let user = user::process_user(&directory.user, &passwd, &group)?;
    // A number alone owns what it makes with its own group, as in BuildKit.
    let (uid, gid) = user::owner(&directory.user, &passwd, &group).unwrap_or((user.uid, user.gid));
    let made = Metadata {
        uid,
        gid,
        mtime: now(),
        ..Metadata::root_owned(0o755)
    };
    let upper = copy::make_directory(&merged.tree, directory.path.as_bytes(), &made)?;
    match upper {
        Some(upper) => below.write(upper, &Sources::default()),
        None => write_empty(&below.lease),
    }
}

/// A layer without entries, which stands for "nothing to do" in the cache and is in no image.
fn write_empty(lease: &Lease) -> Result<Layer, StepError> {
    let blob = lease.put(&Layer::empty_bytes())?;
    Ok(Layer {
        digest: blob.digest,
        size: blob.size,
    })
}

fn now() -> Timestamp {
    Timestamp {
        seconds: i64::try_from(time::now()).unwrap_or_default(),
        nanoseconds: 0,
    }
}
