//! What every institution guarantees itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::serde_helpers::is_default;

/// What differential privacy protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// All text of one person in one institution.
    Person,
    Document,
    Sentence,
    /// Everything one institution holds.
    Institution,
    /// No noise: public text and baselines only.
    None,
}

impl Unit {
    pub const ALL: [Self; 5] = [
        Self::Person,
        Self::Document,
        Self::Sentence,
        Self::Institution,
        Self::None,
    ];

    /// Whether the units are within an institution, so that its training samples them and noises
    /// every step (DP-SGD), and the update needs no noise of its own.
    pub const fn is_sampled(self) -> bool {
        matches!(self, Self::Person | Self::Document | Self::Sentence)
    }
}

/// How a unit's gradient g is brought within the clip C. Either way ‖·‖ ≤ C, so that noise and claim
/// are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clipping {
    /// g·min(1, C/‖g‖) (Abadi et al. 2016, algorithm 1).
    #[default]
    Threshold,
    /// g·C/(‖g‖ + 0.01): every unit counts about the same, and C only scales the step (Bu, Wang, Zha
    /// and Karypis 2023, "Automatic Clipping", equation 2.2: AUTO-S).
    Automatic,
}

/// The guarantee every institution gives itself. With `unit = "none"` the other keys do nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privacy {
    pub unit: Unit,
    /// C, the largest L2 norm before noise: of an update, or, where units are sampled, of one
    /// unit's gradient.
    #[serde(default = "default_clip")]
    pub clip: f64,
    /// Only where units are sampled.
    #[serde(default, skip_serializing_if = "is_default")]
    pub clipping: Clipping,
    /// z = σ / C, the noise every institution adds to its own update, or to the sum of the
    /// gradients of each step. Where noise is shared, it is that of the sum of `noise_shares` updates.
    #[serde(default)]
    pub noise_multiplier: f64,
    #[serde(default = "default_delta")]
    pub delta: f64,
    /// No round starts at an institution that would take it past this ε.
    #[serde(default = "default_max_epsilon")]
    pub max_epsilon: f64,
    /// σ/K, the noise of counts on held-out text, which every institution adds to its own. With 0
    /// they have none, and leave only where an institution's policy lets exact ones out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub evaluation_noise: f64,
    /// K, the largest L2 norm of one unit's counts: those of entities found, missed and imagined,
    /// by type.
    #[serde(
        default = "default_evaluation_clip",
        skip_serializing_if = "is_default_evaluation_clip"
    )]
    pub evaluation_clip: u32,
    /// The largest L2 norm of an update, in the units of the weights; not with the unit
    /// `institution`, where it follows from clip and noise. Left out, see `Plan::largest_norm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_update_norm: Option<f64>,
    /// The largest number of windows of one unit that go into a step, drawn anew for each step; only
    /// where units are sampled. Left out, 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_windows: Option<u32>,
    /// The largest number of documents or sentences of one person that are trained on, and counted in an
    /// evaluation; only where the unit is one of them. It says what the plan costs a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_person: Option<u32>,
    /// h, among how many senders the noise of an update is divided: each adds σ/√h. Only with masked
    /// updates, of the unit `institution` or of a step that all take together.
    #[serde(
        default = "default_noise_shares",
        skip_serializing_if = "is_default_noise_shares"
    )]
    pub noise_shares: u32,
    /// N, the units of all institutions together, as everybody is told. With it a round is one step of DP-SGD that
    /// all take together, on a sample of each institution's own units; only where units are sampled and updates are
    /// masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cohort_units: Option<u32>,
}

const fn default_noise_shares() -> u32 {
    1
}
#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_default_noise_shares(shares: &u32) -> bool {
    *shares == default_noise_shares()
}
const fn default_clip() -> f64 {
    1.0
}
const fn default_delta() -> f64 {
    1e-5
}
const fn default_max_epsilon() -> f64 {
    8.0
}
const fn default_evaluation_clip() -> u32 {
    10
}
#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_default_evaluation_clip(clip: &u32) -> bool {
    *clip == default_evaluation_clip()
}

/// How counts on held-out text are protected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CountNoise {
    /// K, the largest L2 norm of one unit's counts.
    pub clip: u32,
    /// Standard deviation of the noise of each count.
    pub sigma: f64,
}

impl Default for Privacy {
    /// No noise, the clips and limits as if left out.
    fn default() -> Self {
        Self {
            unit: Unit::None,
            clip: default_clip(),
            clipping: Clipping::default(),
            noise_multiplier: 0.0,
            delta: default_delta(),
            max_epsilon: default_max_epsilon(),
            evaluation_noise: 0.0,
            evaluation_clip: default_evaluation_clip(),
            max_update_norm: None,
            max_windows: None,
            max_per_person: None,
            noise_shares: default_noise_shares(),
            cohort_units: None,
        }
    }
}

/// Where the clip of an update protects nobody, nothing is clipped in earnest, but the integer range must still be
/// bounded: larger updates than this L2 norm come from a training that diverged.
pub(super) const UNPROTECTED_CLIP: f64 = 64.0;

/// C/γ of a step that a cohort takes together, as a power of two.
const STEP_EXPONENT: u32 = 16;

/// What one institution adds to a coordinate of such a step, before noise, in clips: more than its largest samples.
const STEP_CLIPS: i64 = 1 << 13;

/// The scale on which updates are integers: C as a multiple of the grid γ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// C, in the units of the weights.
    pub clip: f64,
    /// C/γ as a power of two.
    pub exponent: u32,
}

impl Grid {
    /// γ, the size of one integer step in the units of the weights. Exact: C times a power of two.
    pub fn gamma(&self) -> f64 {
        self.clip * (-f64::from(self.exponent)).exp2()
    }

    /// C/γ.
    pub fn steps(&self) -> f64 {
        f64::from(self.exponent).exp2()
    }
}

/// Poisson sampling of units, each in a step with the same probability and independently.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// q: the plan's batch over the units the institution declared, which are public.
    pub rate: f64,
    /// Steps of one round.
    pub steps: u64,
}

impl Privacy {
    /// Whether a round is one step that all take together.
    pub const fn is_synchronous(&self) -> bool {
        self.cohort_units.is_some()
    }

    pub fn grid(&self) -> Grid {
        if self.is_synchronous() {
            return Grid {
                clip: self.clip,
                exponent: STEP_EXPONENT,
            };
        }
        match self.unit {
            Unit::Institution => Grid {
                clip: self.clip,
                exponent: 18,
            },
            // Noised in every step, what leaves needs neither clip nor noise.
            Unit::Person | Unit::Document | Unit::Sentence | Unit::None => Grid {
                clip: UNPROTECTED_CLIP,
                exponent: 24,
            },
        }
    }

    /// The noise multiplier of one update: zero where every step had its noise, and where the unit
    /// is `none`. Where noise is shared, it is that of a share, z/√h. In a step that all take together there is a little
    /// more of it, which pays for the rounding.
    pub fn update_noise_multiplier(&self) -> f64 {
        if self.unit == Unit::Institution || self.is_synchronous() {
            return self.noise_multiplier / f64::from(self.noise_shares.max(1)).sqrt();
        }
        0.0
    }

    /// Whether an update's own noise is a share of what its guarantee rests on.
    pub const fn shares_noise(&self) -> bool {
        self.noise_shares > 1
    }

    /// The noise's standard deviation: in one update, or in the sum of the gradients of each step.
    pub fn sigma(&self) -> f64 {
        match self.unit {
            Unit::None => 0.0,
            Unit::Person | Unit::Document | Unit::Sentence if !self.is_synchronous() => {
                self.noise_multiplier * self.clip
            }
            Unit::Person | Unit::Document | Unit::Sentence | Unit::Institution => {
                self.update_noise_multiplier() * self.clip
            }
        }
    }

    /// The noise's standard deviation in what is opened: one update, the sum of a step's gradients, or that sum over the
    /// cohort.
    pub fn sigma_of_sum(&self) -> f64 {
        if self.is_synchronous() {
            return self.noise_multiplier * self.clip;
        }
        self.sigma()
    }

    /// The noise of counts on held-out text; `None` where they are exact.
    pub fn count_noise(&self) -> Option<CountNoise> {
        let clip = self.evaluation_clip;
        let noised = self.unit != Unit::None && self.evaluation_noise > 0.0;
        noised.then_some(CountNoise {
            clip,
            sigma: self.evaluation_noise * f64::from(clip),
        })
    }

    /// The largest magnitude an honest encoded value can have: the clip, and 64 standard
    /// deviations of noise, which a Gaussian passes with a probability below e^-2000.
    ///
    /// In a step that all take together there are as many clips as [`step_bound`](Self::step_bound) has.
    pub fn value_bound(&self) -> i64 {
        let steps = self.grid().steps();
        if self.is_synchronous() {
            // Noise is at most twice that of the clip: of up to 2^32 weights the rounding is at most a clip.
            return self.step_bound()
                + (128.0 * (self.update_noise_multiplier() * steps).ceil()) as i64
                + 2;
        }
        (steps + 64.0 * (self.update_noise_multiplier() * steps).ceil()) as i64 + 2
    }
}

impl Privacy {
    /// The largest magnitude of a coordinate before noise, in a step that all take together. What is beyond is cut.
    pub fn step_bound(&self) -> i64 {
        STEP_CLIPS << STEP_EXPONENT
    }
}

impl FromStr for Unit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|unit| unit.to_string() == text);
        found.ok_or_else(|| {
            format!(
                "`{text}` is not a unit: expected person, document, sentence, institution or none"
            )
        })
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Person => "person",
            Self::Document => "document",
            Self::Sentence => "sentence",
            Self::Institution => "institution",
            Self::None => "none",
        })
    }
}
