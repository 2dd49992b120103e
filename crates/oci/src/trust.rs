//! Whom a TLS client believes, and as whom it presents itself.
//!
//! The authorities are the host's, always, and those that people name. Cryptography is ring's, named
//! explicitly, so that no other part of the process decides it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::Cause;

/// Characters of a line of PEM.
const PEM_LINE: usize = 64;

/// The authorities to believe: those of the host, always, and others.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    extra: Vec<CertificateDer<'static>>,
}

/// As whom a client presents itself: a chain of certificates, and the key of the first.
#[derive(Debug)]
pub struct ClientIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Why certificates or keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// A file with certificates has none.
    #[error("`{name}` is not a file with certificates in PEM form")]
    Certificates {
        /// What was read.
        name: String,
        /// Why, if one is malformed.
        #[source]
        source: Option<Cause>,
    },
    /// A file with a private key has none.
    #[error("`{name}` is not a file with a private key in PEM form")]
    Key {
        /// What was read.
        name: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// No TLS client can be made of them.
    #[error("cannot prepare TLS")]
    Client(#[source] Cause),
}

impl ClientIdentity {
    /// Reads a chain and its key, each in PEM form. The names are what messages call them.
    ///
    /// # Errors
    /// [`TrustError::Certificates`], [`TrustError::Key`].
    pub fn from_pem(chain: (&[u8], &str), key: (&[u8], &str)) -> Result<Self, TrustError> {
        let chain = certificates(chain.0, chain.1)?;
        let key = PrivateKeyDer::from_pem_slice(key.0).map_err(|error| TrustError::Key {
            name: key.1.to_owned(),
            source: Cause::of(error),
        })?;
        Ok(Self { chain, key })
    }
}

impl Trust {
    /// The host's authorities only: those in its certificate store, or in the file or directory
    /// that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    #[must_use]
    pub fn host() -> Self {
        Self::default()
    }

    /// Believes the authorities of a PEM file too. `name` is what messages call it.
    ///
    /// # Errors
    /// [`TrustError::Certificates`] if there is none in it or one is malformed.
    pub fn and_pem(mut self, pem: &[u8], name: &str) -> Result<Self, TrustError> {
        let found = certificates(pem, name)?;
        for certificate in &found {
            RootCertStore::empty()
                .add(certificate.clone())
                .map_err(|error| malformed(name, Some(Cause::of(error))))?;
        }
        self.extra.extend(found);
        Ok(self)
    }

    /// Whether there are authorities beside the host's.
    #[must_use]
    pub fn is_extended(&self) -> bool {
        !self.extra.is_empty()
    }

    /// All of them as PEM, for programs that want a file.
    #[must_use]
    pub fn bundle(&self) -> String {
        self.all().iter().fold(String::new(), |mut text, der| {
            text.push_str("-----BEGIN CERTIFICATE-----\n");
            let encoded = STANDARD.encode(der);
            for line in encoded.as_bytes().chunks(PEM_LINE) {
                text.push_str(&String::from_utf8_lossy(line));
                text.push('\n');
            }
            text.push_str("-----END CERTIFICATE-----\n");
            text
        })
    }

    /// A TLS client that believes them, and presents itself as `identity`, if there is one.
    ///
    /// # Errors
    /// [`TrustError::Client`] for a key that does not fit its certificate.
    pub fn client(&self, identity: Option<&ClientIdentity>) -> Result<ClientConfig, TrustError> {
        let fail = |error| TrustError::Client(Cause::of(error));
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.all());
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(fail)?
            .with_root_certificates(roots);
        match identity {
            None => Ok(builder.with_no_client_auth()),
            Some(ClientIdentity { chain, key }) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(fail),
        }
    }

    /// A host without any certificates has none to believe, which shows when one is needed.
    fn all(&self) -> Vec<CertificateDer<'static>> {
        let mut all = rustls_native_certs::load_native_certs().certs;
        all.extend(self.extra.iter().cloned());
        all
    }
}

fn certificates(pem: &[u8], name: &str) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| malformed(name, Some(Cause::of(error))))?;
    if found.is_empty() {
        return Err(malformed(name, None));
    }
    Ok(found)
}

fn malformed(name: &str, source: Option<Cause>) -> TrustError {
    TrustError::Certificates {
        name: name.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_read_back() {
        let made = rcgen::generate_simple_self_signed(["host.example".to_owned()]).unwrap();
        let trust = Trust::host()
            .and_pem(made.cert.pem().as_bytes(), "x")
            .unwrap();
        assert!(trust.is_extended());
        let again = Trust::host()
            .and_pem(trust.bundle().as_bytes(), "x")
            .unwrap();
        assert!(again.extra.contains(made.cert.der()));
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        for pem in [
            "",
            "text",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\n",
        ] {
            let error = Trust::host().and_pem(pem.as_bytes(), "ca.pem").unwrap_err();
            assert!(error.to_string().contains("`ca.pem`"), "{error}");
        }
    }

    #[test]
    fn a_key_must_be_that_of_its_certificate() {
        let make = || rcgen::generate_simple_self_signed(["host.example".to_owned()]).unwrap();
        let (one, other) = (make(), make());
        let chain = one.cert.pem();
        for (key, fits) in [
            (one.signing_key.serialize_pem(), true),
            (other.signing_key.serialize_pem(), false),
        ] {
            let chain = (chain.as_bytes(), "chain.pem");
            let identity = ClientIdentity::from_pem(chain, (key.as_bytes(), "key.pem")).unwrap();
            assert_eq!(Trust::host().client(Some(&identity)).is_ok(), fits);
        }
        let none = ClientIdentity::from_pem((chain.as_bytes(), "a"), (chain.as_bytes(), "key.pem"));
        assert!(none.unwrap_err().to_string().contains("`key.pem`"));
    }
}
