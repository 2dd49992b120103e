//! Private keys as they are in files: OpenSSH's own form (its `PROTOCOL.key`), and PEM as OpenSSL
//! writes it (PKCS#1, PKCS#8, SEC 1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::key::Key;
use super::wire::Reader;

/// Why a file's content is no key that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// It is something else.
    #[error("it is not a private key in OpenSSH's form or in PEM")]
    NoKey,
    /// It is the half that everyone may know.
    #[error("it is a public key")]
    Public,
    /// It has a passphrase.
    #[error("it is encrypted")]
    Encrypted,
    /// A key that cannot be used without an agent; or one that is well formed and makes no sense.
    #[error("it is of a kind or size that needs an agent of your own, or damaged")]
    Kind,
    /// It does not hold together.
    #[error("it is damaged")]
    Damaged,
}

/// Before the content of OpenSSH's form.
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// Reads one key.
pub(super) fn parse(text: &[u8]) -> Result<Key, Unusable> {
    let text = std::str::from_utf8(text).map_err(|_| Unusable::NoKey)?;
    let Some(pem) = Pem::first(text) else {
        return Err(if is_public(text) {
            Unusable::Public
        } else {
            Unusable::NoKey
        });
    };
    if pem.encrypted {
        return Err(Unusable::Encrypted);
    }
    let content = STANDARD.decode(&pem.body).map_err(|_| Unusable::Damaged)?;
    match pem.label {
        "OPENSSH PRIVATE KEY" => openssh(&content),
        "PRIVATE KEY" => Key::from_pkcs8(&content),
        "RSA PRIVATE KEY" => Key::from_pkcs1(&content),
        "EC PRIVATE KEY" => Key::from_sec1(&content),
        "ENCRYPTED PRIVATE KEY" => Err(Unusable::Encrypted),
        "PUBLIC KEY" | "RSA PUBLIC KEY" | "SSH2 PUBLIC KEY" => Err(Unusable::Public),
        label if label.ends_with("PRIVATE KEY") => Err(Unusable::Kind),
        _ => Err(Unusable::NoKey),
    }
}

/// A block of text that stands for bytes (RFC 7468, and the headers that are older than it).
struct Pem<'a> {
    label: &'a str,
    encrypted: bool,
    /// In base 64, without its line ends.
    body: String,
}

impl<'a> Pem<'a> {
    /// The first whole block. What stands before it is for people, as are parameters of a curve.
    fn first(text: &'a str) -> Option<Self> {
        let mut lines = text.lines().map(str::trim);
        loop {
            let label =
                lines.find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"))?;
            let (mut encrypted, mut body) = (false, String::new());
            loop {
                let line = lines.next()?;
                if line.starts_with("-----END ") {
                    break;
                }
                match line.split_once(':') {
                    Some((_, value)) => encrypted |= value.contains("ENCRYPTED"),
                    None => body.push_str(line),
                }
            }
            if label != "EC PARAMETERS" {
                return Some(Self {
                    label,
                    encrypted,
                    body,
                });
            }
        }
    }
}

/// Whether text is a line of `authorized_keys`.
fn is_public(text: &str) -> bool {
    let first = text.split_ascii_whitespace().next().unwrap_or_default();
    ["ssh-", "ecdsa-sha2-", "sk-"]
        .iter()
        .any(|kind| first.starts_with(kind))
}

/// Reads OpenSSH's own form.
fn openssh(content: &[u8]) -> Result<Key, Unusable> {
    let damaged = Unusable::Damaged;
    let content = content.strip_prefix(MAGIC).ok_or(damaged)?;
    let mut outer = Reader(content);
    let cipher = outer.string().ok_or(damaged)?;
    if cipher != b"none" {
        return Err(Unusable::Encrypted);
    }
    let (_kdf, _options) = (outer.string(), outer.string());
    // The form would have room for several keys, and nobody writes it so.
    if outer.u32() != Some(1) {
        return Err(damaged);
    }
    let _public = outer.string().ok_or(damaged)?;
    let mut inner = Reader(outer.string().ok_or(damaged)?);
    // A number that is there twice, for those who decrypt.
    if inner.u32().is_none() || inner.u32().is_none() {
        return Err(damaged);
    }
    let kind = inner.string().ok_or(damaged)?;
    Key::from_openssh(kind, &mut inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_is_named() {
        let block = |label: &str, body: &str| {
            format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
        };
        let openssh = |content: &[u8]| block("OPENSSH PRIVATE KEY", &STANDARD.encode(content));
        let named = |cipher: &[u8], count: u8, rest: &[u8]| {
            let mut content = MAGIC.to_vec();
            content.extend(super::super::wire::strings(&[cipher, b"none", b""]));
            content.extend([0, 0, 0, count]);
            content.extend(rest);
            openssh(&content)
        };
        let unknown = super::super::wire::strings(&[b"", &{
            let mut inner = vec![0; 8];
            inner.extend(super::super::wire::strings(&[b"ssh-new"]));
            inner
        }]);
        for (text, expected) in [
            (String::new(), Unusable::NoKey),
            ("hello".to_owned(), Unusable::NoKey),
            (block("CERTIFICATE", "AAAA"), Unusable::NoKey),
            (
                "-----BEGIN PRIVATE KEY-----\nAAAA\n".to_owned(),
                Unusable::NoKey,
            ),
            ("ssh-ed25519 AAAA me".to_owned(), Unusable::Public),
            ("ecdsa-sha2-nistp256 AAAA".to_owned(), Unusable::Public),
            (block("PUBLIC KEY", "AAAA"), Unusable::Public),
            (block("ENCRYPTED PRIVATE KEY", "AAAA"), Unusable::Encrypted),
            (
                block(
                    "RSA PRIVATE KEY",
                    "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA",
                ),
                Unusable::Encrypted,
            ),
            (named(b"aes256-ctr", 1, b""), Unusable::Encrypted),
            (named(b"none", 1, &unknown), Unusable::Kind),
            (block("DSA PRIVATE KEY", "AAAA"), Unusable::Kind),
            (named(b"none", 2, b""), Unusable::Damaged),
            (named(b"none", 1, &[0xff; 8]), Unusable::Damaged),
            (openssh(b"openssh-key-v2\0"), Unusable::Damaged),
            (block("OPENSSH PRIVATE KEY", "!"), Unusable::Damaged),
            (block("EC PRIVATE KEY", "AAAA"), Unusable::Kind),
            (block("RSA PRIVATE KEY", "AAAA"), Unusable::Kind),
            (block("PRIVATE KEY", "AAAA"), Unusable::Kind),
        ] {
            assert_eq!(parse(text.as_bytes()).err(), Some(expected), "{text}");
        }
        assert_eq!(parse(&[0xff, 0xfe]).err(), Some(Unusable::NoKey));
    }
}
