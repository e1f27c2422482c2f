//! Scalar functions that compilers turn into vector code: no branches, no calls.
#![allow(
    clippy::inline_always,
    reason = "vector code needs the whole loop in one function"
)]

/// Sums kept side by side.
const LANES: usize = 16;

/// eˣ to within 2 units in the last place, for x from -87 to 88; flat beyond.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2, and the polynomial of Cephes' `expf` for e^r (Moshier 1992).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding 1.5·2²³ rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5e-1;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    (p * r * r + r + 1.0) * power
}

/// Φ(x), the normal distribution function, and e^(-x²/2).
///
/// The approximation 7.1.26 of Abramowitz and Stegun: an error of at most 1.5e-7.
#[inline(always)]
pub(super) fn normal(x: f32) -> (f32, f32) {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let mut p = 1.061_405_4;
    p = p * t - 1.453_152;
    p = p * t + 1.421_413_7;
    p = p * t - 0.284_496_74;
    p = p * t + 0.254_829_6;
    let bell = exp(-z * z);
    let tail = 0.5 * p * t * bell;
    (if x < 0.0 { tail } else { 1.0 - tail }, bell)
}

/// Σ x, in a fixed order.
#[inline(always)]
pub(super) fn sum(x: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += chunk[lane];
        }
    }
    total(sums) + rest.iter().sum::<f32>()
}

/// Σ x·y, in a fixed order.
#[inline(always)]
pub(super) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let (x_rest, y_rest) = (xs.remainder(), ys.remainder());
    for (x, y) in xs.zip(ys) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let rest: f32 = x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum();
    total(sums) + rest
}

/// The largest element.
#[inline(always)]
pub(super) fn max(x: &[f32]) -> f32 {
    let mut largest = [f32::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            largest[lane] = if chunk[lane] > largest[lane] {
                chunk[lane]
            } else {
                largest[lane]
            };
        }
    }
    largest
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max)
}

#[inline(always)]
fn total(sums: [f32; LANES]) -> f32 {
    let mut halves = [0.0; LANES / 2];
    for lane in 0..LANES / 2 {
        halves[lane] = sums[lane] + sums[lane + LANES / 2];
    }
    halves.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_exact_to_two_units() {
        for i in -8700..=8800 {
            let x = i as f32 * 0.01;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 2.4e-7, "e^{x}: {error}");
        }
        assert!(exp(-1e9) < 1e-37 && exp(-1e9) > 0.0);
    }

    #[test]
    fn the_normal_distribution_is_that_of_the_tables() {
        let table = [
            (0.0, 0.5),
            (1.0, 0.841_344_7),
            (-1.0, 0.158_655_25),
            (2.5, 0.993_790_3),
            (-4.0, 3.167e-5),
            (9.0, 1.0),
            (-20.0, 0.0),
        ];
        for (x, expected) in table {
            let (found, _) = normal(x);
            assert!((found - expected).abs() < 2e-7, "Φ({x}) = {found}");
        }
    }

    #[test]
    fn reductions_take_every_element() {
        let x: Vec<f32> = (1..=37).map(|i| i as f32).collect();
        assert!((sum(&x) - 703.0).abs() < 1e-3);
        assert!((dot(&x, &x) - 17_575.0).abs() < 1e-1);
        assert!((max(&x) - 37.0).abs() < 1e-6 && (max(&x[..20]) - 20.0).abs() < 1e-6);
    }
}
