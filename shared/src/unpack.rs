//! From packed bits to integers: codes of one width, side by side, least significant bit first.
#![allow(
    clippy::inline_always,
    reason = "only what is inlined into `vectorize` is compiled for the processor's instructions"
)]

/// Bytes that must follow a payload: the unpacking reads whole words.
pub const SPARE: usize = 64;

/// The code of the integer 0, -1, 1, -2, … is 0, 1, 2, 3, …
pub(crate) const fn zigzag(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

const fn unzigzag(code: u32) -> i32 {
    ((code >> 1) as i32) ^ -((code & 1) as i32)
}

/// The widest code that [`unpack`] reads.
pub const LARGEST_WIDTH: u32 = 32;

/// Where unpacked codes go, each to a place of its own.
#[derive(Debug)]
pub enum Into<'a> {
    /// The integers of zigzag codes are kept.
    Values(&'a mut [i32]),
    /// `weight` times each is added. The caller knows that the sums fit.
    Narrow(&'a mut [i32], i32),
    /// The same where 32 bits may not hold the sums.
    Wide(&'a mut [i64], i32),
    /// The codes themselves are added modulo 2^64.
    Added(&'a mut [u64]),
    /// They are subtracted modulo 2^64.
    Subtracted(&'a mut [u64]),
}

/// Reads as many codes of `width` bits as there are places; returns the union of the codes' bits. The
/// payload is followed by [`SPARE`] bytes of anything.
pub fn unpack(payload: &[u8], width: usize, into: Into<'_>) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V4::try_new() {
        return avx512::unpack(simd, payload, width, into);
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new()
        && width <= avx2::WIDEST
    {
        return avx2::unpack(simd, payload, width, into);
    }
    plain(payload, width, into)
}

/// Codes one by one.
fn plain(payload: &[u8], width: usize, into: Into<'_>) -> u32 {
    let code = code(payload, width, 0);
    match into {
        Into::Values(values) => one_by_one(code, values, keep),
        Into::Narrow(sums, weight) => one_by_one(code, sums, add_narrow(weight)),
        Into::Wide(sums, weight) => one_by_one(code, sums, add_wide(weight)),
        Into::Added(sums) => one_by_one(code, sums, add_code),
        Into::Subtracted(sums) => one_by_one(code, sums, subtract_code),
    }
}

/// Reads the code of a number, counted from bit `first` of the payload on.
fn code(payload: &[u8], width: usize, first: usize) -> impl Fn(usize) -> u32 {
    let mask = ((1u64 << width) - 1) as u32;
    move |index| {
        let bit = first + index * width;
        let mut word = [0u8; 8];
        word.copy_from_slice(&payload[bit / 8..bit / 8 + 8]);
        (u64::from_le_bytes(word) >> (bit % 8)) as u32 & mask
    }
}

fn one_by_one<T>(code: impl Fn(usize) -> u32, places: &mut [T], put: impl Fn(&mut T, u32)) -> u32 {
    let mut union = 0;
    for (index, place) in places.iter_mut().enumerate() {
        let code = code(index);
        union |= code;
        put(place, code);
    }
    union
}

/// The same, `G` codes at a time, a multiple of eight. `codes` reads them, and begins at a byte.
#[inline(always)]
fn grouped<const G: usize>(
    payload: &[u8],
    width: usize,
    into: Into<'_>,
    codes: impl Fn(&[u8]) -> [u32; G],
) -> u32 {
    let payload = (payload, width);
    match into {
        Into::Values(values) => all_groups(payload, values, codes, keep),
        Into::Narrow(sums, weight) => all_groups(payload, sums, codes, add_narrow(weight)),
        Into::Wide(sums, weight) => all_groups(payload, sums, codes, add_wide(weight)),
        Into::Added(sums) => all_groups(payload, sums, codes, add_code),
        Into::Subtracted(sums) => all_groups(payload, sums, codes, subtract_code),
    }
}

/// Whole groups together, and what is left one by one.
#[inline(always)]
fn all_groups<T, const G: usize>(
    (payload, width): (&[u8], usize),
    places: &mut [T],
    codes: impl Fn(&[u8]) -> [u32; G],
    put: impl Fn(&mut T, u32),
) -> u32 {
    let (groups, rest) = places.as_chunks_mut();
    let first = groups.len() * G * width;
    let union = group_by_group(payload, width, groups, codes, &put);
    union | one_by_one(code(payload, width, first), rest, put)
}

#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "vector instructions are made of loops over places, and not of these iterators"
)]
fn group_by_group<T, const G: usize>(
    payload: &[u8],
    width: usize,
    places: &mut [[T; G]],
    codes: impl Fn(&[u8]) -> [u32; G],
    put: impl Fn(&mut T, u32),
) -> u32 {
    let mut union = [0; G];
    for (index, group) in places.iter_mut().enumerate() {
        let codes = codes(&payload[index * (G / 8 * width)..]);
        for lane in 0..G {
            union[lane] |= codes[lane];
            put(&mut group[lane], codes[lane]);
        }
    }
    union.iter().fold(0, |all, bits| all | bits)
}

#[inline(always)]
fn keep(place: &mut i32, code: u32) {
    *place = unzigzag(code);
}

#[inline(always)]
fn add_narrow(weight: i32) -> impl Fn(&mut i32, u32) {
    #[inline(always)]
    move |sum: &mut i32, code: u32| {
        *sum = sum.wrapping_add(weight.wrapping_mul(unzigzag(code)));
    }
}

#[inline(always)]
fn add_wide(weight: i32) -> impl Fn(&mut i64, u32) {
    // The product of two i32 fits, and the caller knows that the sums do.
    #[inline(always)]
    move |sum: &mut i64, code: u32| {
        *sum = sum.wrapping_add(i64::from(weight).wrapping_mul(unzigzag(code).into()));
    }
}

#[inline(always)]
fn add_code(sum: &mut u64, code: u32) {
    *sum = sum.wrapping_add(code.into());
}

#[inline(always)]
fn subtract_code(sum: &mut u64, code: u32) {
    *sum = sum.wrapping_sub(code.into());
}

/// Sixteen codes at a time: they lie in sixteen words at most, at words and bits that are the same for every
/// sixteen.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::__m512i;

    use pulp::x86::V4;

    use super::{Into, SPARE, grouped};

    const GROUP: usize = 16;

    pub(super) fn unpack(simd: V4, payload: &[u8], width: usize, into: Into<'_>) -> u32 {
        simd.vectorize(
            #[inline(always)]
            || grouped(payload, width, into, codes(simd, width)),
        )
    }

    #[inline(always)]
    fn codes(simd: V4, width: usize) -> impl Fn(&[u8]) -> [u32; GROUP] {
        let avx = simd.avx512f;
        let bits: [u32; GROUP] = std::array::from_fn(|code| (code * width) as u32);
        let (first, second): (__m512i, __m512i) = (
            pulp::cast(bits.map(|bit| bit / 32)),
            pulp::cast(bits.map(|bit| bit / 32 + 1)),
        );
        // A code that begins with its word takes nothing of the second, which is shifted out.
        let (below, above): (__m512i, __m512i) = (
            pulp::cast(bits.map(|bit| bit % 32)),
            pulp::cast(bits.map(|bit| 32 - bit % 32)),
        );
        let mask = avx._mm512_set1_epi32(((1u64 << width) - 1) as i32);
        #[inline(always)]
        move |payload: &[u8]| {
            let words = payload.first_chunk::<SPARE>().expect("spare bytes");
            let words: __m512i = pulp::cast(*words);
            let low = avx._mm512_srlv_epi32(avx._mm512_permutexvar_epi32(first, words), below);
            let high = avx._mm512_sllv_epi32(avx._mm512_permutexvar_epi32(second, words), above);
            pulp::cast(avx._mm512_and_si512(avx._mm512_or_si512(low, high), mask))
        }
    }
}

/// Eight codes at a time: `width` bytes hold eight codes, at byte and bit offsets that are the
/// same for every eight.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{__m128i, __m256i};

    use pulp::x86::V3;

    use super::{Into, grouped};

    /// A code of more bits may straddle the four bytes that a lane is loaded with.
    pub(super) const WIDEST: usize = 25;
    const GROUP: usize = 8;

    pub(super) fn unpack(simd: V3, payload: &[u8], width: usize, into: Into<'_>) -> u32 {
        simd.vectorize(
            #[inline(always)]
            || grouped(payload, width, into, codes(simd, width)),
        )
    }

    #[inline(always)]
    fn codes(simd: V3, width: usize) -> impl Fn(&[u8]) -> [u32; GROUP] {
        let (avx, avx2) = (simd.avx, simd.avx2);
        // The upper four codes are loaded on their own: bytes move within 16 only.
        let upper = GROUP / 2 * width / 8;
        let (from, shift) = lanes(width, upper);
        let (from, shift): (__m256i, __m256i) = (pulp::cast(from), pulp::cast(shift));
        let mask = avx._mm256_set1_epi32(((1u64 << width) - 1) as i32);
        #[inline(always)]
        move |payload: &[u8]| {
            let bytes = avx._mm256_set_m128i(sixteen(&payload[upper..]), sixteen(payload));
            let codes = avx2._mm256_shuffle_epi8(bytes, from);
            let codes = avx2._mm256_srlv_epi32(codes, shift);
            pulp::cast(avx2._mm256_and_si256(codes, mask))
        }
    }

    #[inline(always)]
    fn sixteen(bytes: &[u8]) -> __m128i {
        pulp::cast(*bytes.first_chunk::<16>().expect("spare bytes"))
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
    fn the_fast_ways_read_what_the_plain_one_reads_at_every_width() {
        for width in 0..=32usize {
            for count in [0usize, 1, 7, 8, 9, 100, 4096] {
                let bytes = (count * width).div_ceil(8) + SPARE;
                let payload: Vec<u8> = (0..bytes as u32)
                    .map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
                    .collect();
                let mut slow = vec![0; count];
                let expected = plain(&payload, width, Into::Values(&mut slow));
                for way in ways(width) {
                    let mut fast = vec![0; count];
                    assert_eq!(way(&payload, width, Into::Values(&mut fast)), expected);
                    assert_eq!(fast, slow, "{count} values of {width} bits");
                    assert_sums(way, &payload, width, &slow, expected);
                    assert_codes(way, &payload, width, &slow);
                }
            }
        }
    }

    type Way = fn(&[u8], usize, Into<'_>) -> u32;

    /// Those that this processor has, of which `unpack` takes the fastest.
    fn ways(width: usize) -> Vec<Way> {
        let mut ways: Vec<Way> = vec![unpack];
        #[cfg(target_arch = "x86_64")]
        if pulp::x86::V3::try_new().is_some() && width <= avx2::WIDEST {
            ways.push(|payload, width, into| {
                let simd = pulp::x86::V3::try_new().expect("it was there");
                avx2::unpack(simd, payload, width, into)
            });
        }
        ways
    }

    /// Codes are added and subtracted, whatever was there before.
    fn assert_codes(way: Way, payload: &[u8], width: usize, values: &[i32]) {
        let before = |index: usize| (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut added: Vec<u64> = (0..values.len()).map(before).collect();
        let mut subtracted = added.clone();
        way(payload, width, Into::Added(&mut added));
        way(payload, width, Into::Subtracted(&mut subtracted));
        for (index, value) in values.iter().enumerate() {
            let code = u64::from(zigzag(*value));
            assert_eq!(added[index], before(index).wrapping_add(code));
            assert_eq!(subtracted[index], before(index).wrapping_sub(code));
        }
    }

    /// Sums are those of the values, whatever was there before.
    fn assert_sums(way: Way, payload: &[u8], width: usize, values: &[i32], union: u32) {
        for weight in [1, -3, 1356, i32::MAX] {
            let before = |index: usize| index as i32 * 77 - 5000;
            let mut wide: Vec<i64> = (0..values.len()).map(|i| before(i).into()).collect();
            let found = way(payload, width, Into::Wide(&mut wide, weight));
            assert_eq!(found, union);
            for (index, (sum, value)) in wide.iter().zip(values).enumerate() {
                let expected = i64::from(before(index)) + i64::from(weight) * i64::from(*value);
                assert_eq!(*sum, expected, "{width} bits, {weight}");
            }
            if i64::from(weight).abs() << width >= 1 << 30 {
                continue;
            }
            let mut narrow: Vec<i32> = (0..values.len()).map(before).collect();
            let found = way(payload, width, Into::Narrow(&mut narrow, weight));
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
