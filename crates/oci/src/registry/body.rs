//! Bodies that are read whole, within bounds of length and time; refusals, and what they say.

use reqwest::Response;
use serde::Deserialize;
use url::Url;

use super::exchange::address;
use super::{Patience, RegistryError};

/// The most bytes that are read of a refusal.
const LARGEST_REFUSAL: u64 = 64 << 10;
/// The most characters of a registry's own words.
pub(super) const LONGEST_MESSAGE: usize = 300;

/// A body of at most `limit` bytes, within the time for a document.
pub(super) async fn bounded(
    mut response: Response,
    limit: u64,
    what: &str,
    url: &Url,
    patience: &Patience,
) -> Result<Vec<u8>, RegistryError> {
    let too_large = || RegistryError::TooLarge {
        what: what.to_owned(),
        limit,
    };
    if response
        .content_length()
        .is_some_and(|length| length > limit)
    {
        return Err(too_large());
    }
    let reading = async {
        let mut bytes = Vec::new();
        loop {
            let piece = response.chunk().await;
            let piece = piece.map_err(|error| RegistryError::of(error, &address(url)))?;
            let Some(piece) = piece else {
                return Ok(bytes);
            };
            if (bytes.len() + piece.len()) as u64 > limit {
                return Err(too_large());
            }
            bytes.extend_from_slice(&piece);
        }
    };
    let silent = |_| RegistryError::Silent {
        host: address(url),
        silence: patience.document,
    };
    let read = tokio::time::timeout(patience.document, reading).await;
    read.map_err(silent)?
}

/// The error that a refusal is, with the registry's own words.
pub(super) async fn refusal(
    response: Response,
    what: &str,
    url: &Url,
    patience: &Patience,
) -> RegistryError {
    let status = response.status().as_u16();
    // What cannot be read says nothing.
    let bytes = bounded(response, LARGEST_REFUSAL, what, url, patience).await;
    let (what, message) = (what.to_owned(), message(&bytes.unwrap_or_default()));
    match status {
        403 => RegistryError::Denied { what, message },
        _ => RegistryError::Status {
            what,
            status,
            message,
        },
    }
}

/// The first message of the specification's form of errors.
fn message(bytes: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        message: Option<String>,
        code: Option<String>,
    }
    let errors: Option<Errors> = serde_json::from_slice(bytes).ok();
    let first = errors.and_then(|errors| errors.errors.into_iter().next());
    let text = first.and_then(|one| one.message.filter(|text| !text.is_empty()).or(one.code));
    let text = text.unwrap_or_default();
    let shown = text.chars().filter(|character| !character.is_control());
    shown.take(LONGEST_MESSAGE).collect()
}

pub(super) fn parse<T: for<'de> Deserialize<'de>>(
    bytes: &[u8],
    what: &str,
) -> Result<T, RegistryError> {
    serde_json::from_slice(bytes).map_err(|source| RegistryError::Document {
        what: what.to_owned(),
        source,
    })
}
