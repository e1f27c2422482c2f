//! Poisson sampling: who is in a step.

use rand::Rng;

use crate::noise::Generator;

/// 2^64.
const WORD: f64 = 18_446_744_073_709_551_616.0;

/// The numbers of those of `units` units that are in one step, each with probability exactly `rate`
/// and independently of the others, in rising order. It may be none: the step's noise is then
/// released all the same, or that it was empty would be known.
///
/// The accountants' sampling rate is this probability, not the part of units that came out; divide
/// sums by `rate · units`, never by how many there are. What the step does with them must not
/// depend on the batch but through the clipped sum.
///
/// The lemma *sampling* of the [crate] has the proof.
///
/// `rate` is a number from 0 to 1; anything below counts as 0 and anything above as 1.
pub fn poisson(rate: f64, units: usize, generator: &mut Generator) -> Vec<usize> {
    let random = generator.bulk();
    (0..units).filter(|_| happens(rate, random)).collect()
}

/// `count` of the numbers below `of`, each set of them with the same probability, in rising order.
pub fn subset(of: usize, count: usize, generator: &mut Generator) -> Vec<usize> {
    let count = count.min(of);
    let mut chosen = rand::seq::index::sample(generator.bulk(), of, count).into_vec();
    chosen.sort_unstable();
    chosen
}

/// Whether U < rate for a uniform real number U, of which 64 bits at a time are drawn until they
/// decide: an f64 is a fraction of finitely many bits, so no rounding is involved.
fn happens(rate: f64, random: &mut impl Rng) -> bool {
    if rate >= 1.0 {
        return true;
    }
    let mut rest = rate;
    while rest > 0.0 {
        // Exact: a power of two, and the parts of one f64.
        let scaled = rest * WORD;
        let (word, whole) = (random.next_u64(), scaled.floor());
        if word != whole as u64 {
            return word < whole as u64;
        }
        rest = scaled - whole;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_is_in_with_the_rate_and_independently() {
        let mut generator = Generator::from_seed([1; 32]);
        let (units, steps, rate) = (1000, 400, 0.2048);
        let mut by_unit = vec![0u32; units];
        let mut sizes = Vec::new();
        for _ in 0..steps {
            let batch = poisson(rate, units, &mut generator);
            assert!(batch.is_sorted() && batch.iter().all(|unit| *unit < units));
            sizes.push(batch.len() as f64);
            for unit in batch {
                by_unit[unit] += 1;
            }
        }
        // Binomial: mean and variance of the sizes, and every unit's own count.
        let mean = sizes.iter().sum::<f64>() / f64::from(steps);
        let deviation = (units as f64 * rate * (1.0 - rate)).sqrt();
        assert!(
            (mean - 204.8).abs() < 6.0 * deviation / f64::from(steps).sqrt(),
            "{mean}"
        );
        let variance =
            sizes.iter().map(|size| (size - mean).powi(2)).sum::<f64>() / f64::from(steps);
        assert!(
            (variance / (deviation * deviation) - 1.0).abs() < 0.45,
            "{variance}"
        );
        let allowed = 6.0 * (f64::from(steps) * rate * (1.0 - rate)).sqrt();
        for count in by_unit {
            assert!(
                (f64::from(count) - f64::from(steps) * rate).abs() < allowed,
                "{count}"
            );
        }
    }

    #[test]
    fn the_ends_and_tiny_rates() {
        let mut generator = Generator::from_seed([2; 32]);
        assert!(poisson(0.0, 1000, &mut generator).is_empty());
        assert!(poisson(f64::NAN, 1000, &mut generator).is_empty());
        assert_eq!(poisson(1.0, 1000, &mut generator).len(), 1000);
        assert!(poisson(1e-300, 1000, &mut generator).is_empty());
        assert!(poisson(0.5, 0, &mut generator).is_empty());
    }

    /// Words that tie with the rate's first bits.
    struct Words(Vec<u64>);

    impl rand::TryRng for Words {
        type Error = std::convert::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            unreachable!("words only")
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            Ok(self.0.pop().expect("a word is left"))
        }
        fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Self::Error> {
            unreachable!("words only")
        }
    }

    #[test]
    fn ties_are_settled_by_further_bits() {
        // 2^-70 + 2^-72: no bit among the first 64, then 2^58 + 2^56.
        let rate = (-70f64).exp2() + (-72f64).exp2();
        let border = (1u64 << 58) + (1 << 56);
        let with = |words: &[u64]| happens(rate, &mut Words(words.iter().rev().copied().collect()));
        assert!(!with(&[1]));
        assert!(with(&[0, border - 1]));
        assert!(!with(&[0, border]), "U equals the rate: not below");
        assert!(!with(&[0, border + 1]));
    }
}
