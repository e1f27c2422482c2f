//! What can happen to a run.

use fedner_shared::digest::Digest;
use fedner_shared::figures::UpdateFigures;
use fedner_shared::id::{InstitutionId, VersionName};
use fedner_shared::refusal::Code;
use fedner_shared::secure::{AttemptId, SecureStep};
use fedner_shared::statement::{Consent, EvaluationReceipt, UpdateReceipt};
use fedner_shared::time::Time;

use crate::member::Later;
use crate::task::TaskKind;

#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    // The operator.
    Start,
    Pause,
    Resume,
    Cancel,
    /// A failed run goes on from its last version.
    Retry,
    /// Leaves a member out of one round.
    SetAside {
        institution: InstitutionId,
        round: u32,
    },
    /// Takes it in again from the next round that begins.
    Readmitted {
        institution: InstitutionId,
    },
    // An institution; its signature has been verified.
    Seen {
        institution: InstitutionId,
    },
    Joined {
        consent: Consent,
        statement: Digest,
    },
    /// The present assignment was handed over.
    Taken {
        institution: InstitutionId,
    },
    Declined {
        institution: InstitutionId,
        task: TaskKind,
        round: u32,
        attempt: u32,
        code: Code,
        reason: String,
        /// When it may be asked again, where that is known.
        again: Option<Time>,
    },
    /// It takes nothing on before that instant; without one, whenever it is asked.
    Announced {
        institution: InstitutionId,
        later: Option<Later>,
    },
    /// The update's bytes have arrived, and were verified against the receipt.
    Uploaded {
        update: UpdateReceipt,
        receipt: Digest,
    },
    /// A step of a secure aggregation.
    Agreed {
        institution: InstitutionId,
        of: AttemptId,
        step: SecureStep,
        statement: Digest,
    },
    Evaluated {
        evaluation: EvaluationReceipt,
    },
    // The coordinator.
    /// The institution's certificate was revoked or suspended.
    Excluded {
        institution: InstitutionId,
        code: Code,
    },
    /// The updates of the closed round were measured, before they become one.
    /// The shares that were told do not open the sum.
    Spoilt {
        round: u32,
        attempt: u32,
        reason: String,
    },
    Measured {
        round: u32,
        attempt: u32,
        updates: Vec<UpdateFigures>,
    },
    Published {
        round: u32,
        attempt: u32,
        name: VersionName,
        version: Digest,
        weights: Digest,
    },
    /// The coordinator was away itself; nobody may be blamed for silence in that time.
    Restarted,
    /// The coordinator was suspended, or its clock was set: what waits for an instant waits as long as
    /// it would have.
    Jumped {
        millis: i64,
    },
    /// Time has passed.
    Tick,
}
