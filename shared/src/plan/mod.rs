#![doc = include_str!("PLAN.md")]

mod aggregation;
mod check;
mod cohort;
mod counts;
mod defaults;
mod error;
mod gate;
mod guard;
mod inputs;
mod method;
mod norm;
mod privacy;
pub mod ranges;
mod release;
mod requires;
mod rows;
mod schedule;
mod secure;
mod server_optimizer;
mod synchronous;
mod training;
mod types;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::id::{InstitutionId, PlanName, VersionName};
use crate::serde_helpers::is_default;
use crate::sign::Statement;

pub use aggregation::{
    Aggregation, CLIP_FACTOR, FACTOR_BITS, Rows, Rule, Strategy, TRIM, left_out,
};
pub use cohort::{Cohort, MembersSee, Weighting};
pub use error::Error;
pub use gate::{Gate, OnRegression, Score};
pub use guard::{DecidedBy, Guard, LEAST_UPDATES};
pub use inputs::{Inputs, Pinned};
pub use method::{Lora, Method, Target, Trainable};
pub use privacy::{Clipping, CountNoise, Grid, Privacy, Sampling, Unit};
pub use requires::Requires;
pub use schedule::Schedule;
pub use secure::{LARGEST_GROUP, SMALLEST_GROUP, SecureAggregation, threshold};
pub use server_optimizer::{OptimizerName, ServerOptimizer};
pub use training::{Decay, Precision, Training};
pub use types::KnownTypes;

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
    /// What happens to the types that the base knows already.
    #[serde(default, skip_serializing_if = "is_default")]
    pub known_types: KnownTypes,
    /// Types of the base, and what the plan calls them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rename: BTreeMap<String, String>,
    /// Types of the base that the plan leaves out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
    pub method: Method,
    pub rounds: u32,
    #[serde(default)]
    pub seed: u64,
    /// Of two runs that want an institution, that of the larger number has it first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: u32,
    #[serde(default)]
    pub training: Training,
    /// The adapters; only with the methods `lora` and `ffa-lora`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<Lora>,
    pub cohort: Cohort,
    #[serde(default, skip_serializing_if = "is_default")]
    pub aggregation: Aggregation,
    /// Masks updates, so that the coordinator sees their sum alone; without it, it sees each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_aggregation: Option<SecureAggregation>,
    /// What becomes of the mean update; without it, it is added to the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_optimizer: Option<ServerOptimizer>,
    pub privacy: Privacy,
    /// What a version must show before it is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// What sets a member aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
    /// When rounds begin; without it, each follows the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// What an institution's machine must have; without it, every machine will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires: Option<Requires>,
    /// What the run begins with; the coordinator says it before the operator signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Inputs>,
}

impl Plan {
    /// Reads and checks a plan file. Where its unit is sampled, some keys that it leaves out have
    /// other defaults than elsewhere.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut plan: Self = toml::from_str(text)?;
        plan.fill_in(&toml::from_str(text)?);
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

    /// Whether a new head begins at zero: where it alone is trained, with noise in every step.
    pub fn head_begins_at_zero(&self) -> bool {
        self.privacy.unit.is_sampled() && self.method == Method::Head
    }

    /// Which weights the plan trains.
    pub fn trainable(&self) -> Trainable {
        Trainable::new(self.method, self.lora.as_ref(), &self.training)
    }

    /// Whether a run of the plan trains nothing and scores its base alone.
    pub fn only_evaluates(&self) -> bool {
        self.rounds == 0
    }

    /// What a run of the plan does, in words.
    pub fn work(&self) -> String {
        let times = match &self.schedule {
            Some(Schedule { times, zone, .. }) => format!(", at \"{times}\" ({zone})"),
            None => String::new(),
        };
        if self.only_evaluates() {
            return format!(
                "{} evaluations of {} alone{times}",
                self.evaluations(),
                self.base
            );
        }
        format!("{} rounds, method {}{times}", self.rounds, self.method)
    }

    /// The number of the first round: 1, or 0 where there is nothing but an evaluation.
    pub fn first_round(&self) -> u32 {
        self.rounds.min(1)
    }

    /// The number of the last round; of evaluations alone it counts from 0.
    pub fn last_round(&self) -> u32 {
        if self.only_evaluates() {
            return self.evaluations() - 1;
        }
        self.rounds
    }

    /// How often each institution scores a version: that of some round, or the base alone.
    pub fn evaluations(&self) -> u32 {
        if self.only_evaluates() {
            return self.schedule.as_ref().map_or(1, |s| s.evaluations).max(1);
        }
        self.rounds.div_ceil(self.cohort.evaluate_every.max(1))
    }

    /// Whether the version of that round is evaluated.
    pub fn is_evaluated(&self, round: u32) -> bool {
        round == self.last_round() || round.is_multiple_of(self.cohort.evaluate_every.max(1))
    }

    /// How much larger the noise is than the signal can be, with `d` trainable weights.
    ///
    /// Where units are sampled it is `z · √d / B`, in the gradient of one step at one institution: B
    /// units are expected in it, of a norm of at most C each.
    ///
    /// With the unit `institution` it is `z · √(d / N)`, in the mean of all updates: each of the N institutions adds noise of deviation zC to each weight of its own update, so
    /// that its guarantee holds against the coordinator too. The mean has deviation zC/√N a
    /// weight, a norm of zC√(d/N), against a signal whose norm is at most C. Where h share the noise, each adds zC/√h.
    pub fn noise_to_signal(&self, d: usize) -> f64 {
        let (weights, privacy) = (d as f64, &self.privacy);
        if privacy.unit.is_sampled() {
            return privacy.noise_multiplier * weights.sqrt() / self.training.batch_size as f64;
        }
        privacy.update_noise_multiplier() * (weights / self.cohort.institutions.len() as f64).sqrt()
    }

    /// How an institution that declared `units` takes them into steps; `None` where the plan's unit
    /// is not sampled. Where all take a step together, units count that all of them have.
    pub fn sampling(&self, units: u32) -> Option<Sampling> {
        let batch = self.training.batch_size as f64;
        let of = self.privacy.cohort_units.unwrap_or(units);
        let rate = (batch / f64::from(of.max(1))).min(1.0);
        let an_epoch = if self.privacy.is_synchronous() {
            1.0
        } else {
            rate.recip().ceil()
        };
        let steps = (f64::from(self.training.local_epochs) * an_epoch) as u64;
        let sampled = self.privacy.unit.is_sampled();
        sampled.then_some(Sampling { rate, steps })
    }

    /// The largest weight that an aggregation can give one institution.
    pub fn largest_weight(&self) -> u32 {
        match self.cohort.weighting {
            Weighting::Examples => self.cohort.max_examples,
            Weighting::Equal => 1,
            Weighting::Plan => self.cohort.weights.values().copied().max().unwrap_or(1),
        }
    }

    /// The weight of an institution that declared `examples`, before any cap.
    pub fn weight(&self, institution: &InstitutionId, examples: u32) -> u32 {
        match self.cohort.weighting {
            Weighting::Examples => examples,
            Weighting::Equal => 1,
            Weighting::Plan => self.cohort.weights.get(institution).copied().unwrap_or(1),
        }
    }
}

impl Statement for Plan {
    const KIND: &'static str = "plan";
}

#[cfg(test)]
mod tests;
