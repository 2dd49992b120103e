//! Images by the beginning of their digests, as `images` shows them.

use firebuild_core::Digest;
use firebuild_store::{Store, Tagged};

use crate::error::hinted;

/// The least that people write of a digest.
const LEAST: usize = 6;

/// All entries of the one image whose digest, or whose configuration's, begins so; none if none does, or
/// `text` is no beginning of a digest. Those of the image come first that have a name.
pub(super) fn find(store: &Store, text: &str) -> anyhow::Result<Vec<Tagged>> {
    let text = text.strip_suffix(":latest").unwrap_or(text);
    let beginning = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if beginning.len() < LEAST || !beginning.bytes().all(is_hex) {
        return Ok(Vec::new());
    }
    let mut found: Vec<Tagged> = Vec::new();
    for entry in store.tags().list()? {
        let begins = |digest: &Digest| digest.hex().starts_with(beginning);
        // Of an image that is not whole, the manifest's own is known all the same.
        let is_it = begins(&entry.descriptor.digest)
            || firebuild_oci::read_image(store, &entry.descriptor)
                .is_ok_and(|image| begins(&image.config_digest));
        if is_it {
            found.push(entry);
        }
    }
    let mut digests: Vec<Digest> = found.iter().map(|entry| entry.descriptor.digest).collect();
    digests.sort_unstable();
    digests.dedup();
    if digests.len() > 1 {
        return Err(hinted(
            format!(
                "the digests of {} images begin with `{beginning}`",
                digests.len()
            ),
            "write more of the digest",
        ));
    }
    found.sort_by_key(|entry| !entry.is_named());
    Ok(found)
}
