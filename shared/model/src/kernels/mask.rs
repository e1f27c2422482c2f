//! Dropout masks (Srivastava et al. 2014) that are computed where they are used.
//!
//! burn's generator is one for the whole process; two trainings side by side would draw from it
//! in turn, and neither could be repeated. Here an element's fate is a hash of its position, so
//! that the backward pass finds it again without it having been stored.

use fedner_shared::vector::vectorized;
use rayon::prelude::*;

/// Which elements of one activation are dropped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Mask {
    first: u32,
    second: u32,
    /// An element whose 24-bit hash is below is dropped.
    threshold: u32,
    /// What the others are multiplied with, so that the mean stays.
    kept: f32,
}

const RANGE: f64 = (1 << 24) as f64;

impl Mask {
    /// The mask number `number` of a training with this seed; `None` where nothing is dropped.
    pub(crate) fn new(probability: f64, seed: u64, number: u64) -> Option<Self> {
        let threshold = (probability * RANGE).round() as u32;
        let key = splitmix(splitmix(seed) ^ number);
        (threshold > 0).then(|| Self {
            first: key as u32,
            second: (key >> 32) as u32,
            threshold,
            kept: (1.0 / (1.0 - f64::from(threshold) / RANGE)) as f32,
        })
    }

    /// What element `index` is multiplied with.
    #[allow(
        clippy::inline_always,
        reason = "so that loops over elements become vector code"
    )]
    #[inline(always)]
    pub(super) fn factor(&self, index: usize) -> f32 {
        let hash = lowbias(lowbias(index as u32 ^ self.first).wrapping_add(self.second));
        if hash >> 8 < self.threshold {
            0.0
        } else {
            self.kept
        }
    }
}

impl Mask {
    /// What the first `count` elements are multiplied with.
    pub(super) fn factors(&self, count: usize) -> Vec<f32> {
        const CHUNK: usize = 1 << 14;
        let mut factors = vec![0.0; count];
        let chunks = factors.par_chunks_mut(CHUNK).enumerate();
        chunks.for_each(|(number, chunk)| {
            vectorized(
                #[inline(always)]
                || {
                    for (index, factor) in chunk.iter_mut().enumerate() {
                        *factor = self.factor(number * CHUNK + index);
                    }
                },
            );
        });
        factors
    }
}

/// Two rounds of multiplication and shift, by C. Wellons' search for the least biased constants.
#[allow(
    clippy::inline_always,
    reason = "so that loops over elements become vector code"
)]
#[inline(always)]
fn lowbias(mut x: u32) -> u32 {
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// SplitMix64 (Steele, Lea and Flood 2014).
fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(seed: u64, number: u64) -> Vec<f32> {
        let mask = Mask::new(0.1, seed, number).expect("something is dropped");
        mask.factors(200_000)
    }

    #[test]
    fn masks_keep_the_mean_and_repeat_with_the_seed() {
        let mask = draw(1, 0);
        let mean = mask.iter().sum::<f32>() / mask.len() as f32;
        assert!((mean - 1.0).abs() < 0.005, "{mean}");
        assert_eq!(mask, draw(1, 0));
        assert_eq!(Mask::new(0.0, 1, 0), None);
    }

    #[test]
    fn masks_and_neighbours_are_independent() {
        let dropped = |mask: &[f32]| mask.iter().map(|f| *f == 0.0).collect::<Vec<_>>();
        let base = dropped(&draw(1, 0));
        let shifted: Vec<bool> = base[1..].to_vec();
        for other in [dropped(&draw(1, 1)), dropped(&draw(2, 0)), shifted] {
            let both = base.iter().zip(&other).filter(|(a, b)| **a && **b).count();
            // 1 % of 200,000, with a standard deviation of 44.
            assert!((1800..2200).contains(&both), "{both}");
        }
    }
}
