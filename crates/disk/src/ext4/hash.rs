//! The hash by which a directory's index is ordered: half MD4, over bytes taken as unsigned.

/// What the names of a file system are hashed with; not zero.
pub(super) type Seed = [u32; 4];

/// Major hash (bit 0 clear) and minor hash of a name.
pub(super) fn half_md4(name: &[u8], seed: &Seed) -> (u32, u32) {
    let mut state = *seed;
    for (index, chunk) in name.chunks(32).enumerate() {
        transform(&mut state, &words(chunk, name.len() - 32 * index));
    }
    let major = state[1] & !1;
    // The highest value stands for the end of a directory.
    let major = if major == 0xffff_fffe {
        0xffff_fffc
    } else {
        major
    };
    (major, state[2])
}

/// Eight words of up to 32 bytes, padded with what is left of the name's length.
fn words(chunk: &[u8], left: usize) -> [u32; 8] {
    let length = (left as u64 & 0xff) as u32;
    let mut pad = length | length << 8;
    pad |= pad << 16;
    let mut words = [pad; 8];
    for (word, bytes) in words.iter_mut().zip(chunk.chunks(4)) {
        *word = bytes
            .iter()
            .fold(pad, |word, byte| (word << 8).wrapping_add(u32::from(*byte)));
    }
    words
}

const ROUNDS: [(u32, [usize; 8], [u32; 4]); 3] = [
    (0, [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]),
    (0x5a82_7999, [1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13]),
    (0x6ed9_eba1, [3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15]),
];

fn transform(state: &mut Seed, input: &[u32; 8]) {
    let [mut a, mut b, mut c, mut d] = *state;
    for (round, (constant, order, shifts)) in ROUNDS.iter().enumerate() {
        for (step, word) in order.iter().enumerate() {
            let mixed = match round {
                0 => d ^ (b & (c ^ d)),
                1 => (b & c).wrapping_add((b ^ c) & d),
                _ => b ^ c ^ d,
            };
            let sum = a
                .wrapping_add(mixed)
                .wrapping_add(input[*word])
                .wrapping_add(*constant);
            (a, b, c, d) = (d, sum.rotate_left(shifts[step % 4]), b, c);
        }
    }
    for (word, added) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(added);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `debugfs`'s `dx_hash` answers for this seed.
    #[test]
    fn hashes_as_debugfs_does() {
        let seed = [0x0302_0100, 0x0706_0504, 0x0b0a_0908, 0x0f0e_0d0c];
        let cases: [(&[u8], (u32, u32)); 4] = [
            (b"a", (0x0a2f_a3a0, 0x6b8e_d956)),
            (b"hello", (0xaf3d_0524, 0x4eeb_19be)),
            (&[b'x'; 32], (0x69bc_108c, 0xfa99_93fa)),
            (&b"long-".repeat(20), (0x52aa_c648, 0x2069_9fb8)),
        ];
        for (name, expected) in cases {
            assert_eq!(half_md4(name, &seed), expected, "{name:?}");
        }
    }
}
