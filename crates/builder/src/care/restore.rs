//! Images that a repair left without all that they need, and what has become of them since.

use firebuild_core::Reference;
use firebuild_store::layout::Descriptor;
use firebuild_store::{Blob, Store};

use super::readable;
use super::repair::Outcome;
use super::verify::{Part, Report, problem_of};
use crate::Error;

/// The images with a name of which something is missing. Lengths are looked at, not bytes: what is
/// wrong goes when it is repaired.
///
/// # Errors
/// Those of the store.
pub fn incomplete(store: &Store) -> Result<Vec<(Reference, Descriptor)>, Error> {
    let mut found = Vec::new();
    for tagged in store.tags().list()? {
        if is_whole(store, &tagged)? {
            continue;
        }
        if let Some(reference) = tagged.reference {
            found.push((reference, tagged.descriptor));
        }
    }
    Ok(found)
}

fn is_whole(store: &Store, tagged: &firebuild_store::Tagged) -> Result<bool, Error> {
    let Some(image) = readable(store, tagged)? else {
        return Ok(false);
    };
    for (layer, diff_id) in image.layers.iter().zip(image.diff_ids()) {
        let (digest, size) = (layer.digest, layer.size);
        let known = digest == *diff_id || store.layers().get(diff_id)?.is_some();
        if !known || !store.has_whole_blob(&Blob { digest, size })? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Looks again at what was missing, after somebody has fetched it or not.
///
/// # Errors
/// Those of the store.
pub fn look_again(store: &Store, report: &Report, outcomes: &mut [Outcome]) -> Result<(), Error> {
    for (finding, outcome) in report.findings.iter().zip(outcomes) {
        if *outcome != Outcome::Missing {
            continue;
        }
        let mended = match finding.part {
            Part::Blob(digest) => problem_of(store, &digest, &|_| {}).is_none(),
            Part::Layer(diff_id) => firebuild_oci::is_kept_well(store, &diff_id)?,
            _ => false,
        };
        if mended {
            *outcome = Outcome::Mended;
        }
    }
    Ok(())
}
