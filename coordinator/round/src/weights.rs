//! What declared weights count.

/// The weights with none of them above `share` of their sum: `min(w, c)` with the largest integer c
/// for which `min(w, c) ≤ share · Σ min(w, c)` holds of each. Where even equal weights are larger
/// parts, so few are they, all are 1.
///
/// `Σ min(w, c)` is concave in c and 0 at 0, hence `c / Σ min(w, c)` never falls as c grows: every c
/// from 1 to the largest will do, and bisection finds that.
pub fn capped(weights: &[u32], share: f64) -> Vec<u32> {
    let sum = |cap: u32| weights.iter().map(|w| u64::from(*w.min(&cap))).sum::<u64>();
    let largest = weights.iter().copied().max().unwrap_or(0);
    // Sums below 2^53 are exact in f64: the plan was checked.
    let fits = |cap: u32| f64::from(cap.min(largest)) <= share * sum(cap) as f64;
    if fits(largest) {
        return weights.to_vec();
    }
    if !fits(1) {
        return vec![1; weights.len()];
    }
    let (mut good, mut bad) = (1, largest);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    weights.iter().map(|weight| *weight.min(&good)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By trying every cap.
    fn naive(weights: &[u32], share: f64) -> Vec<u32> {
        let with = |cap: u32| -> Vec<u32> { weights.iter().map(|w| *w.min(&cap)).collect() };
        let largest = weights.iter().copied().max().unwrap_or(0);
        for cap in (1..=largest).rev() {
            let capped = with(cap);
            let sum: u32 = capped.iter().sum();
            if capped
                .iter()
                .all(|w| f64::from(*w) <= share * f64::from(sum))
            {
                return capped;
            }
        }
        vec![1; weights.len()]
    }

    proptest! {
        #[test]
        fn it_is_the_largest_cap_that_keeps_the_share(
            weights in prop::collection::vec(1u32..60, 1..12),
            share in 0.01f64..=1.0,
        ) {
            prop_assert_eq!(capped(&weights, share), naive(&weights, share));
        }

        #[test]
        fn no_share_is_exceeded_unless_all_are_equal(
            mut weights in prop::collection::vec(1u32..1 << 30, 1..40),
            share in 0.01f64..=1.0,
        ) {
            let found = capped(&weights, share);
            let sum: u64 = found.iter().map(|w| u64::from(*w)).sum();
            let equal = found.iter().all(|w| *w == found[0]);
            for (weight, declared) in found.iter().zip(&weights) {
                prop_assert!(equal || f64::from(*weight) <= share * sum as f64);
                prop_assert!((1..=*declared).contains(weight));
            }
            // The order decides nothing.
            let mut reversed = found;
            reversed.reverse();
            weights.reverse();
            prop_assert_eq!(capped(&weights, share), reversed);
        }

        #[test]
        fn the_scale_of_all_weights_decides_nothing_but_rounding(
            weights in prop::collection::vec(1u32..10_000, 1..20),
            share in 0.01f64..=1.0,
            scale in 1u32..1000,
        ) {
            let scaled: Vec<u32> = weights.iter().map(|w| w * scale).collect();
            let (small, large) = (capped(&weights, share), capped(&scaled, share));
            let all_one = large.iter().all(|w| *w == 1);
            for (small, large) in small.iter().zip(&large) {
                let near = *large >= small * scale && *large < (small + 1) * scale;
                prop_assert!(near || all_one, "{small} {large}");
            }
        }
    }

    #[test]
    fn one_who_declares_a_million_counts_twice_an_equal_share() {
        let mut weights = vec![1500; 9];
        weights.push(1_000_000);
        let found = capped(&weights, 0.2);
        // c = 0.2 · (9 · 1500 + c)
        assert_eq!(found[9], 3375);
        assert_eq!(found[..9], weights[..9]);
        assert_eq!(capped(&weights, 1.0), weights);
        assert_eq!(capped(&[100, 300], 1.0), [100, 300]);
        // Of three no share can be a fifth.
        assert_eq!(capped(&[7, 9, 1_000_000], 0.2), [1, 1, 1]);
        assert!(capped(&[], 0.5).is_empty());
    }
}
