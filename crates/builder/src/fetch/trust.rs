//! The authorities whose certificates are believed: the host's, and those that people name.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::error::{Cause, FetchError};

/// Characters of a line of PEM.
const PEM_LINE: usize = 64;

/// The authorities to believe: those of the host, always, and others.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    extra: Vec<CertificateDer<'static>>,
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
    /// [`FetchError::Certificates`] if there is none in it or one is malformed.
    pub fn and_pem(mut self, pem: &[u8], name: &str) -> Result<Self, FetchError> {
        let wrong = |source| FetchError::Certificates {
            name: name.to_owned(),
            source,
        };
        let before = self.extra.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| wrong(Some(Cause::of(error))))?;
            RootCertStore::empty()
                .add(certificate.clone())
                .map_err(|error| wrong(Some(Cause::of(error))))?;
            self.extra.push(certificate);
        }
        if self.extra.len() == before {
            return Err(wrong(None));
        }
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

    /// A TLS client that believes them, with ring's cryptography named explicitly.
    pub(super) fn client(&self) -> Result<ClientConfig, FetchError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.all());
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| FetchError::Client(Cause::of(error)))?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }

    /// A host without any certificates has none to believe, which shows when one is needed.
    fn all(&self) -> Vec<CertificateDer<'static>> {
        let mut all = rustls_native_certs::load_native_certs().certs;
        all.extend(self.extra.iter().cloned());
        all
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
}
