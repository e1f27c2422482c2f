//! The plan: the immutable, signed description of a run.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::id::{InstitutionId, PlanName, VersionName};
use crate::sign::Statement;

/// A plan as its TOML file writes it. Unknown keys are errors; units are in the names.
///
/// ```
/// let plan = fedner_shared::plan::Plan::parse(r#"
///     name = "disease-ner"
///     base = "minilm@1"
///     labels = ["Disease"]
///     method = "head"
///     rounds = 5
///     seed = 7
///     [cohort]
///     institutions = ["st-anna", "mercy"]
///     quorum = 2
///     [privacy]
///     unit = "institution"
///     clip = 1.0
///     noise_multiplier = 1.0
///     delta = 1e-5
///     max_epsilon = 100.0
/// "#).unwrap();
/// assert_eq!(plan.training.batch_size, 16);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub name: PlanName,
    /// The model version the run starts from.
    pub base: VersionName,
    /// Entity types, without `B-` and `I-`.
    pub labels: Vec<String>,
    pub method: Method,
    pub rounds: u32,
    #[serde(default)]
    pub seed: u64,
    #[serde(default)]
    pub training: Training,
    pub cohort: Cohort,
    pub privacy: Privacy,
}

/// Which weights are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Every weight.
    Full,
    /// The tagging head on a frozen encoder.
    Head,
}

/// Settings of local training. The defaults are those of the Hugging Face reference run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Training {
    pub local_epochs: u32,
    pub batch_size: usize,
    /// The peak of the schedule, which runs over all rounds together.
    pub learning_rate: f64,
    /// The part of all steps, from 0 to 1, over which the learning rate rises from zero.
    pub warmup: f64,
    pub weight_decay: f64,
    /// Largest L2 norm of a step's gradient.
    pub max_grad_norm: f64,
    /// The probability of dropping an activation; absent: what the model's config.json says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// Longer sentences are cut to this many sub-tokens.
    pub max_tokens: usize,
    pub device: String,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            local_epochs: 1,
            batch_size: 16,
            learning_rate: 1e-4,
            warmup: 0.1,
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            dropout: None,
            max_tokens: 256,
            device: "auto".into(),
        }
    }
}

/// Who takes part, and how long is waited for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cohort {
    pub institutions: Vec<InstitutionId>,
    /// Updates needed to publish a version.
    pub quorum: usize,
    #[serde(default = "default_recruit_timeout_s")]
    pub recruit_timeout_s: u64,
    #[serde(default = "default_train_timeout_s")]
    pub train_timeout_s: u64,
    #[serde(default = "default_evaluate_timeout_s")]
    pub evaluate_timeout_s: u64,
    /// An institution not heard of for so long is no longer waited for once the quorum is in;
    /// it may come back at any time.
    #[serde(default = "default_away_after_s")]
    pub away_after_s: u64,
    /// How often one round is tried before the run fails.
    #[serde(default = "default_max_attempts")]
    pub max_attempts: u32,
    #[serde(default)]
    pub weighting: Weighting,
    /// Largest example count an institution may declare.
    #[serde(default = "default_max_examples")]
    pub max_examples: u32,
}

const fn default_recruit_timeout_s() -> u64 {
    600
}
const fn default_train_timeout_s() -> u64 {
    3600
}
const fn default_evaluate_timeout_s() -> u64 {
    600
}
const fn default_away_after_s() -> u64 {
    60
}
const fn default_max_attempts() -> u32 {
    3
}
const fn default_max_examples() -> u32 {
    1_000_000
}

/// How FedAvg weighs the updates (McMahan et al. 2017, Algorithm 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// By the example count each institution declared with its consent.
    #[default]
    Examples,
    Equal,
}

/// What differential privacy protects (`privacy.md` of the design).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Everything one institution holds.
    Institution,
    /// No noise: public text and baselines only.
    None,
}

/// The guarantee every institution gives itself. With `unit = "none"` the other keys do nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privacy {
    pub unit: Unit,
    /// C, the largest L2 norm of an update before noise.
    #[serde(default = "default_clip")]
    pub clip: f64,
    /// z = σ / C, the noise every institution adds to its own update.
    #[serde(default)]
    pub noise_multiplier: f64,
    #[serde(default = "default_delta")]
    pub delta: f64,
    /// No round starts at an institution that would take it past this ε.
    #[serde(default = "default_max_epsilon")]
    pub max_epsilon: f64,
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

/// With `unit = "none"` nothing is clipped in earnest, but the integer range must still be
/// bounded: larger updates than this L2 norm come from a training that diverged.
const UNPROTECTED_CLIP: f64 = 64.0;

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

impl Privacy {
    pub fn grid(&self) -> Grid {
        match self.unit {
            Unit::Institution => Grid {
                clip: self.clip,
                exponent: 18,
            },
            Unit::None => Grid {
                clip: UNPROTECTED_CLIP,
                exponent: 24,
            },
        }
    }

    /// The noise multiplier in force: zero where the unit is `none`.
    pub fn noise(&self) -> f64 {
        match self.unit {
            Unit::Institution => self.noise_multiplier,
            Unit::None => 0.0,
        }
    }

    /// The largest magnitude an honest encoded value can have: the clip, and 64 standard
    /// deviations of noise, which a Gaussian passes with a probability below e^-2000.
    pub fn value_bound(&self) -> i64 {
        let steps = self.grid().steps();
        (steps + 64.0 * (self.noise() * steps).ceil()) as i64 + 2
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the plan cannot be read: {0}")]
    Syntax(#[from] toml::de::Error),
    #[error("the plan's `{key}` is {found}: expected {expected}")]
    Value {
        key: &'static str,
        found: String,
        expected: String,
    },
}

impl Plan {
    /// Reads and checks a plan file.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let plan: Self = toml::from_str(text)?;
        plan.check()?;
        Ok(plan)
    }

    /// The plan's identity: the digest of its canonical JSON.
    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }

    /// The tags of the model, `O` first.
    pub fn tags(&self) -> Vec<String> {
        crate::bert::tags(&self.labels)
    }

    /// Checks every value; parsing does it too, and so does whoever receives a plan.
    pub fn check(&self) -> Result<(), Error> {
        self.check_labels()?;
        self.check_training()?;
        self.check_cohort()?;
        self.check_privacy()?;
        between("rounds", self.rounds, 1, 10_000)
    }

    fn check_labels(&self) -> Result<(), Error> {
        between("labels", self.labels.len(), 1, 256)?;
        let distinct: BTreeSet<_> = self.labels.iter().collect();
        if distinct.len() != self.labels.len() {
            return Err(value(
                "labels",
                format!("{:?}", self.labels),
                "each type once",
            ));
        }
        for label in &self.labels {
            let prefixed = ["B-", "I-", "E-", "S-"]
                .iter()
                .any(|p| label.starts_with(p));
            let odd =
                label.is_empty() || label.chars().any(|c| c.is_whitespace() || c.is_control());
            if prefixed || odd || label == "O" || label.len() > 128 {
                let expected =
                    "entity types without spaces and without B- or I-, such as \"Disease\"";
                return Err(value("labels", format!("{label:?}"), expected));
            }
        }
        Ok(())
    }

    fn check_training(&self) -> Result<(), Error> {
        let t = &self.training;
        between("training.local_epochs", t.local_epochs, 1, 1000)?;
        between("training.batch_size", t.batch_size, 1, 65_536)?;
        between("training.max_tokens", t.max_tokens, 8, 8192)?;
        range("training.learning_rate", t.learning_rate, 0.0, 10.0, false)?;
        range("training.warmup", t.warmup, 0.0, 1.0, true)?;
        range("training.weight_decay", t.weight_decay, 0.0, 1.0, true)?;
        range("training.max_grad_norm", t.max_grad_norm, 0.0, 1e9, false)?;
        range(
            "training.dropout",
            t.dropout.unwrap_or_default(),
            0.0,
            0.95,
            true,
        )
    }

    fn check_cohort(&self) -> Result<(), Error> {
        let c = &self.cohort;
        between("cohort.institutions", c.institutions.len(), 1, 100_000)?;
        let distinct: BTreeSet<_> = c.institutions.iter().collect();
        if distinct.len() != c.institutions.len() {
            let found = format!("{:?}", c.institutions);
            return Err(value("cohort.institutions", found, "each institution once"));
        }
        between("cohort.quorum", c.quorum, 1, c.institutions.len())?;
        between(
            "cohort.recruit_timeout_s",
            c.recruit_timeout_s,
            1,
            31_536_000,
        )?;
        between("cohort.train_timeout_s", c.train_timeout_s, 1, 31_536_000)?;
        between(
            "cohort.evaluate_timeout_s",
            c.evaluate_timeout_s,
            1,
            31_536_000,
        )?;
        between("cohort.away_after_s", c.away_after_s, 1, 31_536_000)?;
        between("cohort.max_attempts", c.max_attempts, 1, 1000)?;
        between("cohort.max_examples", c.max_examples, 1, 1 << 30)
    }

    fn check_privacy(&self) -> Result<(), Error> {
        let p = &self.privacy;
        if p.unit == Unit::None {
            return Ok(());
        }
        range("privacy.clip", p.clip, 1e-6, 1e6, true)?;
        range(
            "privacy.noise_multiplier",
            p.noise_multiplier,
            1e-4,
            100.0,
            true,
        )?;
        range("privacy.delta", p.delta, 0.0, 0.5, false)?;
        range("privacy.max_epsilon", p.max_epsilon, 0.0, 1e9, false)?;
        // The weighted sum must fit a machine word whatever the institutions declare.
        let weights = self.cohort.institutions.len() as i128 * i128::from(self.largest_weight());
        if weights * i128::from(p.value_bound()) >= 1 << 62 {
            let expected = "a product of institutions, examples and noise below 2^62";
            return Err(value(
                "cohort.max_examples",
                self.cohort.max_examples,
                expected,
            ));
        }
        Ok(())
    }

    /// How much larger the noise in the mean of all updates is than the signal can be, with `d`
    /// trainable weights: `z · √(d / N)`.
    ///
    /// Each of the N institutions adds noise of deviation zC to each weight of its own update, so
    /// that its guarantee holds against the coordinator too. The mean has deviation zC/√N a
    /// weight, a norm of zC√(d/N), against a signal whose norm is at most C.
    pub fn noise_to_signal(&self, d: usize) -> f64 {
        self.privacy.noise() * (d as f64 / self.cohort.institutions.len() as f64).sqrt()
    }

    /// The largest weight FedAvg can give one institution.
    pub fn largest_weight(&self) -> u32 {
        match self.cohort.weighting {
            Weighting::Examples => self.cohort.max_examples,
            Weighting::Equal => 1,
        }
    }

    /// The weight of an institution that declared `examples`.
    pub fn weight(&self, examples: u32) -> u32 {
        match self.cohort.weighting {
            Weighting::Examples => examples,
            Weighting::Equal => 1,
        }
    }
}

impl Cohort {
    pub fn recruit_timeout(&self) -> Duration {
        Duration::from_secs(self.recruit_timeout_s)
    }
    pub fn train_timeout(&self) -> Duration {
        Duration::from_secs(self.train_timeout_s)
    }
    pub fn evaluate_timeout(&self) -> Duration {
        Duration::from_secs(self.evaluate_timeout_s)
    }
    pub fn away_after(&self) -> Duration {
        Duration::from_secs(self.away_after_s)
    }
}

impl Statement for Plan {
    const KIND: &'static str = "plan";
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Full => "full",
            Self::Head => "head",
        })
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "full" => Ok(Self::Full),
            "head" => Ok(Self::Head),
            other => Err(format!("`{other}` is not a method: expected full or head")),
        }
    }
}

impl FromStr for Unit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "institution" => Ok(Self::Institution),
            "none" => Ok(Self::None),
            other => Err(format!(
                "`{other}` is not a unit: expected institution or none"
            )),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Institution => "institution",
            Self::None => "none",
        })
    }
}

fn value(key: &'static str, found: impl ToString, expected: impl Into<String>) -> Error {
    Error::Value {
        key,
        found: found.to_string(),
        expected: expected.into(),
    }
}

fn between<N: PartialOrd + fmt::Display>(
    key: &'static str,
    n: N,
    low: N,
    high: N,
) -> Result<(), Error> {
    if n < low || n > high {
        return Err(value(key, n, format!("a number from {low} to {high}")));
    }
    Ok(())
}

/// `inclusive` says whether `low` itself is allowed; a NaN never is.
fn range(key: &'static str, x: f64, low: f64, high: f64, inclusive: bool) -> Result<(), Error> {
    let inside = x <= high && (x > low || (inclusive && x >= low));
    if inside {
        return Ok(());
    }
    let above = if inclusive { "from" } else { "above" };
    Err(value(key, x, format!("a number {above} {low} to {high}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) const EXAMPLE: &str = r#"
name = "disease-ner"
base = "minilm@1"
labels = ["Disease"]
method = "full"
rounds = 5
seed = 7

[training]
local_epochs = 1
batch_size = 16
learning_rate = 1e-4
max_tokens = 256
device = "auto"

[cohort]
institutions = ["st-anna", "mercy", "north"]
quorum = 2
recruit_timeout_s = 600
train_timeout_s = 3600
weighting = "examples"

[privacy]
unit = "institution"
clip = 1.0
noise_multiplier = 1.0
delta = 1e-5
max_epsilon = 8.0
"#;

    #[test]
    fn the_documented_example_reads_and_its_digest_is_that_of_its_meaning() {
        let plan = Plan::parse(EXAMPLE).expect("example");
        let spaced =
            Plan::parse(&EXAMPLE.replace("rounds = 5", "rounds    =   5 # five")).expect("same");
        assert_eq!(plan.digest(), spaced.digest());
        let other = Plan::parse(&EXAMPLE.replace("rounds = 5", "rounds = 6")).expect("other");
        assert_ne!(plan.digest(), other.digest());
    }

    #[test]
    fn wrong_values_name_their_key() {
        let cases = [
            ("rounds = 5", "rounds = 0", "rounds"),
            ("quorum = 2", "quorum = 4", "cohort.quorum"),
            ("quorum = 2", "quorum = 0", "cohort.quorum"),
            ("\"mercy\"", "\"st-anna\"", "cohort.institutions"),
            ("[\"Disease\"]", "[\"B-Disease\"]", "labels"),
            ("[\"Disease\"]", "[]", "labels"),
            ("[\"Disease\"]", "[\"A\", \"A\"]", "labels"),
            (
                "learning_rate = 1e-4",
                "learning_rate = nan",
                "training.learning_rate",
            ),
            (
                "learning_rate = 1e-4",
                "learning_rate = -1.0",
                "training.learning_rate",
            ),
            ("clip = 1.0", "clip = 0.0", "privacy.clip"),
            (
                "noise_multiplier = 1.0",
                "noise_multiplier = 0.0",
                "privacy.noise_multiplier",
            ),
            ("delta = 1e-5", "delta = 0.0", "privacy.delta"),
            (
                "max_epsilon = 8.0",
                "max_epsilon = inf",
                "privacy.max_epsilon",
            ),
        ];
        for (from, to, key) in cases {
            assert!(EXAMPLE.contains(from), "{from}");
            let error = Plan::parse(&EXAMPLE.replace(from, to)).expect_err(to);
            assert!(
                matches!(error, Error::Value { key: k, .. } if k == key),
                "{to}: {error}"
            );
        }
    }

    #[test]
    fn unknown_keys_and_unknown_words_are_errors() {
        for (from, to) in [
            ("seed = 7", "seeed = 7"),
            ("batch_size = 16", "batchsize = 16"),
            ("quorum = 2", "quorum = 2\nquorate = 3"),
            ("method = \"full\"", "method = \"fulll\""),
            ("unit = \"institution\"", "unit = \"galaxy\""),
        ] {
            let error = Plan::parse(&EXAMPLE.replace(from, to)).expect_err(to);
            assert!(matches!(error, Error::Syntax(_)), "{to}: {error}");
        }
    }

    #[test]
    fn without_noise_the_grid_is_finer_and_the_bound_has_no_noise_in_it() {
        let text = EXAMPLE.replace("unit = \"institution\"", "unit = \"none\"");
        let plan = Plan::parse(&text).expect("plan");
        assert_eq!(plan.privacy.noise().to_bits(), 0);
        assert_eq!(plan.privacy.value_bound(), (1 << 24) + 2);
        assert!((plan.privacy.grid().gamma() - 64.0 / f64::from(1 << 24)).abs() < f64::EPSILON);
    }
}
