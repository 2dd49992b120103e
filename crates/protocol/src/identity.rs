//! The one-time TLS identities of a VM's conversation with its host.
//!
//! Every VM gets a certificate authority of its own, which signs exactly two certificates, the
//! host's and the guest's, and whose key is dropped at once. Keys are P-256. All of it lives in
//! memory only.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// How far back a certificate's validity begins, for guests whose clocks are behind.
const LEEWAY: Duration = Duration::from_secs(60 * 60);

/// A certificate and its key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, followed by those that lead to the authority, if any.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

/// What both sides need.
#[derive(Clone, PartialEq, Eq)]
pub struct Identities {
    /// The authority's certificate, as PEM: what each side checks the other against.
    pub authority: String,
    /// The host's identity.
    pub host: Identity,
    /// The guest's identity.
    pub guest: Identity,
    /// The name in the host's certificate that the guest checks.
    pub server_name: String,
}

/// Identities could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the TLS identities of VM `{id}`")]
pub struct IdentityError {
    id: String,
    #[source]
    source: rcgen::Error,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identities of {}", self.server_name)
    }
}

impl Identities {
    /// Makes the identities of VM `id`, valid from an hour before `now` until `validity` after it.
    ///
    /// # Errors
    /// [`IdentityError`] if `id` cannot be a host name or the system has no randomness.
    pub fn generate(id: &str, now: SystemTime, validity: Duration) -> Result<Self, IdentityError> {
        generate(id, now, validity).map_err(|source| IdentityError {
            id: id.to_owned(),
            source,
        })
    }
}

fn generate(id: &str, now: SystemTime, validity: Duration) -> Result<Identities, rcgen::Error> {
    let period = (now - LEEWAY, now + validity);
    let authority_key = KeyPair::generate()?;
    let mut authority = parameters(&[], &format!("firebuild {id} authority"), period)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let certificate = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);
    Ok(Identities {
        authority: certificate,
        host: leaf(
            &issuer,
            id,
            "host",
            ExtendedKeyUsagePurpose::ServerAuth,
            period,
        )?,
        guest: leaf(
            &issuer,
            id,
            "guest",
            ExtendedKeyUsagePurpose::ClientAuth,
            period,
        )?,
        server_name: id.to_owned(),
    })
}

fn leaf(
    issuer: &Issuer<'_, KeyPair>,
    id: &str,
    side: &str,
    purpose: ExtendedKeyUsagePurpose,
    period: (SystemTime, SystemTime),
) -> Result<Identity, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut parameters = parameters(&[id.to_owned()], &format!("firebuild {id} {side}"), period)?;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![purpose];
    let certificate = parameters.signed_by(&key, issuer)?.pem();
    Ok(Identity {
        certificate,
        key: key.serialize_pem(),
    })
}

fn parameters(
    names: &[String],
    common_name: &str,
    period: (SystemTime, SystemTime),
) -> Result<CertificateParams, rcgen::Error> {
    let mut parameters = CertificateParams::new(names)?;
    parameters
        .distinguished_name
        .push(DnType::CommonName, common_name);
    parameters.not_before = period.0.into();
    parameters.not_after = period.1.into();
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vm_has_its_own_authority() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let make =
            || Identities::generate("abcdefghij0123456789", now, Duration::from_secs(300)).unwrap();
        let (one, two) = (make(), make());
        assert_ne!(one.authority, two.authority);
        assert!(
            one.host
                .certificate
                .starts_with("-----BEGIN CERTIFICATE-----")
        );
        assert!(one.guest.key.contains("PRIVATE KEY"));
        assert!(!format!("{one:?} {:?}", one.host).contains("PRIVATE"));
    }
}
