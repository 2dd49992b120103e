//! The metadata service of VMs whose VMM has none built in: MMDS version 2, as Firecracker's user
//! guide describes it, so that the guest has one way to its metadata whatever runs it.
//!
//! * [`tokens`]: session tokens.
//! * [`imds`]: the text form of a value.
//! * [`answer`]: a request to its answer; pure.
//! * [`serve`](Service::serve): the listener, which is in the VM's own network namespace.
//! * [`withdraw`]: secrets go with the guest's first call.
//!
//! What must hold: the guest is hostile. Connections, headers, bodies, tokens and time are
//! bounded; what is secret is gone from here as soon as [`Service::withdraw_secrets`] returns.

pub mod answer;
pub mod imds;
pub mod serve;
pub mod tokens;
pub(crate) mod withdraw;

use std::sync::{Arc, Mutex, PoisonError};

use firebuild_protocol::metadata::{Document, LIMIT, Metadata};
use serde_json::Value;

use crate::Error;
use tokens::Tokens;

/// A VM's metadata and the tokens that were given for it. Clones mean the same.
#[derive(Clone)]
pub struct Service {
    state: Arc<Mutex<State>>,
}

struct State {
    metadata: Metadata,
    document: Value,
    tokens: Tokens,
}

impl Service {
    /// A service for `metadata`.
    ///
    /// # Errors
    /// [`Error::MetadataTooLarge`] if Firecracker would not hold it; [`Error::Io`] without
    /// randomness.
    pub fn new(metadata: Metadata) -> Result<Self, Error> {
        let document = checked(&metadata)?;
        let state = State {
            metadata,
            document,
            tokens: Tokens::new()?,
        };
        Ok(Self {
            state: Arc::new(Mutex::new(state)),
        })
    }

    /// Takes away what is secret.
    pub fn withdraw_secrets(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.metadata = state.metadata.clone().without_secrets();
        if let Ok(document) = serde_json::to_value(state.metadata.clone().document()) {
            state.document = document;
        } else {
            state.document = Value::Null;
        }
    }

    /// The document as it is now.
    #[must_use]
    pub fn document(&self) -> Document {
        self.with(|state| state.metadata.clone().document())
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for Service {
    /// Without the content, which may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("metadata::Service")
    }
}

/// The document around `metadata`, if Firecracker would hold it.
///
/// # Errors
/// [`Error::MetadataTooLarge`].
pub fn checked(metadata: &Metadata) -> Result<Value, Error> {
    let document = serde_json::to_value(metadata.clone().document())
        .map_err(|source| Error::io("write the VM's metadata", source))?;
    let size = document.to_string().len();
    if size > LIMIT {
        return Err(Error::MetadataTooLarge { size });
    }
    Ok(document)
}

#[cfg(test)]
pub(crate) mod tests {
    use firebuild_protocol::metadata::{Credentials, Network};

    use super::*;

    pub(crate) fn sample() -> Metadata {
        Metadata {
            vm_id: "abcdefghij0123456789".into(),
            hostname: "web".into(),
            image_tag: None,
            time: 7,
            root_images: 1,
            drives: Vec::new(),
            network: Network::of([10, 0, 0, 2].into(), 24),
            bootstrap: None,
            session: Some(Credentials {
                grpc_host_port: "169.254.169.253:7".into(),
                server_name: "x".into(),
                tls_ca_cert: String::new(),
                tls_cert: String::new(),
                tls_key: "the-key".into(),
                ping_interval: 5000,
            }),
        }
    }

    #[test]
    fn too_much_is_refused_before_anything_starts() {
        let mut metadata = sample();
        let rest = LIMIT - checked(&metadata).unwrap().to_string().len();
        metadata.hostname.push_str(&"x".repeat(rest));
        assert!(checked(&metadata).is_ok());
        metadata.hostname.push('x');
        assert!(matches!(
            Service::new(metadata),
            Err(Error::MetadataTooLarge { size }) if size == LIMIT + 1
        ));
    }
}
