//! From packed bits to integers.

/// Bytes that must follow a payload: the unpacking reads whole words.
pub(super) const SPARE: usize = 16;

/// The code of the integer 0, -1, 1, -2, … is 0, 1, 2, 3, …
pub(super) const fn zigzag(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

const fn unzigzag(code: u32) -> i32 {
    ((code >> 1) as i32) ^ -((code & 1) as i32)
}

/// Reads `values.len()` codes of `width` bits; returns the union of the codes' bits. The payload
/// is followed by [`SPARE`] bytes of anything.
pub(super) fn unpack(payload: &[u8], width: usize, values: &mut [i32]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new()
        && width <= avx2::WIDEST
    {
        return avx2::unpack(simd, payload, width, values);
    }
    one_by_one(payload, width, 0, values)
}

/// Codes from bit `bit` of the payload on.
fn one_by_one(payload: &[u8], width: usize, bit: usize, values: &mut [i32]) -> u32 {
    let mask = (1u64 << width) - 1;
    let mut union = 0;
    for (index, value) in values.iter_mut().enumerate() {
        let bit = bit + index * width;
        let mut word = [0u8; 8];
        word.copy_from_slice(&payload[bit / 8..bit / 8 + 8]);
        let code = ((u64::from_le_bytes(word) >> (bit % 8)) & mask) as u32;
        union |= code;
        *value = unzigzag(code);
    }
    union
}

/// Eight codes at a time: `width` bytes hold eight codes, at byte and bit offsets that are the
/// same for every eight.
#[cfg(target_arch = "x86_64")]
#[expect(
    clippy::inline_always,
    reason = "only what is inlined into `vectorize` is compiled for the processor's instructions"
)]
mod avx2 {
    use std::arch::x86_64::{__m128i, __m256i};

    use pulp::x86::V3;

    use super::one_by_one;

    /// A code of more bits may straddle the four bytes that a lane is loaded with.
    pub(super) const WIDEST: usize = 25;
    const GROUP: usize = 8;

    pub(super) fn unpack(simd: V3, payload: &[u8], width: usize, values: &mut [i32]) -> u32 {
        simd.vectorize(
            #[inline(always)]
            || groups(simd, payload, width, values),
        )
    }

    #[inline(always)]
    fn groups(simd: V3, payload: &[u8], width: usize, values: &mut [i32]) -> u32 {
        let (avx, avx2) = (simd.avx, simd.avx2);
        // The upper four codes are loaded on their own: bytes move within 16 only.
        let upper = GROUP / 2 * width / 8;
        let (from, shift) = lanes(width, upper);
        let (from, shift): (__m256i, __m256i) = (pulp::cast(from), pulp::cast(shift));
        let mask = avx._mm256_set1_epi32(((1u64 << width) - 1) as i32);
        let (zero, one) = (avx._mm256_setzero_si256(), avx._mm256_set1_epi32(1));
        let mut union = zero;
        let whole = values.len() / GROUP * GROUP;
        let (grouped, rest) = values.split_at_mut(whole);
        for (index, group) in grouped.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
            let bytes = &payload[index * width..];
            let bytes = avx._mm256_set_m128i(sixteen(bytes, upper), sixteen(bytes, 0));
            let codes = avx2._mm256_shuffle_epi8(bytes, from);
            let codes = avx2._mm256_and_si256(avx2._mm256_srlv_epi32(codes, shift), mask);
            union = avx2._mm256_or_si256(union, codes);
            let sign = avx2._mm256_sub_epi32(zero, avx2._mm256_and_si256(codes, one));
            let half = avx2._mm256_srli_epi32::<1>(codes);
            *group = pulp::cast(avx2._mm256_xor_si256(half, sign));
        }
        let union: [u32; GROUP] = pulp::cast(union);
        let union = union.iter().fold(0, |all, bits| all | bits);
        union | one_by_one(payload, width, whole * width, rest)
    }

    #[inline(always)]
    fn sixteen(bytes: &[u8], at: usize) -> __m128i {
        let mut sixteen = [0u8; 16];
        sixteen.copy_from_slice(&bytes[at..at + 16]);
        pulp::cast(sixteen)
    }

    /// For each of eight codes: the four bytes it lies in, counted from the start of its half,
    /// and the bits below it in the first of them.
    fn lanes(width: usize, upper: usize) -> ([u8; 4 * GROUP], [u32; GROUP]) {
        let (mut from, mut shift) = ([0; 4 * GROUP], [0; GROUP]);
        for code in 0..GROUP {
            let bit = code * width;
            let start = if code < GROUP / 2 { 0 } else { upper };
            for byte in 0..4 {
                from[4 * code + byte] = (bit / 8 - start + byte) as u8;
            }
            shift[code] = (bit % 8) as u32;
        }
        (from, shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_way_reads_what_the_plain_one_reads_at_every_width() {
        for width in 0..=32usize {
            for count in [0usize, 1, 7, 8, 9, 100, 4096] {
                let bytes = (count * width).div_ceil(8) + SPARE;
                let payload: Vec<u8> = (0..bytes as u32)
                    .map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
                    .collect();
                let (mut fast, mut plain) = (vec![0; count], vec![0; count]);
                let union = unpack(&payload, width, &mut fast);
                assert_eq!(union, one_by_one(&payload, width, 0, &mut plain));
                assert_eq!(fast, plain, "{count} values of {width} bits");
            }
        }
    }

    #[test]
    fn codes_are_one_to_one() {
        for value in [0, -1, 1, -2, i32::MAX, i32::MIN] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
        assert_eq!([0, -1, 1, -2].map(zigzag), [0, 1, 2, 3]);
    }
}
