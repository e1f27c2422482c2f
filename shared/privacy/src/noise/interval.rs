//! e^(-t) between two integers, for any rational t ≥ 0 and to any precision.

use dashu_int::UBig;
use dashu_int::ops::BitTest;

/// An exact rational number from 0 on.
#[derive(Debug, Clone)]
pub(super) struct Ratio {
    pub(super) numerator: UBig,
    pub(super) denominator: UBig,
}

impl Ratio {
    /// The number itself, without rounding; `x` is finite and not negative.
    pub(super) fn from_f64(x: f64) -> Self {
        let bits = x.to_bits();
        let fraction = bits & ((1 << 52) - 1);
        let biased = (bits >> 52 & 0x7ff) as i64;
        let (mantissa, exponent) = match biased {
            0 => (fraction, -1074),
            _ => (fraction | 1 << 52, biased - 1075),
        };
        let (numerator, denominator) = (UBig::from(mantissa), UBig::ONE);
        let shift = exponent.unsigned_abs() as usize;
        if exponent < 0 {
            let denominator = denominator << shift;
            return Self {
                numerator,
                denominator,
            };
        }
        Self {
            numerator: numerator << shift,
            denominator,
        }
    }
}

/// Integers around `e^(-t) · 2^precision`: the first not above it, the second not below.
///
/// With `y = t / 2^h` below 2^-8, the alternating series of e^(-y) is added in fixed point with h + 8 guard
/// bits. A term is rounded down twice and inherits less than a hundredth of the error of the one before, so
/// it is short by less than 3 units. What follows the first term that is zero is less than 4 units. Squaring
/// h times, downwards and upwards, gives e^(-t).
pub(super) fn exp_minus(t: &Ratio, precision: usize) -> (UBig, UBig) {
    let whole = &t.numerator / &t.denominator;
    // e^(-p) < 2^-p.
    if whole > UBig::from(precision) {
        return (UBig::ZERO, UBig::ONE);
    }
    let halvings = whole.bit_len() + 8;
    let guarded = precision + halvings + 8;
    let y = (&t.numerator << (guarded - halvings)) / &t.denominator;
    let one = UBig::ONE << guarded;
    let (mut plus, mut minus) = (one.clone(), UBig::ZERO);
    let mut term = one;
    let mut terms = 0u32;
    while !term.is_zero() {
        terms += 1;
        term = ((term * &y) >> guarded) / terms;
        if terms % 2 == 1 {
            minus += &term;
        } else {
            plus += &term;
        }
    }
    let sum = plus - minus;
    let slack = UBig::from(3 * terms + 8);
    let (mut low, mut high) = (&sum - &slack, &sum + &slack);
    for _ in 0..halvings {
        low = low.sqr() >> guarded;
        high = (high.sqr() >> guarded) + UBig::ONE;
    }
    let extra = halvings + 8;
    (low >> extra, (high >> extra) + UBig::ONE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forty_digits_of_known_values() {
        // mpmath at 60 digits: floor(exp(-t) * 10^40).
        for (t, expected) in [
            (1.0, "3678794411714423215955237701614608674458"),
            (0.125, "8824969025845954028648921432290507362220"),
            (20.5, "12501528663867426289375531192312"),
        ] {
            let precision = 200;
            let (low, high) = exp_minus(&Ratio::from_f64(t), precision);
            let scaled = |x: UBig| (x * UBig::from(10u8).pow(40)) >> precision;
            let found = (scaled(low).to_string(), scaled(high).to_string());
            let digits = expected.len().min(30);
            assert_eq!(&found.0[..digits], &expected[..digits], "{t}");
            assert_eq!(&found.1[..digits], &expected[..digits], "{t}");
        }
    }

    #[test]
    fn numbers_are_taken_exactly() {
        let ratio = Ratio::from_f64(0.3);
        // 0.3 = 5404319552844595 / 2^54.
        let expected = UBig::from(5_404_319_552_844_595u64) * &ratio.denominator;
        assert_eq!(ratio.numerator << 54, expected);
        assert_eq!(Ratio::from_f64(0.0).numerator, UBig::ZERO);
        assert_eq!(
            Ratio::from_f64(8.0).numerator / Ratio::from_f64(8.0).denominator,
            UBig::from(8u8)
        );
    }

    proptest! {
        #[test]
        fn the_interval_is_narrow_and_nested(t in 0f64..100.0, precision in 64usize..200) {
            let ratio = Ratio::from_f64(t);
            let (low, high) = exp_minus(&ratio, precision);
            prop_assert!(low < high && &high - &low <= UBig::from(4u8), "{low} {high}");
            // Far more digits lie inside.
            let (finer_low, finer_high) = exp_minus(&ratio, precision + 300);
            prop_assert!(low << 300 <= finer_low && finer_high <= high << 300);
            let float = (exp_minus(&ratio, 1100).0 >> 176).to_f64().value() * (-924f64).exp2();
            prop_assert!((float / (-t).exp() - 1.0).abs() < 1e-12);
        }
    }
}
