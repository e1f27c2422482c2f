//! What the coordinator keeps of an institution's own receipts, for one that has lost its books.

use std::sync::Arc;

use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::sign::Signed;
use fedner_shared::statement::{EvaluationReceipt, UpdateReceipt};

use super::{Engine, Failure};
use crate::store::StatementKind;

/// Receipts that are told at a time.
const PAGE: usize = 64;

/// A receipt, and what its cost follows from.
#[derive(Debug)]
pub struct Kept {
    pub place: u64,
    pub kind: StatementKind,
    pub receipt: Signed,
    pub plan: Arc<Signed>,
    pub dimension: u64,
    /// What the institution declared last.
    pub units: u32,
}

impl Engine {
    /// The receipts after that place, oldest first, and whether there are more.
    pub fn receipts_of(
        &mut self,
        institution: &InstitutionId,
        after: u64,
    ) -> Result<(Vec<Kept>, bool), Failure> {
        let found = self
            .store
            .read(|tx| tx.receipts_of(institution, after, PAGE))?;
        let more = found.len() == PAGE;
        let mut kept = Vec::new();
        for (place, kind, receipt) in found {
            let of = plan_of(kind, &receipt);
            let run = self.runs.iter().find(|run| Some(run.plan_digest) == of);
            let Some(run) = run else {
                continue;
            };
            let (plan, dimension, units) =
                (run.plan_digest, run.dimension, run.declared(institution));
            kept.push(Kept {
                place,
                kind,
                receipt,
                plan: self.signed_plan(plan)?,
                dimension,
                units,
            });
        }
        Ok((kept, more))
    }
}

fn plan_of(kind: StatementKind, receipt: &Signed) -> Option<Digest> {
    match kind {
        StatementKind::Update => receipt.peek::<UpdateReceipt>().ok().map(|said| said.plan),
        StatementKind::Evaluation => {
            let said = receipt.peek::<EvaluationReceipt>();
            said.ok().map(|said| said.plan)
        }
        StatementKind::Consent | StatementKind::Audit | StatementKind::Secure(_) => None,
    }
}
