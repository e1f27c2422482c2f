//! Model versions: immutable records, named by their digest.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::id::{InstitutionId, RunId, VersionName};
use crate::plan::{Method, Rule};
use crate::skip::is_default;
use crate::time::Time;

/// A model version. Its digest is that of its canonical JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    pub name: VersionName,
    pub parent: Option<Digest>,
    pub origin: Origin,
    /// Entity types of the head; none for a bare encoder.
    pub labels: Vec<String>,
    /// `model.safetensors`, in canonical form; where there is a frozen part, the tensors beside it.
    pub weights: Digest,
    /// The weights that a run leaves as they are: a whole `model.safetensors` in canonical form,
    /// to which `weights` adds tensors, or in which it replaces some. All versions of a run share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Digest>,
    /// `config.json`.
    pub config: Digest,
    /// `tokenizer.json`.
    pub tokenizer: Digest,
    pub created: Time,
}

/// How a version came to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Origin {
    /// Read from a Hugging Face directory.
    Import,
    /// A base given a new head of the plan's labels, its weights drawn from the plan's seed.
    Head { plan: Digest },
    /// A base made ready for a plan: adapters of an earlier run merged into its weights, new ones
    /// and a new head beside them, whichever the plan needs and the base lacked.
    Prepared { plan: Digest },
    /// A round of federated training.
    Round(Round),
}

/// The round that published a version, with everything needed to compute it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Round {
    pub run: RunId,
    pub plan: Digest,
    pub method: Method,
    pub round: u32,
    pub attempt: u32,
    pub manifest: Digest,
    /// How the updates became one; versions that say nothing are of FedAvg.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rule: Rule,
    /// The moments of the plan's server optimizer after this round, as they go on in the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moments: Option<Digest>,
    /// In the order of their names.
    pub participants: Vec<Participant>,
}

/// One institution's part in a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Participant {
    pub institution: InstitutionId,
    pub weight: u32,
    /// The encoded update.
    pub update: Digest,
    /// The signed receipt.
    pub receipt: Digest,
    /// ε of the run at that institution after the round; absent without noise.
    pub epsilon: Option<f64>,
}

impl Version {
    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }

    /// The files that the model consists of.
    pub fn objects(&self) -> impl Iterator<Item = Digest> {
        let always = [self.config, self.tokenizer, self.weights];
        always.into_iter().chain(self.frozen)
    }

    /// Everything that must be kept for the version: its files, and where a round published it the
    /// updates and the moments that its weights are computed again from.
    pub fn kept(&self) -> impl Iterator<Item = Digest> {
        let updates = |round: &Round| round.participants.iter().map(|p| p.update).collect();
        let updates: Vec<Digest> = self.round().map(updates).unwrap_or_default();
        let moments = self.round().and_then(|round| round.moments);
        self.objects().chain(updates).chain(moments)
    }

    /// The moments with which a round of `run` on this version begins.
    pub fn moments_for(&self, run: &RunId) -> Option<Digest> {
        let round = self.round().filter(|round| round.run == *run)?;
        round.moments
    }

    pub fn round(&self) -> Option<&Round> {
        match &self.origin {
            Origin::Round(round) => Some(round),
            Origin::Import | Origin::Head { .. } | Origin::Prepared { .. } => None,
        }
    }
}
