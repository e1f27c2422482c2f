//! The two families of released noise, as exponents: P(x) ∝ e^(-φ(|x|)).

use dashu_int::UBig;

use super::Error;
use super::interval::Ratio;

/// Largest scale, 2^40.
const LARGEST: f64 = 1_099_511_627_776.0;

/// A symmetric distribution on the integers. The scale is exactly the f64 given: each is a
/// rational number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// `φ(m) = m² / 2σ²`.
    Gaussian { sigma: f64 },
    /// `φ(m) = m / b`.
    Laplace { scale: f64 },
}

impl Shape {
    pub(super) fn check(self) -> Result<(), Error> {
        let scale = self.scale();
        if scale.is_normal() && scale > 0.0 && scale <= LARGEST {
            return Ok(());
        }
        Err(Error::Scale { found: scale })
    }

    pub fn scale(self) -> f64 {
        match self {
            Self::Gaussian { sigma } => sigma,
            Self::Laplace { scale } => scale,
        }
    }

    /// φ(m), without rounding.
    pub(super) fn exponent(self, magnitude: &UBig) -> Ratio {
        let scale = Ratio::from_f64(self.scale());
        match self {
            Self::Gaussian { .. } => Ratio {
                numerator: (magnitude * scale.denominator).sqr(),
                denominator: scale.numerator.sqr() << 1,
            },
            Self::Laplace { .. } => Ratio {
                numerator: magnitude * scale.denominator,
                denominator: scale.numerator,
            },
        }
    }

    /// About the magnitude with e^(-φ) = 2^-bits.
    pub(super) fn reach(self, bits: u32) -> f64 {
        let exponent = f64::from(bits) * std::f64::consts::LN_2;
        match self {
            Self::Gaussian { sigma } => (2.0 * exponent).sqrt() * sigma,
            Self::Laplace { scale } => exponent * scale,
        }
    }

    /// About φ(m + step) − φ(m).
    pub(super) fn rise(self, magnitude: f64, step: f64) -> f64 {
        match self {
            Self::Gaussian { sigma } => (2.0 * magnitude + step) / sigma * (step / sigma) / 2.0,
            Self::Laplace { scale } => step / scale,
        }
    }

    /// `[a, b, c]` with φ(u·width + s) − φ(u·width) ≈ z·(a·u + b·z + c), where z = s/width.
    pub(super) fn slopes(self, width: f64) -> [f32; 3] {
        let relative = width / self.scale();
        let [a, b, c] = match self {
            Self::Gaussian { .. } => [relative * relative, relative * relative / 2.0, 0.0],
            Self::Laplace { .. } => [0.0, 0.0, relative],
        };
        [a as f32, b as f32, c as f32]
    }
}
