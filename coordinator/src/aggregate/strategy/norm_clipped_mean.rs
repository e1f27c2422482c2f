//! The weighted mean of updates that are not much longer than most: the norm thresholding of Sun,
//! Kairouz, Suresh and McMahan 2019 (section 4), whose threshold follows from the round's own norms.

use fedner_shared::plan::FACTOR_BITS;
use fedner_shared::update::add_scaled;

use super::{Block, Combination, Member, Reads, Strategy};
use crate::aggregate::Error;

#[derive(Debug)]
pub(super) struct NormClippedMean {
    pub(super) factor: f64,
}

impl Strategy for NormClippedMean {
    fn reads(&self) -> Reads {
        Reads::Norms
    }

    fn combination(&self, members: &[Member]) -> Box<dyn Combination> {
        let mut norms: Vec<u128> = members.iter().map(|m| m.squared_norm).collect();
        norms.sort_unstable();
        // Of an even number the lower of the middle two: half of the members cannot raise it.
        let median = norms[(norms.len() - 1) / 2];
        let factor = (self.factor * f64::from(1u32 << FACTOR_BITS)) as u64;
        let scaled = |m: &Member| i64::from(m.weight) * scale(factor, median, m.squared_norm);
        Box::new(ScaledSum {
            factors: members.iter().map(scaled).collect(),
            weights: members.iter().map(|m| m.weight.unsigned_abs()).collect(),
        })
    }
}

/// The factor `min(1, F·√(m/s))` in steps of 2^-16, rounded down: `√(f²·m/s)` with f = 2^16·F.
///
/// m and s lose bits alike where the product would not fit, which changes their ratio by less than
/// 2^-40.
pub(in crate::aggregate) fn scale(factor: u64, median: u128, squared: u128) -> i64 {
    const ONE: u128 = 1 << FACTOR_BITS;
    let excess = u128::BITS - squared.max(median).leading_zeros();
    let shift = excess.saturating_sub(u128::BITS - 2 * 24);
    let (median, squared) = (median >> shift, squared >> shift);
    let limit = u128::from(factor) * u128::from(factor) * median;
    match limit.checked_div(squared) {
        Some(ratio) => ratio.isqrt().min(ONE) as i64,
        // Nothing is not too long.
        None => ONE as i64,
    }
}

/// Σ n_k c_k x_k, of which 2^16 · Σ n_k are one grid step.
#[derive(Debug)]
struct ScaledSum {
    factors: Vec<i64>,
    weights: Vec<u32>,
}

impl Combination for ScaledSum {
    fn divisor(&self, takes_part: &dyn Fn(usize) -> bool) -> u64 {
        let parts = self.weights.iter().enumerate();
        let parts = parts.filter(|(member, _)| takes_part(*member));
        parts.map(|(_, weight)| u64::from(*weight)).sum::<u64>() << FACTOR_BITS
    }

    fn combine(&self, block: &mut Block<'_>, sums: &mut [i64]) -> Result<(), Error> {
        for (member, factor) in self.factors.iter().enumerate() {
            // The plan was checked: 2^16 · institutions · weight · bound is below 2^62.
            add_scaled(sums, *factor, block.values(member)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: u64 = 1 << FACTOR_BITS;

    #[test]
    fn only_what_is_longer_is_scaled_and_to_the_limit() {
        assert_eq!(scale(ONE, 100, 100), 1 << 16);
        assert_eq!(scale(ONE, 100, 25), 1 << 16);
        assert_eq!(scale(ONE, 100, 400), 1 << 15);
        assert_eq!(scale(2 * ONE, 100, 400), 1 << 16);
        assert_eq!(scale(ONE / 2, 100, 100), 1 << 15);
        assert_eq!(scale(ONE, 0, 0), 1 << 16);
        assert_eq!(scale(ONE, 0, 5), 0);
        // The largest norms that there can be: 2^31 weights of 2^31.
        assert_eq!(scale(64 * ONE, 1 << 93, 1 << 93), 1 << 16);
        assert_eq!(scale(ONE, 1 << 91, 1 << 93), 1 << 15);
        // Rounded down: never longer than the limit.
        assert_eq!(scale(ONE, 1, 3), 37_837);
    }
}
