//! Finding and making the directories that a copy goes to.

use firebuild_core::tree::{Metadata, Tree, TreeError, shown};

use super::upper::{Overlay, Place, Resolved};

/// True if the path's end says that a directory is meant.
pub(super) fn names_directory(path: &[u8]) -> bool {
    path.is_empty() || path == b"." || path.ends_with(b"/") || path.ends_with(b"/.")
}

/// The directory at `path`, links followed; what is missing is made with `new`.
pub(super) fn directory(
    overlay: &mut Overlay<'_>,
    path: &[u8],
    new: &Metadata,
) -> Result<Place, TreeError> {
    let resolved = overlay.resolve(path)?;
    if !resolved.is_directory {
        return Err(TreeError::NotDirectory(shown(path)));
    }
    walk(
        overlay,
        resolved.existing.iter().chain(&resolved.missing),
        new,
    )
}

/// The directory at `path` as [`directory`] makes it, and the path that it really has.
pub(super) fn real_directory(
    overlay: &mut Overlay<'_>,
    path: &[u8],
    new: &Metadata,
) -> Result<Vec<Vec<u8>>, TreeError> {
    let resolved = overlay.resolve(path)?;
    directory(overlay, path, new)?;
    Ok([resolved.existing, resolved.missing].concat())
}

/// The directory that holds the last part of a resolved path, and that part.
pub(super) fn parent(
    overlay: &mut Overlay<'_>,
    resolved: &Resolved,
    new: &Metadata,
) -> Result<(Place, Vec<u8>), TreeError> {
    let mut parts: Vec<&Vec<u8>> = resolved.existing.iter().chain(&resolved.missing).collect();
    let name = parts.pop().cloned().unwrap_or_default();
    Ok((walk(overlay, parts, new)?, name))
}

pub(super) fn walk<'p>(
    overlay: &mut Overlay<'_>,
    parts: impl IntoIterator<Item = &'p Vec<u8>>,
    new: &Metadata,
) -> Result<Place, TreeError> {
    parts
        .into_iter()
        .try_fold(overlay.root(), |at, part| overlay.directory(at, part, new))
}

/// What WORKDIR does: makes a directory and its missing parents, 0755 and owned by `owner`. The
/// result is the layer's tree; none where the directory is there already.
///
/// # Errors
/// [`TreeError`] where the path leads through something that is no directory.
pub fn make_directory(
    lower: &Tree,
    path: &[u8],
    new: &Metadata,
) -> Result<Option<Tree>, TreeError> {
    let mut overlay = Overlay::new(lower);
    let resolved = overlay.resolve(path)?;
    if !resolved.is_directory {
        return Err(TreeError::NotDirectory(shown(path)));
    }
    if resolved.missing.is_empty() {
        return Ok(None);
    }
    walk(
        &mut overlay,
        resolved.existing.iter().chain(&resolved.missing),
        new,
    )?;
    Ok(Some(overlay.into_upper()))
}
