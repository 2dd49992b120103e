//! Who is who: the identities of host and guest, and the TLS configuration of each side.
//!
//! TLS 1.3 only, with ring's cryptography named explicitly: no provider is set for the process.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use firebuild_core::MachineId;
use firebuild_protocol::identity::{Identities, Identity};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::Error;
use crate::spec::CertificateFiles;

/// How long one-time certificates are valid: from start to the agent's call, under emulation on a
/// busy host. A connection outlives them.
pub const VALIDITY: Duration = Duration::from_secs(15 * 60);

/// One side: its certificate and key, and the authority that it checks the other side against.
#[derive(Debug, Clone)]
pub struct Side {
    /// The authority's certificate, as PEM.
    pub authority: String,
    /// The certificate and key, as PEM.
    pub identity: Identity,
}

/// Both sides.
#[derive(Debug, Clone)]
pub struct Sides {
    /// The host's.
    pub host: Side,
    /// The guest's.
    pub guest: Side,
    /// The name in the host's certificate that the guest checks.
    pub server_name: String,
}

impl Sides {
    /// One-time identities for VM `id`.
    ///
    /// # Errors
    /// [`Error::Identity`].
    pub fn generate(id: &MachineId) -> Result<Self, Error> {
        let made = Identities::generate(id.as_str(), SystemTime::now(), VALIDITY)?;
        Ok(Self {
            host: Side {
                authority: made.authority.clone(),
                identity: made.host,
            },
            guest: Side {
                authority: made.authority,
                identity: made.guest,
            },
            server_name: made.server_name,
        })
    }

    /// The user's own, from files.
    ///
    /// # Errors
    /// [`Error::Certificate`] names the file.
    pub fn read(files: &CertificateFiles) -> Result<Self, Error> {
        let read = |path: &std::path::Path| {
            fs_err::read_to_string(path).map_err(|source| Error::Certificate {
                what: format!("the certificate or key `{}`", path.display()),
                source: source.into(),
            })
        };
        let authority = read(&files.authority)?;
        Ok(Self {
            host: Side {
                authority: authority.clone(),
                identity: Identity {
                    certificate: read(&files.server_certificate)?,
                    key: read(&files.server_key)?,
                },
            },
            guest: Side {
                authority,
                identity: Identity {
                    certificate: read(&files.client_certificate)?,
                    key: read(&files.client_key)?,
                },
            },
            server_name: files.server_name.clone(),
        })
    }
}

impl Side {
    /// The configuration of a server that demands a certificate of its authority from the client.
    ///
    /// # Errors
    /// [`Error::Certificate`].
    pub fn server(&self) -> Result<Arc<ServerConfig>, Error> {
        let refused = |source: Box<dyn std::error::Error + Send + Sync>| Error::Certificate {
            what: "the TLS identity of the host".to_owned(),
            source,
        };
        let provider = provider();
        let roots = Arc::new(self.roots()?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| refused(error.into()))?;
        let (certificates, key) = self.identity()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| refused(error.into()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates, key)
            .map_err(|error| refused(error.into()))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // Nobody comes back.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// The configuration of a client: what a guest makes of its metadata.
    ///
    /// # Errors
    /// [`Error::Certificate`].
    pub fn client(&self) -> Result<Arc<ClientConfig>, Error> {
        let refused = |error: tokio_rustls::rustls::Error| Error::Certificate {
            what: "the TLS identity of the guest".to_owned(),
            source: error.into(),
        };
        let (certificates, key) = self.identity()?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(refused)?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(certificates, key)
            .map_err(refused)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.authority, "the authority's certificate")? {
            roots
                .add(certificate)
                .map_err(|error| unusable("the authority's certificate", error))?;
        }
        Ok(roots)
    }

    fn identity(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        let certificates = certificates(&self.identity.certificate, "the certificate")?;
        let key = PrivateKeyDer::from_pem_slice(self.identity.key.as_bytes())
            .map_err(|error| unusable("the private key", error))?;
        Ok((certificates, key))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(what, error))?;
    if all.is_empty() {
        return Err(unusable(what, "there is no certificate in it"));
    }
    Ok(all)
}

fn unusable(what: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Certificate {
        what: what.to_owned(),
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_and_named_in_errors() {
        let directory = tempfile::tempdir().unwrap();
        let sides = Sides::generate(&MachineId::from_random([1; 20])).unwrap();
        let path = |name: &str| directory.path().join(name);
        for (name, text) in [
            ("ca", &sides.host.authority),
            ("cert", &sides.host.identity.certificate),
            ("key", &sides.host.identity.key),
            ("ccert", &sides.guest.identity.certificate),
            ("ckey", &sides.guest.identity.key),
        ] {
            fs_err::write(path(name), text).unwrap();
        }
        let mut files = CertificateFiles {
            authority: path("ca"),
            server_certificate: path("cert"),
            server_key: path("key"),
            client_certificate: path("ccert"),
            client_key: path("ckey"),
            server_name: sides.server_name.clone(),
        };
        let read = Sides::read(&files).unwrap();
        assert!(read.host.server().is_ok() && read.guest.client().is_ok());
        files.server_key = path("none");
        assert!(
            Sides::read(&files)
                .unwrap_err()
                .to_string()
                .contains("none")
        );
    }

    #[test]
    fn what_is_no_certificate_or_key_is_refused() {
        let sides = Sides::generate(&MachineId::from_random([1; 20])).unwrap();
        type Change = fn(&mut Side);
        let changes: [Change; 4] = [
            |side| side.authority.clear(),
            |side| side.identity.certificate = "nonsense".to_owned(),
            |side| side.identity.key.clear(),
            |side| side.authority = side.authority.replace('M', "N"),
        ];
        for change in changes {
            let mut side = sides.host.clone();
            change(&mut side);
            assert!(matches!(side.server(), Err(Error::Certificate { .. })));
        }
    }
}
