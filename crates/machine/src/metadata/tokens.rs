//! Session tokens of the metadata service.
//!
//! A token says until when it is valid and proves that this service made it. So any number can be
//! given without keeping one: a guest that asks for millions costs nothing.

use std::time::Instant;

use firebuild_core::Hasher;

use crate::Error;

/// The shortest and longest life of a token, in seconds.
pub const LIFETIME: std::ops::RangeInclusive<u32> = 1..=21_600;

/// 16 hexadecimal digits of the expiry, 64 of the proof.
const LENGTH: usize = 80;

/// Gives tokens and checks them.
pub struct Tokens {
    key: [u8; 32],
    start: Instant,
}

impl Tokens {
    /// With a key of its own, which ends with the value.
    ///
    /// # Errors
    /// [`Error::Io`] if the system has no randomness.
    pub fn new() -> Result<Self, Error> {
        Ok(Self {
            key: crate::random()?,
            start: Instant::now(),
        })
    }

    /// A token that is valid for `seconds` from `now`.
    #[must_use]
    pub fn give(&self, seconds: u32, now: Instant) -> String {
        let expiry = self.milliseconds(now) + u64::from(seconds) * 1000;
        format!("{expiry:016x}{}", self.proof(expiry))
    }

    /// Whether `token` is one of these and not yet expired.
    #[must_use]
    pub fn is_valid(&self, token: &str, now: Instant) -> bool {
        if token.len() != LENGTH || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return false;
        }
        let (expiry, proof) = token.split_at(16);
        let Ok(expiry) = u64::from_str_radix(expiry, 16) else {
            return false;
        };
        same(proof, &self.proof(expiry)) && self.milliseconds(now) < expiry
    }

    fn milliseconds(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX / 2)
    }

    /// The key goes in before and after, and all lengths are fixed, so that knowing one proof
    /// helps with no other.
    fn proof(&self, expiry: u64) -> String {
        let mut hasher = Hasher::new();
        hasher.update(&self.key);
        hasher.update(&expiry.to_be_bytes());
        hasher.update(&self.key);
        hasher.finish().hex()
    }
}

/// Compares in a time that does not tell where the first difference is.
fn same(one: &str, two: &str) -> bool {
    one.len() == two.len()
        && one
            .bytes()
            .zip(two.bytes())
            .fold(0, |all, (a, b)| all | (a ^ b))
            == 0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn valid_until_they_expire_and_only_here() {
        let tokens = Tokens::new().unwrap();
        let now = tokens.start;
        let token = tokens.give(2, now);
        assert_eq!(token.len(), LENGTH);
        assert!(tokens.is_valid(&token, now));
        assert!(tokens.is_valid(&token, now + Duration::from_millis(1999)));
        assert!(!tokens.is_valid(&token, now + Duration::from_secs(2)));
        assert!(!Tokens::new().unwrap().is_valid(&token, now));
    }

    #[test]
    fn no_other_text_is_one() {
        let tokens = Tokens::new().unwrap();
        let now = tokens.start;
        let token = tokens.give(60, now);
        let later = format!("{:016x}{}", u64::MAX, &token[16..]);
        let cut = &token[..79];
        for text in ["", "x", cut, &later, &"é".repeat(40), &"f".repeat(80)] {
            assert!(!tokens.is_valid(text, now), "{text}");
        }
    }
}
