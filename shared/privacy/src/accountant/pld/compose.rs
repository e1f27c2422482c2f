//! The sum of many steps' losses.
//!
//! Masses are tilted by e^(λl) before they are transformed, so that the losses near ε carry more of the
//! weight. Floating point is then precise there, and not only at the middle (Koskela and Honkela 2021,
//! "Computing Differential Privacy Guarantees for Heterogeneous Compositions Using FFT", use the transform
//! alone; the tilt is Esscher's). Each phase's transform is raised to its steps, all are multiplied and
//! transformed back, and the tilt is taken off.
//!
//! What is added so that δ is an upper bound:
//! - losses beyond the transform's window come back at its other end, where they only add; those
//!   from above are missed as well, and bounded by Chernoff's inequality;
//! - a transform of n numbers is right to within `κ = 4 ε log₂ n` of its norm (Higham 2002,
//!   "Accuracy and Stability of Numerical Algorithms", Theorem 24.2), which T steps multiply by T;
//!   by the Cauchy-Schwarz inequality that moves δ(ε) by no more than its norm times that of the
//!   weights `e^(−λ(l−ε))`;
//! - relative errors of the masses and of the tilt, T times.

use super::fourier::{Complex, Transform};
use super::loss::Loss;
use crate::accountant::known;

/// The part of δ that may be lost above the window, which is then added, and of the tilted sum that
/// may come back at the window's other end.
const WINDOW: f64 = 1e-7;
/// Points of a transform, less than.
const MOST_POINTS: f64 = (1u64 << 23) as f64;
/// Grid points from 0 to the window, less than.
const MOST_REACH: f64 = (1u64 << 50) as f64;

/// The distribution of the sum over a window, tilted.
#[derive(Debug)]
pub(super) struct Sum {
    step: f64,
    /// The window's first grid point.
    first: i64,
    /// Tilted masses by grid point.
    tilted: Vec<f64>,
    /// λ.
    tilt: f64,
    /// ln E e^(λL).
    ln_moment: f64,
    /// Norm of the error of `tilted`.
    error: f64,
    /// Relative error of everything.
    relative: f64,
    /// Missing mass, and that at infinity.
    outside: f64,
}

/// A phase: its distribution of one step, and how many there are.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) loss: Loss,
    pub(super) steps: u64,
}

impl Sum {
    /// The sum of these steps' losses; `None` if its window is too wide for the grid.
    pub(super) fn new(parts: &[Part], h: f64, delta: f64) -> Option<Self> {
        let moments = Moments { parts, h };
        let tilt = moments.tilt(delta);
        let ln_moment = moments.ln(tilt);
        let (bottom, top) = moments.window(tilt, delta * WINDOW);
        let points = ((top - bottom) / h).ceil();
        // Also false where a figure is none.
        let fits = points < MOST_POINTS && (bottom / h).abs() < MOST_REACH;
        if !fits {
            return None;
        }
        let first = (bottom / h).floor() as i64;
        let n = (points as usize + 1).max(1 << 10).next_power_of_two();
        let total = |figure: fn(&Part) -> f64| parts.iter().map(figure).sum::<f64>();
        let steps = total(|part| part.steps as f64);
        let reach = parts.iter().map(|part| part.loss.reach()).max()?;
        let end = (first + n as i64) as f64 * h;
        let (tilted, error) = convolve(parts, n, first, tilt, h);
        Some(Self {
            step: h,
            first,
            tilted,
            tilt,
            ln_moment,
            error,
            relative: 16.0 * f64::EPSILON * steps * (1.0 + tilt * h * reach as f64),
            outside: moments.beyond(tilt, end)
                + total(|part| part.steps as f64 * part.loss.infinite),
        })
    }

    /// The smallest ε ≥ 0 with δ(ε) ≤ `delta`.
    pub(super) fn epsilon(&self, delta: f64) -> f64 {
        let (h, lambda) = (self.step, self.tilt);
        let spread = (-libm::expm1(-2.0 * lambda * h)).sqrt();
        let fall = libm::exp(-h);
        // The masses of the losses above, and the same times e^(ε−loss), for ε at this point.
        let (mut above, mut discounted) = (0.0f64, 0.0f64);
        for index in (0..self.tilted.len()).rev() {
            let loss = (self.first + index as i64) as f64 * h;
            discounted *= fall;
            let untilt = libm::exp(self.ln_moment - lambda * loss);
            let errors =
                self.outside + self.error * untilt / spread + above * (self.relative + 1e-12);
            // From here to the next point δ(ε) = above − e^(ε−loss) · discounted, and the errors.
            // What is not known exceeds it.
            let within = above - discounted + errors <= delta;
            if !within || loss < 0.0 {
                let excess = above + errors - delta;
                if excess <= 0.0 {
                    return 0.0;
                }
                if discounted <= 0.0 {
                    return f64::INFINITY;
                }
                let epsilon = loss + libm::log(excess / discounted);
                return known(epsilon.clamp(loss, loss + h) * (1.0 + 4.0 * f64::EPSILON)).max(0.0);
            }
            let mass = self.tilted[index].max(0.0) * untilt;
            above += mass;
            discounted += mass;
        }
        // The window begins below 0, so that the answer was found.
        f64::INFINITY
    }
}

impl Loss {
    /// The largest magnitude of a grid point's number.
    fn reach(&self) -> u64 {
        let last = self.first + self.masses.len() as i64;
        self.first.unsigned_abs().max(last.unsigned_abs())
    }
}

/// Logarithms of E e^(λL), for choosing a tilt and a window; no claim depends on their last digits.
struct Moments<'a> {
    parts: &'a [Part],
    h: f64,
}

impl Moments<'_> {
    fn ln(&self, lambda: f64) -> f64 {
        self.parts
            .iter()
            .map(|part| part.steps as f64 * part.loss.ln_moment(lambda, self.h))
            .sum()
    }

    /// Chernoff's bound on ε: ln δ ≥ ln E e^(λL) − λε.
    fn bound(&self, lambda: f64, delta: f64) -> f64 {
        (self.ln(lambda) - libm::log(delta)) / lambda
    }

    /// Half of the λ with the smallest such ε, give or take a quarter. Fully tilted, heavy tails
    /// would outweigh the losses near ε and need a window many times as wide; with half of it, the
    /// errors are still beyond the digits shown.
    fn tilt(&self, delta: f64) -> f64 {
        let candidates = (-24..=14).map(|half| libm::exp(f64::from(half) / 2.0));
        let bounded = candidates.map(|lambda| (self.bound(lambda, delta), lambda));
        // Far out masses underflow.
        let finite = bounded.filter(|(bound, _)| bound.is_finite());
        let best = finite.reduce(|best, next| if next.0 < best.0 { next } else { best });
        best.map_or(1.0, |(_, lambda)| lambda) / 2.0
    }

    /// Where all of the sum but `lost` lies, and all of the tilted sum but a part [`WINDOW`], whose
    /// rest the transform puts back in where it only adds.
    fn window(&self, tilt: f64, lost: f64) -> (f64, f64) {
        let whole = self.ln(tilt);
        // Chernoff's inequality: for the sum, and for the tilted sum upwards and downwards.
        let ends = ORDERS.map(|order| {
            let more = tilt * (order - 1.0);
            let ln_tilted = libm::log(WINDOW) + whole;
            (
                self.bound(tilt * order, lost),
                (self.ln(tilt + more) - ln_tilted) / more,
                (ln_tilted - self.ln(tilt - more)) / more,
            )
        });
        let least =
            |end: fn(&(f64, f64, f64)) -> f64| ends.iter().map(end).fold(f64::INFINITY, f64::min);
        let top = least(|end| end.0).max(least(|end| end.1));
        let bottom = ends
            .iter()
            .map(|end| end.2)
            .filter(|bottom| bottom.is_finite())
            .fold(f64::NEG_INFINITY, f64::max);
        // ε is never sought below 0.
        (bottom.min(-self.h), top.max(self.h))
    }

    /// Bounds the mass of losses above `end`.
    fn beyond(&self, tilt: f64, end: f64) -> f64 {
        let least = ORDERS
            .iter()
            .map(|order| self.ln(tilt * order) - tilt * order * end)
            .fold(0.0, f64::min);
        libm::exp(least) * (1.0 + 1e-6)
    }
}

/// Multiples of the tilt at which Chernoff's bound is tried.
const ORDERS: [f64; 6] = [1.1, 1.25, 1.5, 2.0, 3.0, 5.0];

impl Loss {
    /// ln Σ masses · e^(λl); powers of e^(λh) one by one, from the far end, so that none overflows.
    fn ln_moment(&self, lambda: f64, h: f64) -> f64 {
        let ratio = libm::exp(-lambda.abs() * h);
        let horner = |sum: f64, mass: &f64| sum * ratio + mass;
        let (sum, from) = if lambda >= 0.0 {
            let last = self.first + self.masses.len() as i64 - 1;
            (self.masses.iter().fold(0.0, horner), last)
        } else {
            (self.masses.iter().rev().fold(0.0, horner), self.first)
        };
        libm::log(sum) + lambda * h * from as f64
    }
}

/// The tilted masses of the sum, by grid point from `first` on, and the norm of their error.
fn convolve(parts: &[Part], n: usize, first: i64, tilt: f64, h: f64) -> (Vec<f64>, f64) {
    let transform = Transform::new(n);
    let kappa = 4.0 * f64::EPSILON * (n as f64).log2();
    let mut product = vec![Complex::ONE; n / 2 + 1];
    let (mut input, mut error) = (vec![0.0; n], 0.0);
    for part in parts {
        input.fill(0.0);
        let ln_moment = part.loss.ln_moment(tilt, h);
        for (at, mass) in (part.loss.first..).zip(&part.loss.masses) {
            let tilted = mass * libm::exp(tilt * h * at as f64 - ln_moment);
            input[at.rem_euclid(n as i64) as usize] += tilted;
        }
        let norm = input.iter().map(|x| x * x).sum::<f64>().sqrt();
        error += part.steps as f64 * kappa * norm;
        for (product, value) in product.iter_mut().zip(transform.forward(&input)) {
            *product = *product * power(value, part.steps);
        }
    }
    let mut tilted = transform.inverse(&product);
    tilted.rotate_left(first.rem_euclid(n as i64) as usize);
    let norm = tilted.iter().map(|x| x * x).sum::<f64>().sqrt();
    let steps: f64 = parts.iter().map(|part| part.steps as f64).sum();
    (tilted, error + norm * (kappa + 8.0 * f64::EPSILON * steps))
}

/// The square of a norm below which a power is nothing beside the error that is allowed for.
const NEGLIGIBLE: f64 = 1e-120;

/// `value` is of norm 1 at most, so that no factor makes up for a small one.
fn power(value: Complex, mut steps: u64) -> Complex {
    let (mut result, mut square) = (Complex::ONE, value);
    while steps > 0 {
        if square.norm_squared() < NEGLIGIBLE {
            return Complex::default();
        }
        if steps & 1 == 1 {
            result = result * square;
        }
        square = square * square;
        steps >>= 1;
    }
    result
}
