//! The only way out of an institution.
//!
//! What depends on private text leaves as one of three types, [`Released`], [`ReleasedEvaluation`]
//! and [`ReleasedAudit`]. Only [`Gate`] makes them, and the transport takes nothing else. An update
//! passes these steps, in this order:
//!
//! 1. policy, consent and budget, and the ledger's debit: durable before the first private byte is
//!    read ([`ChargeRequest`]);
//! 2. schema: as many weights as the plan's manifest has;
//! 3. policy, consent and debit: asked again here, whatever was asked before;
//! 4. finiteness, clip, rounding, noise ([`fedner_privacy::release`]);
//! 5. encoding into a durable file;
//! 6. signed receipt and session state in one transaction;
//! 7. the time of release, which does not depend on how long the work took;
//! 8. where the policy has `hold = true`, the word of a person, who may look at the very bytes;
//! 9. only then there is a [`Released`].
//!
//! Whatever fails after step 1 costs what the release would have cost, and is told as one code at a
//! time of release. A held update stays paid for when it is refused or comes too late. If only what is
//! let go were charged, updates could be made again until one pleases, and that choice would tell of
//! the text at no charge.
//!
//! Counts on held-out text take the same way. They have clip, noise and debit of their own, and leave
//! exact only where the plan protects nothing or the policy says so in so many words.
//!
//! Where the plan has `[secure_aggregation]`, step 5 puts masks over the update, and [`ReleasedStep`] is a fourth type that
//! leaves. It depends on no text.

mod audit;
mod budget;
mod charge;
mod evaluation;
mod reason;
mod recovery;
mod secure;
mod update;

use std::io;
use std::sync::Arc;

use fedner_privacy::counts;
use fedner_privacy::release as privacy;
use fedner_session::Rejection;
use fedner_shared::plan::Plan;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::statement::Consent;
use fedner_shared::time::Time;
use fedner_shared::update as codec;

use crate::blobs::Blobs;
use crate::config::Policy;
use crate::identity::Identity;
use crate::state::{self, Store};

pub use audit::ReleasedAudit;
pub use budget::{Budget, account, check_not_behind, limit, spent};
pub use charge::ChargeRequest;
pub use evaluation::{EvaluationRequest, ReleasedEvaluation};
pub use reason::{Reason, told};
pub use recovery::{Rebuilt, check_heads, rebuild};
pub use secure::{ReleasedStep, StepRequest, attempt_id};
pub use update::{Released, UpdateRequest, due};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing leaves, and trying again would not change that.
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the update cannot be made releasable: {0}")]
    Privacy(privacy::Error),
    #[error("the counts cannot be made releasable: {0}")]
    Counts(#[from] counts::Error),
    #[error("the update cannot be encoded: {0}")]
    Encode(#[from] codec::Error),
    #[error("the update's file cannot be written or read: {0}")]
    File(#[from] io::Error),
    #[error(transparent)]
    State(#[from] state::Error),
    #[error(transparent)]
    Session(#[from] Rejection),
}

impl Error {
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal.clone()),
            Self::State(error) => error.refusal(),
            Self::Privacy(_)
            | Self::Counts(_)
            | Self::Encode(_)
            | Self::File(_)
            | Self::Session(_) => None,
        }
    }
}

/// Makes things releasable. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate {
    store: Store,
    blobs: Blobs,
    identity: Arc<Identity>,
}

impl Gate {
    pub fn new(store: Store, blobs: Blobs, identity: Arc<Identity>) -> Self {
        Self {
            store,
            blobs,
            identity,
        }
    }

    /// The consent that covers the plan now, if the policy still allows the plan.
    fn permitted(&self, plan: &Plan, policy: &Policy, now: Time) -> Result<Consent, Error> {
        crate::consent::allows(policy, &self.identity, plan)?;
        let digest = plan.digest();
        let Some(consent) = self.store.consent_in_force(&digest, now)? else {
            return Err(Error::Refused(consent_missing(plan)));
        };
        policy.allows_declared(plan, consent.examples)?;
        Ok(consent)
    }
}

pub(crate) fn consent_missing(plan: &Plan) -> Refusal {
    let message = format!("no consent to the plan {} is in force", plan.name);
    Refusal::new(Code::ConsentMissing, message)
}

#[cfg(test)]
#[path = "egress_tests.rs"]
pub(crate) mod tests;
