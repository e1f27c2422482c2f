//! Rényi differential privacy of the sampled Gaussian mechanism (Mironov, Talwar and Zhang 2019,
//! "Rényi Differential Privacy of the Sampled Gaussian Mechanism").
//!
//! One step of DP-SGD: each unit is taken with probability q (Poisson sampling), the clipped
//! contributions are summed, and Gaussian noise of standard deviation σ·clip is added.
//! Neighbouring data sets differ by one unit being there or not. RDP of one order adds up under
//! adaptive composition, so these figures may decide.

use super::normal::ln_tail;
use super::{Error, LEAST, Phase, known, value};

/// Largest order of [`orders`].
const LARGEST_ORDER: u32 = 1024;

/// The series for an order that is no whole number ends when the rest is this small beside the sum.
const NEGLIGIBLE: f64 = 1e-13;

/// Beyond these the formulas for sampling leave the range of f64, and the bound without it is taken:
/// the noise is so small that nothing helps, or so large that nothing costs.
const NOISE: std::ops::RangeInclusive<f64> = 1e-100..=1e100;

/// The largest number of its terms; what comes after is bounded and added.
const MAX_TERMS: u32 = 1_000;

/// The orders at which curves are computed: tenths up to 10.9, whole numbers up to 63, then
/// powers of two. Fine where ε from 0.1 to 20 is decided.
pub fn orders() -> Vec<f64> {
    let tenths = (1..100).map(|x| 1.0 + f64::from(x) / 10.0);
    let whole = (11..64).map(f64::from);
    let powers = (7..).map(|k| 1 << k).take_while(|n| *n <= LARGEST_ORDER);
    tenths.chain(whole).chain(powers.map(f64::from)).collect()
}

/// The smallest ε that `phases` one after another give at `delta`, rounded up.
pub fn epsilon(phases: &[Phase], delta: f64) -> Result<f64, Error> {
    Ok(composed(phases, Curve::sampled_gaussian)?.epsilon(delta))
}

/// The same when the noise is discrete, see [`Curve::sampled_discrete_gaussian`].
pub fn epsilon_discrete(phases: &[Phase], delta: f64) -> Result<f64, Error> {
    Ok(composed(phases, Curve::sampled_discrete_gaussian)?.epsilon(delta))
}

fn composed(
    phases: &[Phase],
    curve: impl Fn(f64, f64) -> Result<Curve, Error>,
) -> Result<Curve, Error> {
    let free = Curve::sampled_gaussian(0.0, 1.0);
    phases.iter().try_fold(free?, |sum, phase| {
        phase.check()?;
        let one = curve(phase.sampling_rate, phase.noise_multiplier)?;
        Ok(sum.plus(&one.times(phase.steps)))
    })
}

/// RDP at each of [`orders`].
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    points: Vec<(f64, f64)>,
}

impl Curve {
    /// The curve of one step with sampling rate `q` and noise multiplier `sigma`.
    pub fn sampled_gaussian(q: f64, sigma: f64) -> Result<Self, Error> {
        let point = |order| Ok((order, sampled_gaussian(q, sigma, order)?));
        let points = orders().into_iter().map(point).collect::<Result<_, _>>()?;
        Ok(Self { points })
    }

    /// An upper bound for noise from the discrete Gaussian of parameter σ·Δ on integer sums, where Δ
    /// bounds the norm of one unit's integer contribution.
    ///
    /// At whole orders n the moment of the unit removed is the binomial sum of `E_Q (P/Q)^k`, k ≤ n. P is Q
    /// shifted by an integer vector of norm up to Δ, so each of these is at most that of the continuous
    /// Gaussian (Canonne, Kamath and Steinke 2020, Proposition 5). So the whole is at most
    /// [`sampled_gaussian`]. The unit added costs no more: x → μ − x exchanges P and Q, the condition of
    /// Mironov, Talwar and Zhang 2019, Theorem 5. Between whole orders the chord holds for any pair of
    /// distributions; the series for the continuous Gaussian is not used. The lemma *accounting* of the
    /// [crate] states it.
    pub fn sampled_discrete_gaussian(q: f64, sigma: f64) -> Result<Self, Error> {
        let whole = |order| Ok(sampled_gaussian(q, sigma, order)? * (order - 1.0));
        let point = |order: f64| {
            let (below, part) = (order.floor(), order.fract());
            // ln A at order 1 is 0.
            let low = if below > 1.0 { whole(below)? } else { 0.0 };
            let high = if part > 0.0 { whole(below + 1.0)? } else { low };
            // Of two infinite ends the difference is none.
            let ln_moment = if high.is_finite() {
                low + (high - low) * part
            } else {
                high
            };
            Ok((
                order,
                ln_moment / (order - 1.0) * (1.0 + 8.0 * f64::EPSILON),
            ))
        };
        let points = orders().into_iter().map(point).collect::<Result<_, _>>()?;
        Ok(Self { points })
    }

    /// The curve αρ of ρ-zero-concentrated differential privacy.
    pub fn of_rho(rho: f64) -> Self {
        let point = |order| (order, rho * order * (1.0 + 2.0 * f64::EPSILON));
        Self {
            points: orders().into_iter().map(point).collect(),
        }
    }

    /// An upper bound where each law of the output may differ from that of this curve by a factor of e^`apart`, in either
    /// direction. With P ≤ e^s Q and P′ ≥ e^−s Q′, `∫ P^α P′^(1−α) ≤ e^(s(2α−1)) ∫ Q^α Q′^(1−α)`.
    #[must_use]
    pub(super) fn blurred(mut self, apart: f64) -> Self {
        for (order, rdp) in &mut self.points {
            // What costs nothing releases nothing.
            if apart > 0.0 && *rdp > 0.0 {
                let more = apart * (2.0 * *order - 1.0) / (*order - 1.0);
                *rdp = (*rdp + more * (1.0 + 8.0 * f64::EPSILON)).next_up();
            }
        }
        self
    }

    /// The curve of both, one after the other.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        for ((_, sum), (_, more)) in self.points.iter_mut().zip(&other.points) {
            let exact = *sum <= 0.0 || *more <= 0.0;
            *sum = if exact {
                *sum + more
            } else {
                (*sum + more).next_up()
            };
        }
        self
    }

    /// The curve of `steps` such steps, each free to depend on what the earlier ones released.
    #[must_use]
    pub fn times(mut self, steps: u64) -> Self {
        for (_, rdp) in &mut self.points {
            // Nothing is free of charge but nothing: no steps, or steps that take nobody.
            *rdp = if steps == 0 || *rdp <= 0.0 {
                0.0
            } else {
                (*rdp * steps as f64).next_up()
            };
        }
        self
    }

    /// The smallest ε that any order gives at `delta`, rounded up (Canonne, Kamath and Steinke
    /// 2020, Proposition 12): `ε = r(α) + ln(1 − 1/α) − (ln δ + ln α) / (α − 1)`.
    pub fn epsilon(&self, delta: f64) -> f64 {
        let free = self.points.iter().all(|(_, rdp)| *rdp <= 0.0);
        if free || delta >= 1.0 {
            return 0.0;
        }
        if delta.is_nan() || delta <= 0.0 {
            return f64::INFINITY;
        }
        let at = |(order, rdp): &(f64, f64)| {
            let terms = [
                *rdp,
                libm::log1p(-1.0 / order),
                -(libm::log(delta) + libm::log(*order)) / (order - 1.0),
            ];
            let size: f64 = terms.iter().map(|x| x.abs()).sum();
            known(terms.iter().sum::<f64>() + 8.0 * f64::EPSILON * size).max(0.0)
        };
        self.points.iter().map(at).fold(f64::INFINITY, f64::min)
    }
}

/// RDP of order `alpha` > 1 of one step, rounded up: `ln A_α / (α − 1)` with
/// `A_α = E_{x ~ N(0, σ²)} ((1 − q) + q·e^((2x − 1)/(2σ²)))^α` (Section 3.3).
pub fn sampled_gaussian(q: f64, sigma: f64, alpha: f64) -> Result<f64, Error> {
    value(
        "the sampling rate",
        q,
        (0.0..=1.0).contains(&q),
        "a number from 0 to 1",
    )?;
    value(
        "the noise multiplier",
        sigma,
        sigma >= 0.0,
        "a number from 0",
    )?;
    let order = alpha > 1.0 && alpha <= f64::from(LARGEST_ORDER);
    value("the order", alpha, order, "a number above 1 and up to 1024")?;
    if q <= 0.0 {
        return Ok(0.0);
    }
    if sigma <= 0.0 {
        return Ok(f64::INFINITY);
    }
    // One division after the other: the square of a large σ would pass the range of f64.
    let plain = (alpha / 2.0 / sigma / sigma).max(LEAST) * (1.0 + 4.0 * f64::EPSILON);
    if q >= 1.0 || !NOISE.contains(&sigma) {
        return Ok(plain);
    }
    let ln_a = if alpha.fract() <= 0.0 {
        ln_moment_whole(q, sigma, alpha as u32)
    } else {
        ln_moment_series(q, sigma, alpha).min(ln_moment_chord(q, sigma, alpha))
    };
    // Sampling never costs more than taking everybody.
    let sampled = known(ln_a / (alpha - 1.0)) * (1.0 + 4.0 * f64::EPSILON);
    Ok(sampled.min(plain).max(LEAST))
}

/// ln A for a whole order n (Section 3.3, "Integer α"):
/// `A = Σ_k C(n,k) (1−q)^(n−k) q^k e^((k²−k)/(2σ²))`. The weights add up to 1, so that
/// `A − 1 = Σ_{k≥2} … · (e^((k²−k)/(2σ²)) − 1)` has only positive terms and small rates lose nothing.
fn ln_moment_whole(q: f64, sigma: f64, n: u32) -> f64 {
    let (ln_q, ln_rest) = (libm::log(q), libm::log1p(-q));
    let mut sum = Sum::default();
    let mut ln_binomial = libm::log(f64::from(n));
    for k in 2..=n {
        ln_binomial += libm::log(f64::from(n - k + 1) / f64::from(k));
        let (k, rest) = (f64::from(k), f64::from(n - k));
        let exponent = (k * k - k) / (2.0 * sigma * sigma);
        // ln(e^x − 1), without overflow and without loss near 0.
        let ln_growth = exponent + libm::log(-libm::expm1(-exponent));
        let terms = [ln_binomial, k * ln_q, rest * ln_rest, ln_growth];
        sum.add(1.0, &terms);
    }
    sum.ln_of_one_plus()
}

/// ln A between two whole orders, by the chord: ln A_α is convex in α (Hölder's inequality), so the
/// chord lies above. Tighter than the series for large rates and low orders.
fn ln_moment_chord(q: f64, sigma: f64, alpha: f64) -> f64 {
    let (whole, part) = (alpha.floor() as u32, alpha.fract());
    let (low, high) = (
        ln_moment_whole(q, sigma, whole),
        ln_moment_whole(q, sigma, whole + 1),
    );
    low + (high - low) * part * (1.0 + 4.0 * f64::EPSILON)
}

/// ln A for any order (Section 3.3, "Fractional α"): the integral is split at
/// `z₀ = σ² ln(1/q − 1) + 1/2`, where both parts of the mixture are equal, and each side becomes a
/// binomial series. With `j = α − i` and the normal upper tail Q:
///
/// `A = Σ_i C(α,i) [ q^i (1−q)^j e^((i²−i)/(2σ²)) Q((i−z₀)/σ) + q^j (1−q)^i e^((j²−j)/(2σ²)) Q((z₀−j)/σ) ]`
///
/// Beyond i = α the binomials alternate in sign. Their magnitudes are added instead: an upper
/// bound without cancellation, close for the small rates of training, and what dp_accounting 0.6
/// computes too. Beside the binomial every factor falls with i, and
/// `Σ_{k≥i} |C(α,k)| = |C(α,i)|·i/α`, which bounds what is left out.
fn ln_moment_series(q: f64, sigma: f64, alpha: f64) -> f64 {
    let (ln_q, ln_rest) = (libm::log(q), libm::log1p(-q));
    let variance = sigma * sigma;
    let z0 = variance * (ln_rest - ln_q) + 0.5;
    let mut sum = Sum::default();
    let mut binomial = 1.0f64;
    for i in 0..MAX_TERMS {
        let i = f64::from(i);
        let j = alpha - i;
        let left = [
            i * ln_q,
            j * ln_rest,
            (i * i - i) / (2.0 * variance),
            ln_tail((i - z0) / sigma),
        ];
        let right = [
            j * ln_q,
            i * ln_rest,
            (j * j - j) / (2.0 * variance),
            ln_tail((z0 - j) / sigma),
        ];
        let last = sum.add(binomial, &left) + sum.add(binomial, &right);
        let rest = last * i / alpha;
        if i > alpha && (rest < NEGLIGIBLE * sum.value || i >= f64::from(MAX_TERMS - 1)) {
            sum.allowance += rest;
            break;
        }
        binomial *= (j / (i + 1.0)).abs();
    }
    sum.ln()
}

/// `value · e^exponent`, a sum of positive terms that need not fit an f64, and what its rounding
/// and its missing terms can amount to.
#[derive(Debug, Default)]
struct Sum {
    exponent: f64,
    value: f64,
    allowance: f64,
}

impl Sum {
    /// Adds `factor · e^(the sum of exponents)`; returns that as a multiple of `e^exponent`.
    fn add(&mut self, factor: f64, exponents: &[f64]) -> f64 {
        let exponent: f64 = exponents.iter().sum();
        if exponent > self.exponent {
            let shrink = libm::exp(self.exponent - exponent);
            self.value *= shrink;
            self.allowance *= shrink;
            self.exponent = exponent;
        }
        let term = factor * libm::exp(exponent - self.exponent);
        let size: f64 = exponents.iter().map(|x| x.abs()).sum();
        self.value += term;
        self.allowance += term * (16.0 + size) * f64::EPSILON;
        term
    }

    /// ln of the sum, rounded up. A moment is never below 1.
    fn ln(&self) -> f64 {
        let total = self.value + self.allowance;
        known(self.exponent + libm::log(total)).max(0.0)
    }

    /// ln(1 + the sum), rounded up.
    fn ln_of_one_plus(&self) -> f64 {
        let total = self.value + self.allowance;
        if self.exponent > 0.0 {
            return self.exponent + libm::log(total + libm::exp(-self.exponent));
        }
        libm::log1p(total)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::accountant::gdp;
    use crate::golden::{array, assert_near, number};

    fn one_step(q: f64, sigma: f64, alpha: f64) -> f64 {
        sampled_gaussian(q, sigma, alpha).expect("in range")
    }

    fn phase(sampling_rate: f64, noise_multiplier: f64, steps: u64) -> Phase {
        Phase {
            sampling_rate,
            noise_multiplier,
            steps,
        }
    }

    fn epsilon(q: f64, sigma: f64, steps: u64, delta: f64) -> f64 {
        super::epsilon(&[phase(q, sigma, steps)], delta).expect("in range")
    }

    #[test]
    fn phases_add_up() {
        let (early, late) = (phase(0.05, 1.5, 200), phase(0.01, 0.9, 300));
        let together = super::epsilon(&[early, late], 1e-5).expect("in range");
        let alone = |phase| super::epsilon(&[phase], 1e-5).expect("in range");
        assert!(together > alone(early).max(alone(late)) && together < alone(early) + alone(late));
        let halves = super::epsilon(&[phase(0.05, 1.5, 100), phase(0.05, 1.5, 100)], 1e-5);
        assert_near(halves.expect("in range"), alone(early), 1e-12);
        assert!(super::epsilon(&[early, phase(2.0, 1.0, 1)], 1e-5).is_err());
    }

    #[test]
    fn discrete_noise_costs_what_continuous_noise_does_at_whole_orders() {
        let whole = |curve: &Curve| Curve {
            points: (curve.points.iter().copied())
                .filter(|(order, _)| order.fract() <= 0.0)
                .collect(),
        };
        for (q, sigma, steps) in [
            (0.05, 1.5, 200),
            (0.01, 0.9, 300),
            (1.0, 4.0, 50),
            (0.2, 1.0, 30),
        ] {
            let continuous = Curve::sampled_gaussian(q, sigma).expect("in range");
            let discrete = Curve::sampled_discrete_gaussian(q, sigma).expect("in range");
            for ((order, least), (_, found)) in continuous.points.iter().zip(&discrete.points) {
                let above = found / least - 1.0;
                let exact = order.fract() <= 0.0;
                assert!(above > -1e-12, "{q} {sigma} {order}: {above}");
                assert!(!exact || above < 1e-12, "{q} {sigma} {order}: {above}");
            }
            // So ε is at most what whole orders alone would give, which is all that the proof has.
            let found = epsilon_discrete(&[phase(q, sigma, steps)], 1e-5).expect("in range");
            let most = whole(&continuous).times(steps).epsilon(1e-5) * (1.0 + 1e-12);
            let least = epsilon(q, sigma, steps, 1e-5) * (1.0 - 1e-12);
            assert!((least..=most).contains(&found), "{found}: {least} {most}");
            assert!(found < least * 1.02, "{q} {sigma}: {found} {least}");
        }
    }

    #[test]
    fn one_step_agrees_with_the_reference_values() {
        let near = |found: f64, expected: f64| assert_near(found / expected, 1.0, 1e-8);
        near(one_step(0.01, 1.1, 2.0), 1.285_100_816_051_654_2e-4);
        near(one_step(0.02, 0.8, 4.5), 6.776_896_680_247_206e-3);
        for case in array("rdp_one_step") {
            let [q, sigma, alpha] = ["q", "sigma", "alpha"].map(|key| number(&case, key));
            near(one_step(q, sigma, alpha), number(&case, "rdp"));
        }
    }

    #[test]
    fn fractional_orders_are_above_the_integral_and_close() {
        // mpmath at 50 digits, by quadrature of the definition.
        for (q, sigma, alpha, exact) in [
            (0.01, 1.1, 2.7, 1.756_798_019_747_378_8e-4),
            (0.02, 0.8, 4.5, 6.775_185_473_798_386e-3),
        ] {
            let excess = one_step(q, sigma, alpha) / exact - 1.0;
            assert!(excess > 0.0 && excess < 1e-3, "{excess}");
        }
    }

    #[test]
    fn epsilon_agrees_with_the_reference_values() {
        assert_near(epsilon(0.01, 1.1, 10_000, 1e-5), 5.632_010_670_1, 1e-8);
        assert_near(epsilon(1.0, 4.0, 50, 1e-5), 9.234_958_991_7, 1e-8);
        for case in array("subsampled_gaussian") {
            let [q, sigma, delta] = ["q", "sigma", "delta"].map(|key| number(&case, key));
            let found = epsilon(q, sigma, number(&case, "steps") as u64, delta);
            assert_near(found, number(&case, "rdp"), 1e-8);
            // And above the tighter figures of the other accountants.
            assert!(found > number(&case, "pld"), "{found}");
        }
    }

    #[test]
    fn the_ends() {
        assert_eq!(one_step(0.0, 1.0, 2.0).to_bits(), 0);
        assert!(one_step(0.5, 0.0, 2.0).is_infinite());
        assert_near(one_step(1.0, 2.0, 4.0), 0.5, 1e-14);
        assert_eq!(epsilon(0.1, 1.0, 0, 1e-5).to_bits(), 0);
        assert_eq!(epsilon(0.0, 0.0, 10, 1e-5).to_bits(), 0);
        assert!(epsilon(0.1, 0.0, 1, 1e-5).is_infinite());
        assert!(epsilon(0.1, 1.0, 1, 0.0).is_infinite());
        for (q, sigma, alpha) in [
            (-0.1, 1.0, 2.0),
            (1.1, 1.0, 2.0),
            (f64::NAN, 1.0, 2.0),
            (0.1, -1.0, 2.0),
            (0.1, f64::NAN, 2.0),
            (0.1, 1.0, 1.0),
            (0.1, 1.0, 2000.0),
        ] {
            assert!(
                sampled_gaussian(q, sigma, alpha).is_err(),
                "{q} {sigma} {alpha}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn both_formulas_meet_at_whole_orders(q in 1e-4f64..0.9, sigma in 0.3f64..20.0, n in 2u32..30) {
            let whole = ln_moment_whole(q, sigma, n);
            // The series at a whole order ends by itself: its binomials become zero.
            let series = ln_moment_series(q, sigma, f64::from(n));
            prop_assert!((whole - series).abs() <= 1e-9 * whole + 1e-12, "{whole} {series}");
        }

        #[test]
        fn fractional_orders_lie_between_whole_ones(
            q in 1e-3f64..0.99,
            sigma in 0.4f64..10.0,
            n in 1u32..20,
            part in 0.05f64..0.95,
        ) {
            let alpha = f64::from(n) + part;
            let between = one_step(q, sigma, alpha);
            prop_assert!(one_step(q, sigma, f64::from(n + 1)) >= between * (1.0 - 1e-12));
            prop_assert!(n == 1 || one_step(q, sigma, f64::from(n)) <= between * (1.0 + 1e-12));
        }

        #[test]
        fn monotone_in_noise_rate_and_steps(q in 1e-3f64..0.9, sigma in 0.5f64..10.0, steps in 1u64..1000) {
            let figure = epsilon(q, sigma, steps, 1e-5);
            let slack = 1.0 + 1e-9;
            prop_assert!(epsilon(q, sigma * 1.05, steps, 1e-5) <= figure * slack);
            prop_assert!(epsilon(q * 1.05, sigma, steps, 1e-5) * slack >= figure);
            prop_assert!(epsilon(q, sigma, steps + 1, 1e-5) * slack >= figure);
            // Sampling never costs more than the closed form of everybody in every step, by far
            // enough to pass RDP's looseness.
            let everybody = Curve::sampled_gaussian(1.0, sigma).expect("in range");
            prop_assert!(figure <= everybody.times(steps).epsilon(1e-5) * slack);
        }

        #[test]
        fn with_everybody_taken_the_closed_form_is_below(sigma in 0.5f64..20.0, steps in 1u32..200) {
            let exact = gdp::epsilon(gdp::mu(steps, sigma), 1e-5);
            prop_assert!(epsilon(1.0, sigma, u64::from(steps), 1e-5) >= exact);
        }
    }
}
