//! The forms in which SSH writes values (RFC 4251, section 5): strings with their lengths before
//! them, and numbers as such strings.

/// Takes values from the beginning of bytes. Each is None where the bytes end too early.
#[derive(Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        let bytes = self.bytes(4)?.first_chunk()?;
        Some(u32::from_be_bytes(*bytes))
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.bytes(length)
    }

    /// A number that is not negative, without zeros before it.
    pub(super) fn number(&mut self) -> Option<&'a [u8]> {
        self.string().map(without_zeros)
    }
}

/// A number's bytes, the largest first, without zeros before them.
pub(super) fn without_zeros(bytes: &[u8]) -> &[u8] {
    let first = bytes.iter().position(|byte| *byte != 0);
    &bytes[first.unwrap_or(bytes.len())..]
}

/// Adds a string. What is longer than any message has been refused before.
pub(super) fn put_string(to: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    to.extend(length.to_be_bytes());
    to.extend(bytes);
}

/// Adds a number that is not negative.
pub(super) fn put_number(to: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = without_zeros(bytes);
    match bytes.first() {
        // With its first bit set it would be negative.
        Some(0x80..) => put_string(to, &[&[0], bytes].concat()),
        _ => put_string(to, bytes),
    }
}

/// These values as strings, one after the other.
pub(super) fn strings(values: &[&[u8]]) -> Vec<u8> {
    let mut all = Vec::new();
    for value in values {
        put_string(&mut all, value);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_needless_zeros_and_are_never_negative() {
        for (number, written) in [
            (&[][..], &[0, 0, 0, 0][..]),
            (&[0, 0], &[0, 0, 0, 0]),
            (&[1], &[0, 0, 0, 1, 1]),
            (&[0, 0x7f], &[0, 0, 0, 1, 0x7f]),
            (&[0x80], &[0, 0, 0, 2, 0, 0x80]),
            (&[0, 0xff, 0], &[0, 0, 0, 3, 0, 0xff, 0]),
        ] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            assert_eq!(bytes, written, "{number:?}");
            let mut reader = Reader(&bytes);
            assert_eq!(reader.number(), Some(without_zeros(number)));
            assert_eq!(reader.0, [0; 0]);
        }
    }

    #[test]
    fn what_ends_too_early_is_nothing() {
        for bytes in [&[][..], &[0, 0, 0], &[0, 0, 0, 1], &[0xff; 12]] {
            assert_eq!(Reader(bytes).string(), None, "{bytes:?}");
        }
    }
}
