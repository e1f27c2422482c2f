//! What an audit found, signed by the institution that made it.

use std::path::{Path, PathBuf};

use fedner_privacy::audit::Verdict;
use fedner_privacy::audit::roc::Roc;
use fedner_shared::digest::Digest;
use fedner_shared::id::{InstitutionId, PlanName};
use fedner_shared::plan::Unit;
use fedner_shared::sign::{PublicKey, SecretKey, Signed, Statement};
use fedner_shared::time::Time;
use serde::{Deserialize, Serialize};

use super::Error;
use super::exposure::Exposures;
use crate::files;

/// An audit of a plan's mechanism, of a model, or of both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditReport {
    pub software: String,
    pub institution: InstitutionId,
    pub at: Time,
    /// Each part is wrong to fail with the probability 1 − `confidence` at most.
    pub confidence: f64,
    pub model: Option<AuditedModel>,
    pub plan: Option<AuditedPlan>,
    /// The files that were read.
    pub inputs: Vec<Input>,
    /// Each bound that was held against a claim.
    pub parts: Vec<Part>,
    pub membership: Option<Roc>,
    pub exposure: Option<Exposures>,
    /// What limits the attacks, in plain words.
    pub notes: Vec<String>,
    pub verdict: Outcome,
}

impl Statement for AuditReport {
    const KIND: &'static str = "audit";
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditedModel {
    /// Of its `model.safetensors`, by which a version names its weights.
    pub weights: Digest,
    pub tags: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditedPlan {
    pub name: PlanName,
    pub digest: Digest,
    pub unit: Unit,
    pub clip: f64,
    pub noise_multiplier: f64,
    pub delta: f64,
    pub rounds: u32,
    /// Declared, where the unit is sampled.
    pub units: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// `members`, `non-members` or `planted`.
    pub role: String,
    pub digest: Digest,
    pub sentences: usize,
}

/// One attack, with its bounds on ε at one δ or several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    pub name: String,
    /// Runs, epochs or units that the bounds come from.
    pub trials: u64,
    pub bounds: Vec<Verdict>,
}

impl Part {
    pub fn holds(&self) -> bool {
        self.bounds.iter().all(Verdict::holds)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// No bound passes its claim.
    Pass,
    /// One does: the claim is false.
    Fail,
    /// Nothing was held against a claim.
    None,
}

impl Outcome {
    pub fn of(parts: &[Part]) -> Self {
        if parts.is_empty() {
            Self::None
        } else if parts.iter().all(Part::holds) {
            Self::Pass
        } else {
            Self::Fail
        }
    }
}

/// A report as it is kept, with the key that signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedReport {
    pub key: PublicKey,
    pub signed: Signed,
}

impl SignedReport {
    pub fn new(report: &AuditReport, key: &SecretKey) -> Self {
        Self {
            key: key.public(),
            signed: Signed::new(report, key),
        }
    }

    /// Writes it below `audits`, in the folder of the model or plan that it is about.
    pub fn keep(&self, report: &AuditReport, audits: &Path) -> Result<PathBuf, Error> {
        let folder = match (&report.model, &report.plan) {
            (Some(model), _) => model.weights.to_string(),
            (None, Some(plan)) => format!("plan-{}", plan.digest),
            (None, None) => "other".to_owned(),
        };
        let folder = audits.join(folder);
        let file = folder.join(format!("{}.json", self.signed.digest().short()));
        let fault = |source| Error::File {
            file: file.clone(),
            source,
        };
        let text = serde_json::to_string_pretty(self).map_err(|source| Error::Syntax {
            file: file.clone(),
            source,
        })?;
        std::fs::create_dir_all(&folder).map_err(fault)?;
        files::write(&file, text.as_bytes()).map_err(fault)?;
        Ok(file)
    }

    pub fn read(file: &Path) -> Result<Self, Error> {
        let text = std::fs::read(file).map_err(|source| Error::File {
            file: file.to_owned(),
            source,
        })?;
        serde_json::from_slice(&text).map_err(|source| Error::Syntax {
            file: file.to_owned(),
            source,
        })
    }

    /// The report, if `key` signed it.
    pub fn verify(&self, key: &PublicKey) -> Result<AuditReport, Error> {
        Ok(self.signed.verify(key)?)
    }
}
