//! Tails of the normal distribution.

use std::f64::consts::{LN_2, PI, SQRT_2};

/// From here on erfc comes from its continued fraction, in logarithms: far out, it underflows.
const FAR: f64 = 5.0;

/// Terms of the continued fraction; at `FAR` fewer than half of them change the last bit.
const TERMS: u32 = 80;

/// ln Φ(−x), the logarithm of the upper tail, with a relative error of Φ(−x) of a few parts in
/// 2^52 (1 + x²).
pub(crate) fn ln_tail(x: f64) -> f64 {
    let y = x / SQRT_2;
    if y < FAR {
        return libm::log(libm::erfc(y)) - LN_2;
    }
    // erfc(y) = e^(−y²) / (√π · (y + (1/2)/(y + (2/2)/(y + (3/2)/(y + …))))), DLMF 7.9.1.
    let fraction = (1..=TERMS)
        .rev()
        .fold(y, |inner, k| y + f64::from(k) / 2.0 / inner);
    -y * y - libm::log(fraction) - 0.5 * libm::log(PI) - LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_tails() {
        // mpmath at 40 digits: log(erfc(x/sqrt(2))/2)
        for (x, expected) in [
            (-3.0, -0.001_350_809_964_748_202_6),
            (0.0, -LN_2),
            (1.0, -1.841_021_645_009_264),
            (7.0, -27.384_307_498_811_08),
            (7.2, -28.831_457_520_321_88),
            (38.0, -726.557_216_018_820_1),
            (100.0, -5_005.524_208_694_205),
        ] {
            let found = ln_tail(x);
            let error = (found - expected).abs();
            assert!(error < 1e-12 * (1.0 + expected.abs()), "{x}: {found}");
        }
    }

    #[test]
    fn both_formulas_meet() {
        let x = FAR * SQRT_2;
        let (below, above) = (ln_tail(x * (1.0 - 1e-15)), ln_tail(x * (1.0 + 1e-15)));
        assert!((below - above).abs() < 1e-12, "{below} {above}");
    }
}
