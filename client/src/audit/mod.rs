//! Proof by attack: what an adversary can tell from what this institution releases, beside what the
//! product claims.
//!
//! | module | attacks |
//! |---|---|
//! | [`update`] | the update of a plan with the unit `institution`, on the path that updates leave by |
//! | [`steps`] | single steps of the private trainer, by one canary unit |
//! | `mechanism` | the same steps from inside: noise, rate, clip, independence |
//! | [`one_run`] | a whole private training, by many canary units at once |
//! | [`membership`] | a finished model: which text was it trained on |
//! | [`exposure`] | a finished model: which planted entity did it see |
//!
//! The first three know the largest contribution there can be (see `worst_case`) and everything
//! that was released, as the claim allows an adversary to. A lower bound on ε above the claim refutes
//! the claim, so that the [`report`] says FAIL; one below it proves nothing.

mod claim;
pub mod exposure;
mod mechanism;
pub mod membership;
pub mod one_run;
mod power;
pub mod report;
pub mod steps;
#[cfg(test)]
mod tests;
mod trainer;
pub mod update;
mod worst_case;

use std::io;
use std::path::PathBuf;

use fedner_privacy::{accountant, audit};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign;

use crate::{dp_sgd, training};

pub use report::{AuditReport, Check, Outcome, Part};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Attack(#[from] audit::Error),
    #[error(transparent)]
    Accountant(#[from] accountant::Error),
    #[error(transparent)]
    Training(#[from] training::Error),
    #[error("the operating system gave no randomness: {0}")]
    Random(#[from] getrandom::Error),
    #[error(transparent)]
    Signature(#[from] sign::Error),
    #[error("{} is not an audit report: {source}", file.display())]
    Syntax {
        file: PathBuf,
        source: serde_json::Error,
    },
    #[error("{} cannot be read or written: {source}", file.display())]
    File { file: PathBuf, source: io::Error },
}

impl Error {
    pub fn refusal(&self) -> Option<Refusal> {
        let code = match self {
            Self::Refused(refusal) => return Some(refusal.clone()),
            Self::Training(error) => return error.refusal(),
            Self::Attack(
                audit::Error::Release(_) | audit::Error::Encode(_) | audit::Error::Accountant(_),
            )
            | Self::Accountant(_) => Code::PlanInvalid,
            Self::Signature(_) => Code::SignatureInvalid,
            Self::Attack(audit::Error::Value { .. }) | Self::Syntax { .. } | Self::File { .. } => {
                Code::AuditInvalid
            }
            Self::Random(_) | Self::Attack(audit::Error::Noise(_)) => return None,
        };
        Some(Refusal::new(code, self.to_string()))
    }
}

impl From<dp_sgd::Error> for Error {
    fn from(error: dp_sgd::Error) -> Self {
        Self::Training(error.into())
    }
}

impl From<fedner_model::Error> for Error {
    fn from(error: fedner_model::Error) -> Self {
        Self::Training(error.into())
    }
}
