//! What institutions sign: their consent, and a receipt for each thing that leaves them.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::id::{InstitutionId, RunId};
use crate::score::Scores;
use crate::sign::Statement;
use crate::time::Time;

/// An institution agrees to take part in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    pub plan: Digest,
    pub institution: InstitutionId,
    /// The example count by which FedAvg weighs this institution, fixed for the run.
    pub examples: u32,
    /// The declared number of held-out sentences, which bounds the counts on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<u32>,
    /// Which of the plan's types the text annotates; absent where it annotates all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotation: Option<Annotation>,
    /// The institution's policy at that moment.
    pub policy: Digest,
    pub at: Time,
    /// No assignment after this instant is covered.
    pub expires: Time,
}

/// The entity types of a plan that an institution's text annotates. It is declared, and public.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Annotation {
    /// In every file, in the order of the plan.
    pub types: Vec<String>,
    /// In some files only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_part: Vec<String>,
}

impl Annotation {
    /// Whether some of the text annotates the type.
    pub fn annotates(&self, label: &str) -> bool {
        let mut all = self.types.iter().chain(&self.in_part);
        all.any(|own| own == label)
    }

    /// Whether it names types of `labels` only, and each once.
    pub fn is_within(&self, labels: &[String]) -> bool {
        let mut seen = BTreeSet::new();
        let mut all = self.types.iter().chain(&self.in_part);
        all.all(|label| labels.contains(label) && seen.insert(label))
    }
}

impl fmt::Display for Annotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.types.as_slice() {
            [] => f.write_str("no type")?,
            types => f.write_str(&types.join(", "))?,
        }
        match self.in_part.as_slice() {
            [] => Ok(()),
            part => write!(f, "; in some files {}", part.join(", ")),
        }
    }
}

impl Statement for Consent {
    const KIND: &'static str = "consent";
}

/// An update leaves: what it is, what it was trained on, and what it cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateReceipt {
    pub run: RunId,
    pub plan: Digest,
    pub round: u32,
    pub attempt: u32,
    pub institution: InstitutionId,
    /// The model version that was trained.
    pub base: Digest,
    pub manifest: Digest,
    pub weight: u32,
    /// The encoded update.
    pub blob: Digest,
    pub bytes: u64,
    /// Under which masks it is, where the coordinator is to see the sum alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masked: Option<Masked>,
    /// Standard deviation of the noise, in the units of the weights.
    pub sigma: f64,
    /// ε of this run at this institution after this update, at the plan's δ; absent without noise.
    pub epsilon_after: Option<f64>,
    /// The same by this institution's own noise alone, if nobody else's hides anything; absent where noise is not
    /// shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon_alone: Option<f64>,
    /// The newest entry of the institution's ledger.
    pub ledger_head: Option<Digest>,
    pub at: Time,
}

/// The masks of an update: those with everybody who dealt shares to this roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Masked {
    pub roster: Digest,
    pub dealt: Digest,
}

impl Statement for UpdateReceipt {
    const KIND: &'static str = "update";
}

/// Evaluation counts leave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationReceipt {
    pub run: RunId,
    pub plan: Digest,
    pub round: u32,
    pub institution: InstitutionId,
    /// The model version that was evaluated.
    pub version: Digest,
    pub scores: Scores,
    /// What covers them; absent where they are exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<NoisedCounts>,
    pub at: Time,
}

/// The noise of counts, and what they cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoisedCounts {
    /// Standard deviation of each count's noise.
    pub sigma: f64,
    /// ε of this run at this institution after these counts, at the plan's δ.
    pub epsilon_after: f64,
    /// The newest entry of the institution's ledger: it paid for them.
    pub ledger_head: Digest,
}

impl Statement for EvaluationReceipt {
    const KIND: &'static str = "evaluation";
}
