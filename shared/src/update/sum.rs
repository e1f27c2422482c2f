//! Adding updates, as integers, to weights.

use crate::vector::vectorized;

/// Adds `weight` times each value to the sums. The caller knows that they fit.
pub fn add_scaled(sums: &mut [i64], weight: i64, values: &[i32]) {
    vectorized(
        #[inline(always)]
        || {
            for (sum, value) in sums.iter_mut().zip(values) {
                // Checks of overflow would keep this from being done side by side.
                *sum = sum.wrapping_add(weight.wrapping_mul(i64::from(*value)));
            }
        },
    );
}

/// The squared L2 norm, exactly, of at most 2^31 values.
pub fn squared_norm(values: &[i32]) -> u128 {
    let (low, high) = vectorized(
        #[inline(always)]
        || {
            values.iter().fold((0u64, 0u64), |(low, high), value| {
                let magnitude = u64::from(value.unsigned_abs());
                add_square((low, high), magnitude)
            })
        },
    );
    u128::from(low) + (u128::from(high) << 32)
}

/// The squared L2 distance, exactly, of at most 2^31 values each.
pub fn squared_distance(first: &[i32], second: &[i32]) -> u128 {
    let (low, high) = vectorized(
        #[inline(always)]
        || {
            let pairs = first.iter().zip(second);
            pairs.fold((0u64, 0u64), |(low, high), (first, second)| {
                add_square((low, high), u64::from(first.abs_diff(*second)))
            })
        },
    );
    u128::from(low) + (u128::from(high) << 32)
}

/// Adds the square of a number below 2^32, in two halves. Sums of 2^31 halves fit, so that nothing wraps; checks of that
/// would keep squares from being added side by side.
#[inline(always)]
#[allow(
    clippy::inline_always,
    reason = "only what is inlined is compiled for the processor's instructions"
)]
fn add_square((low, high): (u64, u64), number: u64) -> (u64, u64) {
    let square = number.wrapping_mul(number);
    let (below, above) = (square & 0xffff_ffff, square >> 32);
    (low.wrapping_add(below), high.wrapping_add(above))
}

/// Adds `sums`, in units of `step`, to float32 weights in little endian. The same on every
/// machine: float64 arithmetic, rounded once to float32.
pub fn add_to_weights(weights: &mut [u8], sums: &[i64], step: f64) {
    vectorized(
        #[inline(always)]
        || {
            for (weight, sum) in weights.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
                let before = f64::from(f32::from_le_bytes(*weight));
                *weight = ((before + *sum as f64 * step) as f32).to_le_bytes();
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_weights_are_those_of_plain_arithmetic() {
        let values: Vec<i32> = (0..1003)
            .map(|i: i32| i.wrapping_mul(0x1234_5677))
            .collect();
        let mut sums = vec![7i64; values.len()];
        add_scaled(&mut sums, 1 << 30, &values);
        add_scaled(&mut sums, -3, &values);
        let square = |value: &i32| u128::from(value.unsigned_abs()).pow(2);
        let norm = |values: &[i32]| values.iter().map(square).sum::<u128>();
        assert_eq!(squared_norm(&values), norm(&values));
        let apart = |a: &i32, b: &i32| u128::from(a.abs_diff(*b)).pow(2);
        let mut reversed = values.clone();
        reversed.reverse();
        reversed[7] = i32::MIN;
        let expected = values.iter().zip(&reversed).map(|(a, b)| apart(a, b));
        assert_eq!(squared_distance(&values, &reversed), expected.sum());
        let ends = ([i32::MIN; 9], [i32::MAX; 9]);
        assert_eq!(
            squared_distance(&ends.0, &ends.1),
            9 * u128::from(u32::MAX).pow(2)
        );
        let extremes = [i32::MIN; 9];
        assert_eq!(squared_norm(&extremes), norm(&extremes));
        let before: Vec<f32> = (0..1003).map(|i| i as f32 * 0.001 - 0.4).collect();
        let mut weights: Vec<u8> = before.iter().flat_map(|w| w.to_le_bytes()).collect();
        let step = 2f64.powi(-60);
        add_to_weights(&mut weights, &sums, step);
        for (at, value) in values.iter().enumerate() {
            let sum = 7 + ((1i64 << 30) - 3) * i64::from(*value);
            assert_eq!(sums[at], sum);
            let after = (f64::from(before[at]) + sum as f64 * step) as f32;
            assert_eq!(weights[4 * at..4 * at + 4], after.to_le_bytes());
        }
    }
}
