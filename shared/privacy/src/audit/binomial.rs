//! Tails of the binomial distribution.

use crate::accountant::first_true;

/// ln P(X = k) for X ~ Binomial(n, p) with 0 < p < 1.
pub(super) fn ln_mass(n: u64, k: u64, p: f64) -> f64 {
    let ln_factorial = |x: u64| libm::lgamma(x as f64 + 1.0);
    let ln_choose = ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k);
    ln_choose + k as f64 * libm::log(p) + (n - k) as f64 * libm::log1p(-p)
}

/// P(X ≥ k).
pub(super) fn at_least(n: u64, k: u64, p: f64) -> f64 {
    if k == 0 || p >= 1.0 {
        return 1.0;
    }
    if p <= 0.0 || k > n {
        return 0.0;
    }
    // The side away from the mean is summed: its terms fall, and nothing cancels.
    let odds = p / (1.0 - p);
    let tail = if k as f64 > n as f64 * p {
        let ratio = |i: u64| (n - i) as f64 / (i + 1) as f64 * odds;
        falling(ln_mass(n, k, p), (k..n).map(ratio))
    } else {
        let ratio = |i: u64| i as f64 / (n - i + 1) as f64 / odds;
        1.0 - falling(ln_mass(n, k - 1, p), (1..k).rev().map(ratio))
    };
    tail.clamp(0.0, 1.0)
}

/// e^first and what follows, each term a ratio times the one before, until nothing is left.
fn falling(first: f64, ratios: impl Iterator<Item = f64>) -> f64 {
    let mut term = libm::exp(first);
    let mut sum = term;
    for ratio in ratios {
        term *= ratio;
        sum += term;
        if term < sum * 1e-18 {
            break;
        }
    }
    sum
}

/// The largest p that makes `k` or fewer of `n` at least as likely as `doubt` (Clopper and Pearson
/// 1934): the true one is above with a probability of at most `doubt`.
pub(super) fn upper_limit(n: u64, k: u64, doubt: f64) -> f64 {
    if k >= n {
        return 1.0;
    }
    first_true(0.0, 1.0, |p| 1.0 - at_least(n, k + 1, p) <= doubt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // scipy.stats: binom.sf(59, 100, 0.5), binom.sf(0, 10, 0.1), beta.ppf(0.95, k + 1, n - k).
        for (found, expected) in [
            (at_least(100, 60, 0.5), 0.028_443_966_820_490_392),
            (at_least(10, 1, 0.1), 0.651_321_559_9),
            (at_least(10, 0, 0.1), 1.0),
            (at_least(10, 11, 0.1), 0.0),
            // 1 − 0.05^(1/100).
            (upper_limit(100, 0, 0.05), 0.029_513_049_607_037_52),
            (upper_limit(10, 10, 0.05), 1.0),
        ] {
            assert!((found - expected).abs() < 1e-11, "{found} {expected}");
        }
        // (1 − p)^20 + 20 p (1 − p)^19 = 0.05.
        let p = upper_limit(20, 1, 0.05);
        let below = (1.0 - p).powi(20) + 20.0 * p * (1.0 - p).powi(19);
        assert!((below - 0.05).abs() < 1e-10, "{p}");
    }
}
