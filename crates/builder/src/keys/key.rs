//! One private key: what it is called in public, and what it signs.
//!
//! The arithmetic is ring's, so what ring does not do is not done here: RSA of under 2048 or over
//! 4096 bits and with SHA-1, P-521, DSA, keys in hardware. An agent of the user's does all of it.

use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512,
    RsaEncoding, RsaKeyPair,
};

use super::file::Unusable;
use super::wire::{Reader, put_number, strings, without_zeros};

/// What a client asks for in a request to sign with RSA (RFC 8332).
const RSA_SHA2_256: u32 = 2;
const RSA_SHA2_512: u32 = 4;

/// The curves of ECDSA, by SSH's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
}

impl Curve {
    const ALL: [Self; 2] = [Self::P256, Self::P384];

    fn name(self) -> &'static [u8] {
        match self {
            Self::P256 => b"nistp256",
            Self::P384 => b"nistp384",
        }
    }

    fn kind(self) -> Vec<u8> {
        [b"ecdsa-sha2-", self.name()].concat()
    }

    fn algorithm(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
        }
    }

    /// How many bytes a number below the curve's order has.
    fn width(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }

    /// What stands in PKCS#8 for the curve: `id-ecPublicKey`, and the curve's own number.
    fn identifier(self) -> &'static [u8] {
        match self {
            Self::P256 => {
                b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"
            }
            Self::P384 => {
                b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22"
            }
        }
    }
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(Curve, EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

/// A private key. Nothing of it but its public half is ever shown.
pub(super) struct Key {
    pair: Pair,
    /// The public half, as SSH writes it.
    public: Vec<u8>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

impl Key {
    fn new(pair: Pair) -> Self {
        let public = match &pair {
            Pair::Ed25519(pair) => strings(&[b"ssh-ed25519", pair.public_key().as_ref()]),
            Pair::Ecdsa(curve, pair) => {
                strings(&[&curve.kind(), curve.name(), pair.public_key().as_ref()])
            }
            Pair::Rsa(pair) => {
                let mut public = strings(&[b"ssh-rsa"]);
                let halves = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                put_number(&mut public, &halves.e);
                put_number(&mut public, &halves.n);
                public
            }
        };
        Self { pair, public }
    }

    /// The public half, as SSH writes it.
    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// A signature as SSH writes it. None if this cannot be had in the way that is asked for.
    pub(super) fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ed25519(pair) => Some(strings(&[b"ssh-ed25519", pair.sign(data).as_ref()])),
            Pair::Ecdsa(curve, pair) => {
                let signature = pair.sign(&random, data).ok()?;
                let (r, s) = signature.as_ref().split_at_checked(curve.width())?;
                let mut numbers = Vec::new();
                put_number(&mut numbers, r);
                put_number(&mut numbers, s);
                Some(strings(&[&curve.kind(), &numbers]))
            }
            Pair::Rsa(pair) => {
                let (name, form): (_, &'static dyn RsaEncoding) = match flags {
                    flags if flags & RSA_SHA2_512 != 0 => (&b"rsa-sha2-512"[..], &RSA_PKCS1_SHA512),
                    flags if flags & RSA_SHA2_256 != 0 => (b"rsa-sha2-256", &RSA_PKCS1_SHA256),
                    _ => return None,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(form, &random, data, &mut signature).ok()?;
                Some(strings(&[name, &signature]))
            }
        }
    }

    /// The rest of a key in OpenSSH's form, after its kind.
    pub(super) fn from_openssh(kind: &[u8], rest: &mut Reader<'_>) -> Result<Self, Unusable> {
        let curve = Curve::ALL.into_iter().find(|curve| curve.kind() == kind);
        let pair = match (kind, curve) {
            (_, Some(curve)) => ecdsa(curve, rest),
            (b"ssh-ed25519", _) => ed25519(rest),
            (b"ssh-rsa", _) => rsa(rest),
            _ => return Err(Unusable::Kind),
        };
        pair.ok_or(Unusable::Damaged)?.map(Self::new)
    }

    pub(super) fn from_pkcs1(der: &[u8]) -> Result<Self, Unusable> {
        let pair = RsaKeyPair::from_der(der).map_err(|_| Unusable::Kind)?;
        Ok(Self::new(Pair::Rsa(Box::new(pair))))
    }

    pub(super) fn from_pkcs8(der: &[u8]) -> Result<Self, Unusable> {
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Ok(Self::new(Pair::Ed25519(pair)));
        }
        if let Ok(pair) = RsaKeyPair::from_pkcs8(der) {
            return Ok(Self::new(Pair::Rsa(Box::new(pair))));
        }
        let curves = Curve::ALL.into_iter();
        let mut pairs = curves.filter_map(|curve| {
            let pair = EcdsaKeyPair::from_pkcs8(curve.algorithm(), der, &SystemRandom::new());
            Some(Pair::Ecdsa(curve, pair.ok()?))
        });
        pairs.next().map(Self::new).ok_or(Unusable::Kind)
    }

    /// The older form of keys on curves is what PKCS#8 has within it.
    pub(super) fn from_sec1(der: &[u8]) -> Result<Self, Unusable> {
        let wrapped = Curve::ALL.into_iter().map(|curve| {
            let inner = element(0x04, der)?;
            let version = &[0x02, 1, 0][..];
            element(0x30, &[version, curve.identifier(), &inner].concat())
        });
        wrapped
            .flatten()
            .find_map(|der| Self::from_pkcs8(&der).ok())
            .ok_or(Unusable::Kind)
    }
}

/// One value in DER. None if it is larger than such keys are.
fn element(tag: u8, content: &[u8]) -> Option<Vec<u8>> {
    let length = u8::try_from(content.len()).ok()?;
    Some(match length {
        0..0x80 => [&[tag, length], content].concat(),
        _ => [&[tag, 0x81, length], content].concat(),
    })
}

/// None where the bytes end too early.
type Read = Option<Result<Pair, Unusable>>;

fn ed25519(rest: &mut Reader<'_>) -> Read {
    let public = rest.string()?;
    // The public half follows once more.
    let seed = rest.string()?.get(..32)?;
    let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public);
    Some(pair.map(Pair::Ed25519).map_err(|_| Unusable::Damaged))
}

fn ecdsa(curve: Curve, rest: &mut Reader<'_>) -> Read {
    let (_name, public, private) = (rest.string()?, rest.string()?, rest.number()?);
    let mut padded = vec![0; curve.width().checked_sub(private.len())?];
    padded.extend(private);
    let algorithm = curve.algorithm();
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &padded, public, &random);
    let pair = pair.map(|pair| Pair::Ecdsa(curve, pair));
    Some(pair.map_err(|_| Unusable::Damaged))
}

fn rsa(rest: &mut Reader<'_>) -> Read {
    let (n, e, d) = (rest.number()?, rest.number()?, rest.number()?);
    let (q_inverse, p, q) = (rest.number()?, rest.number()?, rest.number()?);
    // What is far too large is not worth the arithmetic; ring has the last word.
    if d.len() > n.len() || n.len() > 1024 {
        return Some(Err(Unusable::Kind));
    }
    let (p_exponent, q_exponent) = (remainder(d, &less_one(p)?), remainder(d, &less_one(q)?));
    let pair = RsaKeyPair::from_components(&KeyPairComponents {
        public_key: PublicKeyComponents { n, e },
        d,
        p,
        q,
        dP: without_zeros(&p_exponent),
        dQ: without_zeros(&q_exponent),
        qInv: q_inverse,
    });
    let pair = pair.map(|pair| Pair::Rsa(Box::new(pair)));
    Some(pair.map_err(|_| Unusable::Kind))
}

/// An odd number less one. None of an even one: no prime is.
fn less_one(number: &[u8]) -> Option<Vec<u8>> {
    let mut less = number.to_vec();
    let last = less.last_mut().filter(|last| **last % 2 == 1)?;
    *last -= 1;
    Some(less)
}

/// The remainder of a division of numbers whose largest bytes come first; of as many bytes as the
/// divisor. OpenSSH's form leaves out these two of an RSA key's numbers. It is done once, before
/// anything else is, so that the time that it takes tells nobody anything.
fn remainder(number: &[u8], divisor: &[u8]) -> Vec<u8> {
    let mut rest = vec![0; divisor.len()];
    for bit in (0..number.len() * 8).map(|bit| number[bit / 8] >> (7 - bit % 8) & 1) {
        let mut carry = bit;
        for byte in rest.iter_mut().rev() {
            (*byte, carry) = (*byte << 1 | carry, *byte >> 7);
        }
        if carry == 1 || rest.as_slice() >= divisor {
            let mut borrow = false;
            for (byte, less) in rest.iter_mut().zip(divisor).rev() {
                let (once, first) = byte.overflowing_sub(*less);
                let (twice, second) = once.overflowing_sub(u8::from(borrow));
                (*byte, borrow) = (twice, first || second);
            }
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn remainders_are_those_of_arithmetic(number: u64, divisor in 1..=u64::MAX) {
            let rest = remainder(&number.to_be_bytes(), &divisor.to_be_bytes());
            proptest::prop_assert_eq!(rest, (number % divisor).to_be_bytes());
        }

        #[test]
        fn remainders_of_longer_numbers(number: u128, divisor in 1..=u32::MAX) {
            let rest = remainder(&number.to_be_bytes(), &divisor.to_be_bytes());
            let expected = u32::try_from(number % u128::from(divisor)).unwrap();
            proptest::prop_assert_eq!(rest, expected.to_be_bytes());
        }
    }

    #[test]
    fn a_key_shows_nothing() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let key = Key::new(Pair::Ed25519(pair));
        assert_eq!(format!("{key:?}"), "Key { .. }");
    }
}
