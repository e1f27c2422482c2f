use crate::noise;

/// Why nothing is released. None of these says what the update was, but that one happened
/// depends on it: a client reports a fault of its own, never the variant.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("weight {index} of the update is {value}: expected a finite number")]
    NotFinite { index: usize, value: f32 },
    #[error("`privacy.{key}` is {found}: expected {expected}")]
    Parameter {
        key: &'static str,
        found: f64,
        expected: &'static str,
    },
    #[error("the update has {found} weights: expected {expected}")]
    Dimension { expected: usize, found: usize },
    #[error("no rounding was within the norm bound in {attempts} attempts")]
    Rounding { attempts: u32 },
    #[error("OpenDP's privacy map says that the release costs more than the ρ = {rho} accounted")]
    Cost { rho: f64 },
    #[error("the noise could not be drawn: {0}")]
    Noise(#[from] noise::Error),
}
