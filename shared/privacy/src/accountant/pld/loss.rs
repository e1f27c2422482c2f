//! One step's privacy loss on a grid.

use crate::accountant::Phase;

/// Losses between two grid points are split between them, which widens the distribution; each
/// step may add this much to its variance, in parts of what all steps may.
const WIDENING: f64 = 6e-4;
/// The grid's step, at most, in deviations of one step's loss.
const FINENESS: f64 = 0.03;
/// Points of one step's grid, at most.
const MOST_POINTS: f64 = 1e6;
/// From here on 1 − q is nothing beside e^loss, which overflows soon after.
const LARGE: f64 = 700.0;
/// A difference this small beside what it is the difference of has digits too few for a bound.
const UNCLEAR: f64 = 1e-9;
/// The part of δ that may go to the losses cut off as infinite.
const CUT: f64 = 1e-7;

/// Losses are multiples of `step`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    pub(super) step: f64,
    /// Outcomes are cut off this many deviations from their mean.
    reach: f64,
}

impl Grid {
    pub(super) fn fitting(phases: &[Phase], delta: f64) -> Self {
        let steps: f64 = phases.iter().map(|phase| phase.steps as f64).sum();
        // Φ(−r) < e^(−r²/2) for each step's two ends.
        let ln_rest = libm::log(4.0 * steps) - libm::log(delta) - libm::log(CUT);
        let reach = (2.0 * ln_rest).sqrt();
        let fine = phases
            .iter()
            .map(|phase| FINENESS * deviation(phase))
            .fold((WIDENING / steps).sqrt(), f64::min);
        let widest = phases
            .iter()
            .map(|phase| loss(phase, 1.0 + reach * phase.noise_multiplier) - lowest(phase, reach))
            .fold(0.0, f64::max);
        Self {
            step: fine.max(widest / MOST_POINTS),
            reach,
        }
    }
}

/// Roughly the standard deviation of one step's loss.
fn deviation(phase: &Phase) -> f64 {
    let plain = phase.noise_multiplier.recip();
    (phase.sampling_rate * libm::expm1(plain * plain).sqrt()).min(plain)
}

/// ln((1−q) + q·e^((2x−1)/2σ²)), for the unit removed.
fn loss(phase: &Phase, x: f64) -> f64 {
    let (q, sigma) = (phase.sampling_rate, phase.noise_multiplier);
    let exponent = (2.0 * x - 1.0) / (2.0 * sigma * sigma);
    if q >= 1.0 {
        exponent
    } else if exponent > 0.0 {
        exponent + libm::log(q + (1.0 - q) * libm::exp(-exponent))
    } else {
        libm::log1p(q * libm::expm1(exponent))
    }
}

fn lowest(phase: &Phase, reach: f64) -> f64 {
    loss(phase, -reach * phase.noise_multiplier)
}

/// Masses at `first·step`, `(first+1)·step`, … and at infinity, so that those from any loss up are
/// together never below the true mass there.
#[derive(Debug)]
pub(super) struct Loss {
    pub(super) first: i64,
    pub(super) masses: Vec<f64>,
    pub(super) infinite: f64,
}

impl Loss {
    /// With the unit removed, P having it and Q not, and with it added, the other way round.
    ///
    /// The mass that P and Q have between two grid points goes to these two so that both masses
    /// stay: with `b` of P's mass p at the upper one, `p = a + b` and `Q's = a·e^(−l) + b·e^(−l−h)`.
    /// That interpolates δ as a function of e^ε linearly between grid points, and δ is convex, so it
    /// is nowhere lower (Doroshenko, Ghazi, Kamath, Kumar and Manurangsi 2022, "Connect the Dots:
    /// Tighter Discrete Approximations of Privacy Loss Distributions"). What is cut off moves up:
    /// low losses to the first point, high ones to infinity. So does what `b` may be wrong by: δ
    /// never falls when mass moves to a higher loss.
    pub(super) fn both_directions(phase: &Phase, grid: Grid) -> (Self, Self) {
        let h = grid.step;
        let reach = grid.reach * phase.noise_multiplier;
        let low = (lowest(phase, grid.reach) / h).floor() as i64;
        let high = (loss(phase, 1.0 + reach) / h).ceil() as i64;
        let edges: Vec<Edge> = (low..=high)
            .map(|k| Edge::at(phase, k as f64 * h))
            .collect();
        let (below, above) = (edges[0].below(phase), edges[edges.len() - 1].above(phase));
        let per_step = -libm::expm1(-h);
        let last = edges.len() - 1;
        let (mut removed, mut added) = (vec![0.0; last + 1], vec![0.0; last + 1]);
        for (at, ends) in edges.windows(2).enumerate() {
            let (plain, shifted) = (ends[0].plain_to(&ends[1]), ends[0].shifted_to(&ends[1]));
            let mixed = plain.mixed(shifted, phase.sampling_rate);
            let floor = (low + at as i64) as f64 * h;
            let (stays, rises) = split(mixed, plain, floor, per_step);
            removed[at] += stays;
            removed[at + 1] += rises;
            // The loss of exchanged P and Q is the negative one.
            let (stays, rises) = split(plain, mixed, -(floor + h), per_step);
            added[last - at - 1] += stays;
            added[last - at] += rises;
        }
        removed[0] += below.1;
        added[0] += above.0;
        let removed = Self {
            first: low,
            masses: removed,
            infinite: above.1,
        };
        let added = Self {
            first: -high,
            masses: added,
            infinite: below.0,
        };
        (removed, added)
    }
}

/// P's mass `p` at the grid point of loss `floor` and at the next, when Q's is `q` there.
fn split(p: Mass, q: Mass, floor: f64, per_step: f64) -> (f64, f64) {
    let whole = p.mass + p.error;
    let scale = libm::exp(floor);
    if !scale.is_finite() {
        return (0.0, whole);
    }
    let excess = p.mass - scale * q.mass;
    // The exponential's argument is off by up to a part in 2^53.
    let scaling = (8.0 + floor.abs()) * f64::EPSILON * (p.mass + scale * q.mass);
    let error = p.error + scale * q.error + scaling;
    let rises = ((excess + error) / per_step).clamp(0.0, whole);
    (whole - rises, rises)
}

/// A mass and what it can be wrong by.
#[derive(Debug, Clone, Copy)]
struct Mass {
    mass: f64,
    error: f64,
}

impl Mass {
    fn mixed(self, other: Self, q: f64) -> Self {
        Self {
            mass: (1.0 - q) * self.mass + q * other.mass,
            error: self.error + other.error + 4.0 * f64::EPSILON * (self.mass + other.mass),
        }
    }
}

/// The outcome x with a given loss, in deviations from the mean of either normal distribution, and
/// their tails there.
#[derive(Debug)]
struct Edge {
    plain: Tail,
    shifted: Tail,
}

/// The smaller tail at z: Φ(−|z|), and its error, that of z included.
#[derive(Debug)]
struct Tail {
    z: f64,
    mass: f64,
    error: f64,
}

impl Edge {
    fn at(phase: &Phase, loss: f64) -> Self {
        let q = phase.sampling_rate;
        if q >= 1.0 {
            return Self::beyond(phase, loss, 0.0);
        }
        if loss > LARGE {
            return Self::beyond(phase, loss - libm::log(q), 1.0);
        }
        // e^loss − (1 − q), which loses digits only near the lowest loss there is, ln(1 − q).
        let (one, other) = if loss < -0.5 {
            (libm::exp(loss), q - 1.0)
        } else {
            (libm::expm1(loss), q)
        };
        let (excess, size) = (one + other, one.abs() + other.abs());
        if excess >= size * UNCLEAR {
            return Self::beyond(phase, ln_ratio(excess, q), size / excess);
        }
        // Below it, or by so little above that all its tail may be one or the other's.
        let least = Self::beyond(phase, ln_ratio(2.0 * UNCLEAR * size, q), 0.0);
        let surely_below = excess < -size * UNCLEAR;
        Self {
            plain: least.plain.all_doubted(surely_below),
            shifted: least.shifted.all_doubted(surely_below),
        }
    }

    /// At x = σ²·`ln_ratio` + 1/2, where the ratio was found with this condition number.
    fn beyond(phase: &Phase, ln_ratio: f64, condition: f64) -> Self {
        let sigma = phase.noise_multiplier;
        let x = sigma * sigma * ln_ratio + 0.5;
        let doubt = 4.0 * f64::EPSILON * (condition + 2.0) * sigma * sigma;
        let doubt = (doubt + 4.0 * f64::EPSILON * (x.abs() + 1.0)) / sigma;
        Self {
            plain: Tail::at(x / sigma, doubt),
            shifted: Tail::at((x - 1.0) / sigma, doubt),
        }
    }

    fn plain_to(&self, next: &Self) -> Mass {
        self.plain.to(&next.plain)
    }

    fn shifted_to(&self, next: &Self) -> Mass {
        self.shifted.to(&next.shifted)
    }

    /// Masses without and with the unit below this outcome, upper bounds.
    fn below(&self, phase: &Phase) -> (f64, f64) {
        self.side(phase, |tail| tail.below())
    }

    fn above(&self, phase: &Phase) -> (f64, f64) {
        self.side(phase, |tail| tail.above())
    }

    fn side(&self, phase: &Phase, mass: impl Fn(&Tail) -> f64) -> (f64, f64) {
        let (plain, shifted) = (mass(&self.plain), mass(&self.shifted));
        let q = phase.sampling_rate;
        (
            plain,
            ((1.0 - q) * plain + q * shifted) * (1.0 + 4.0 * f64::EPSILON),
        )
    }
}

/// ln(a/q), also where the ratio itself is beyond the range of f64.
fn ln_ratio(a: f64, q: f64) -> f64 {
    let ratio = a / q;
    if ratio.is_finite() {
        libm::log(ratio)
    } else {
        libm::log(a) - libm::log(q)
    }
}

impl Tail {
    fn at(z: f64, doubt: f64) -> Self {
        let mass = libm::erfc(z.abs() / std::f64::consts::SQRT_2) / 2.0;
        // The density is below (|z| + 1) times the tail.
        let error = mass * (4.0 * f64::EPSILON * (1.0 + z * z) + (z.abs() + 1.0) * doubt);
        Self { z, mass, error }
    }

    /// At z = −∞ unless `surely` false, where it may be anywhere up to here.
    fn all_doubted(&self, surely: bool) -> Self {
        Self {
            z: f64::NEG_INFINITY,
            mass: 0.0,
            error: if surely { 0.0 } else { self.below() },
        }
    }

    fn below(&self) -> f64 {
        let mass = if self.z < 0.0 {
            self.mass
        } else {
            1.0 - self.mass
        };
        mass + self.error
    }

    fn above(&self) -> f64 {
        let mass = if self.z < 0.0 {
            1.0 - self.mass
        } else {
            self.mass
        };
        mass + self.error
    }

    /// The mass between here and a higher outcome.
    fn to(&self, next: &Self) -> Mass {
        let mass = if self.z >= 0.0 {
            self.mass - next.mass
        } else if next.z <= 0.0 {
            next.mass - self.mass
        } else {
            1.0 - self.mass - next.mass
        };
        Mass {
            mass: mass.max(0.0),
            error: self.error + next.error + 2.0 * f64::EPSILON * mass,
        }
    }
}
