//! Who may speak for a build VM, and what a VM that never gets to speak comes to.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use firebuild_machine::spec::CertificateFiles;
use firebuild_protocol::identity::Identities;

use crate::place::Place;

const TEXT: &str = "FROM scratch\nRUN touch one\n";

/// The user's own certificates, valid from three hours ago until `end`.
fn certificates(place: &Place, end: Duration) -> CertificateFiles {
    let begin = SystemTime::now() - Duration::from_secs(2 * 3600);
    let made = Identities::generate("builder.example", begin, end).unwrap();
    let write = |name: &str, text: &str| -> PathBuf {
        let path = place.root().join(name);
        fs_err::write(&path, text).unwrap();
        path
    };
    CertificateFiles {
        authority: write("ca.pem", &made.authority),
        server_certificate: write("server.pem", &made.host.certificate),
        server_key: write("server.key", &made.host.key),
        client_certificate: write("client.pem", &made.guest.certificate),
        client_key: write("client.key", &made.guest.key),
        server_name: made.server_name,
    }
}

#[test]
fn whoever_is_not_the_vm_is_not_served() {
    for kind in ["wrong-authority", "no-certificate"] {
        let place = Place::with_guests(kind);
        let error = place.failure(TEXT);
        assert!(
            error.contains("ended before it reached the host"),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
        assert_eq!(place.cached(), 0);
    }
}

#[test]
fn the_users_own_certificates_are_used() {
    let mut place = Place::new();
    let mut files = certificates(&place, Duration::from_secs(3 * 3600));
    place.certificates = Some(files.clone());
    place.build(TEXT).result.unwrap();
    files.client_key = place.root().join("none.key");
    place.certificates = Some(files);
    let mut other = Place::new();
    other.certificates = place.certificates.clone();
    let error = other.failure(TEXT);
    assert!(
        error.contains("cannot use the certificate or key `"),
        "{error}"
    );
    assert!(error.contains("none.key"), "{error}");
}

#[test]
fn expired_certificates_are_refused() {
    let mut place = Place::new();
    place.certificates = Some(certificates(&place, Duration::from_secs(3600)));
    let error = place.failure(TEXT);
    assert!(
        error.contains("ended before it reached the host"),
        "{error}"
    );
    assert!(error.contains("xpired"), "{error}");
    assert_eq!(place.cached(), 0);
}

#[test]
fn a_vm_that_does_not_start_says_why() {
    let mut place = Place::with_guests("dies");
    let error = place.failure(TEXT);
    assert!(
        error.contains("ended before it reached the host"),
        "{error}"
    );
    assert!(error.contains("reached the host: no such luck"), "{error}");
    place = Place::with_guests("breaks");
    let error = place.failure(TEXT);
    assert!(
        error.contains("`process` ended with status 3 while it started"),
        "{error}"
    );
    place = Place::with_guests("never-calls");
    place.connect_time = Some(Duration::from_millis(300));
    let error = place.failure(TEXT);
    assert!(
        error.contains("did not reach the host within 0 s"),
        "{error}"
    );
}
