//! Who takes part in a run.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::InstitutionId;
use crate::serde_helpers::is_default;

/// Who takes part, and how long is waited for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cohort {
    pub institutions: Vec<InstitutionId>,
    /// Updates needed to publish a version.
    pub quorum: usize,
    /// Updates that close a round at once: more institutions are asked than are needed, and the
    /// slowest are not waited for (over-selection; Bonawitz et al. 2019, section 2.2). Without it
    /// everybody is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enough: Option<usize>,
    #[serde(default = "default_recruit_timeout_s")]
    pub recruit_timeout_s: u64,
    #[serde(default = "default_train_timeout_s")]
    pub train_timeout_s: u64,
    #[serde(default = "default_evaluate_timeout_s")]
    pub evaluate_timeout_s: u64,
    /// Results leave an institution so long after an attempt was begun, or at the next multiple of
    /// it: how long a training takes depends on private text. Left out, see `Plan::release_step`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_after_s: Option<u64>,
    /// An institution not heard of for so long is no longer waited for once the quorum is in;
    /// it may come back at any time.
    #[serde(default = "default_away_after_s")]
    pub away_after_s: u64,
    /// So many rounds lie between two versions that are evaluated; the last is, too.
    #[serde(
        default = "default_evaluate_every",
        skip_serializing_if = "is_default_evaluate_every"
    )]
    pub evaluate_every: u32,
    /// How often one round is tried before the run fails.
    #[serde(default = "default_max_attempts")]
    pub max_attempts: u32,
    #[serde(default)]
    pub weighting: Weighting,
    /// The largest part of a round's weights that one institution may have, where they are declared;
    /// left out, twice an equal share of the plan's institutions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_share: Option<f64>,
    /// The operator's own weights, one for each institution.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<InstitutionId, u32>,
    /// What members see of each other in the record of a version.
    #[serde(default, skip_serializing_if = "is_default")]
    pub members_see: MembersSee,
    /// Largest example count an institution may declare.
    #[serde(default = "default_max_examples")]
    pub max_examples: u32,
}

const fn default_recruit_timeout_s() -> u64 {
    600
}
const fn default_evaluate_every() -> u32 {
    1
}
#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
const fn is_default_evaluate_every(rounds: &u32) -> bool {
    *rounds == 1
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
    Examples,
    #[default]
    Equal,
    /// By the plan's own table `weights`.
    Plan,
}

/// What a member sees of the other members' part in a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MembersSee {
    /// How many they are, and a digest of each. A plan file that leaves the key out means this.
    Own,
    /// Their names, weights, ε and the digests of their updates. Plans signed before the key was there mean this.
    #[default]
    All,
}

impl Cohort {
    /// The largest part of a round's weights that one institution may have; `None` where nobody
    /// declares a weight.
    pub fn largest_share(&self) -> Option<f64> {
        let twice = 2.0 / self.institutions.len().max(1) as f64;
        let share = self.max_share.unwrap_or(twice).min(1.0);
        (self.weighting == Weighting::Examples).then_some(share)
    }

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
