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

/// Where unpacked values go, each to a place of its own.
pub(super) enum Into<'a> {
    /// They are kept.
    Values(&'a mut [i32]),
    /// `weight` times each is added. The caller knows that the sums fit.
    Narrow(&'a mut [i32], i32),
    /// The same where 32 bits may not hold the sums.
    Wide(&'a mut [i64], i32),
}

/// Reads as many codes of `width` bits as there are places; returns the union of the codes' bits. The
/// payload is followed by [`SPARE`] bytes of anything.
pub(super) fn unpack(payload: &[u8], width: usize, into: Into<'_>) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new()
        && width <= avx2::WIDEST
    {
        return avx2::unpack(simd, payload, width, into);
    }
    plain(payload, width, 0, into)
}

/// Codes from bit `bit` of the payload on.
fn plain(payload: &[u8], width: usize, bit: usize, into: Into<'_>) -> u32 {
    match into {
        Into::Values(values) => one_by_one(payload, width, bit, values, |to, value| *to = value),
        Into::Narrow(sums, weight) => one_by_one(payload, width, bit, sums, |sum, value| {
            *sum = sum.wrapping_add(weight.wrapping_mul(value));
        }),
        Into::Wide(sums, weight) => one_by_one(payload, width, bit, sums, |sum, value| {
            *sum += i64::from(weight) * i64::from(value);
        }),
    }
}

fn one_by_one<T>(
    payload: &[u8],
    width: usize,
    bit: usize,
    places: &mut [T],
    mut put: impl FnMut(&mut T, i32),
) -> u32 {
    let mask = (1u64 << width) - 1;
    let mut union = 0;
    for (index, place) in places.iter_mut().enumerate() {
        let bit = bit + index * width;
        let mut word = [0u8; 8];
        word.copy_from_slice(&payload[bit / 8..bit / 8 + 8]);
        let code = ((u64::from_le_bytes(word) >> (bit % 8)) & mask) as u32;
        union |= code;
        put(place, unzigzag(code));
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

    use super::{Into, plain};

    /// A code of more bits may straddle the four bytes that a lane is loaded with.
    pub(super) const WIDEST: usize = 25;
    const GROUP: usize = 8;

    pub(super) fn unpack(simd: V3, payload: &[u8], width: usize, into: Into<'_>) -> u32 {
        simd.vectorize(
            #[inline(always)]
            || match into {
                Into::Values(values) => keep(simd, payload, width, values),
                Into::Narrow(sums, weight) => add_narrow(simd, payload, width, sums, weight),
                Into::Wide(sums, weight) => add_wide(simd, payload, width, sums, weight),
            },
        )
    }

    #[inline(always)]
    fn keep(simd: V3, payload: &[u8], width: usize, values: &mut [i32]) -> u32 {
        let whole = values.len() / GROUP * GROUP;
        let (grouped, rest) = values.split_at_mut(whole);
        let union = groups(
            simd,
            payload,
            width,
            grouped,
            #[inline(always)]
            |group, values| *group = pulp::cast(values),
        );
        union | plain(payload, width, whole * width, Into::Values(rest))
    }

    #[inline(always)]
    fn add_narrow(simd: V3, payload: &[u8], width: usize, sums: &mut [i32], weight: i32) -> u32 {
        let avx2 = simd.avx2;
        let whole = sums.len() / GROUP * GROUP;
        let (grouped, rest) = sums.split_at_mut(whole);
        let factor = simd.avx._mm256_set1_epi32(weight);
        let union = groups(
            simd,
            payload,
            width,
            grouped,
            #[inline(always)]
            |group, values| {
                let product = avx2._mm256_mullo_epi32(values, factor);
                *group = pulp::cast(avx2._mm256_add_epi32(pulp::cast(*group), product));
            },
        );
        union | plain(payload, width, whole * width, Into::Narrow(rest, weight))
    }

    #[inline(always)]
    fn add_wide(simd: V3, payload: &[u8], width: usize, sums: &mut [i64], weight: i32) -> u32 {
        let (avx, avx2) = (simd.avx, simd.avx2);
        let whole = sums.len() / GROUP * GROUP;
        let (grouped, rest) = sums.split_at_mut(whole);
        // Only the lower half of each 64 bits counts.
        let factor = avx._mm256_set1_epi64x(weight.into());
        let union = groups(
            simd,
            payload,
            width,
            grouped,
            #[inline(always)]
            |group: &mut [i64; GROUP], values| {
                let [low, high]: [__m128i; 2] = pulp::cast(values);
                let [first, second]: [__m256i; 2] = pulp::cast(*group);
                let product =
                    |half| avx2._mm256_mul_epi32(avx2._mm256_cvtepi32_epi64(half), factor);
                *group = pulp::cast([
                    avx2._mm256_add_epi64(first, product(low)),
                    avx2._mm256_add_epi64(second, product(high)),
                ]);
            },
        );
        union | plain(payload, width, whole * width, Into::Wide(rest, weight))
    }

    /// `put` takes the values of each eight places.
    #[inline(always)]
    fn groups<T>(
        simd: V3,
        payload: &[u8],
        width: usize,
        places: &mut [T],
        mut put: impl FnMut(&mut [T; GROUP], __m256i),
    ) -> u32 {
        let (avx, avx2) = (simd.avx, simd.avx2);
        // The upper four codes are loaded on their own: bytes move within 16 only.
        let upper = GROUP / 2 * width / 8;
        let (from, shift) = lanes(width, upper);
        let (from, shift): (__m256i, __m256i) = (pulp::cast(from), pulp::cast(shift));
        let mask = avx._mm256_set1_epi32(((1u64 << width) - 1) as i32);
        let (zero, one) = (avx._mm256_setzero_si256(), avx._mm256_set1_epi32(1));
        let mut union = zero;
        for (index, group) in places.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
            let bytes = &payload[index * width..];
            let bytes = avx._mm256_set_m128i(sixteen(bytes, upper), sixteen(bytes, 0));
            let codes = avx2._mm256_shuffle_epi8(bytes, from);
            let codes = avx2._mm256_and_si256(avx2._mm256_srlv_epi32(codes, shift), mask);
            union = avx2._mm256_or_si256(union, codes);
            let sign = avx2._mm256_sub_epi32(zero, avx2._mm256_and_si256(codes, one));
            let half = avx2._mm256_srli_epi32::<1>(codes);
            put(group, avx2._mm256_xor_si256(half, sign));
        }
        let union: [u32; GROUP] = pulp::cast(union);
        union.iter().fold(0, |all, bits| all | bits)
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
                let (mut fast, mut slow) = (vec![0; count], vec![0; count]);
                let union = unpack(&payload, width, Into::Values(&mut fast));
                let expected = plain(&payload, width, 0, Into::Values(&mut slow));
                assert_eq!(union, expected);
                assert_eq!(fast, slow, "{count} values of {width} bits");
                assert_sums(&payload, width, &slow, union);
            }
        }
    }

    /// Sums are those of the values, whatever was there before.
    fn assert_sums(payload: &[u8], width: usize, values: &[i32], union: u32) {
        for weight in [1, -3, 1356, i32::MAX] {
            let before = |index: usize| index as i32 * 77 - 5000;
            let mut wide: Vec<i64> = (0..values.len()).map(|i| before(i).into()).collect();
            let found = unpack(payload, width, Into::Wide(&mut wide, weight));
            assert_eq!(found, union);
            for (index, (sum, value)) in wide.iter().zip(values).enumerate() {
                let expected = i64::from(before(index)) + i64::from(weight) * i64::from(*value);
                assert_eq!(*sum, expected, "{width} bits, {weight}");
            }
            if i64::from(weight).abs() << width >= 1 << 30 {
                continue;
            }
            let mut narrow: Vec<i32> = (0..values.len()).map(before).collect();
            let found = unpack(payload, width, Into::Narrow(&mut narrow, weight));
            assert_eq!(found, union);
            for (sum, expected) in narrow.iter().zip(&wide) {
                assert_eq!(i64::from(*sum), *expected, "{width} bits, {weight}");
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
