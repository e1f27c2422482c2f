//! What an audit found, signed by the institution that made it.

use std::path::{Path, PathBuf};

use fedner_host::files;
use fedner_shared::keys;
use fedner_shared::sign::{PublicKey, SecretKey, Signed};
use serde::{Deserialize, Serialize};

use super::Error;

pub use fedner_shared::audit::{
    AuditReport, AuditedModel, AuditedPlan, Check, Input, Outcome, Part,
};

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
        fedner_host::files::create_private_dir(&folder).map_err(fault)?;
        files::write_secret(&file, text.as_bytes()).map_err(fault)?;
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

    /// The report, if one of the keys signed it.
    pub fn verify_by_any(&self, keys: &[PublicKey]) -> Result<AuditReport, Error> {
        Ok(keys::verify_by_any(&self.signed, keys)?)
    }
}
