//! Evaluation counts: exact, so that they leave only where the policy says so.

use fedner_session::Task;
use fedner_shared::plan::Plan;
use fedner_shared::score::Scores;
use fedner_shared::sign::Signed;
use fedner_shared::statement::EvaluationReceipt;
use fedner_shared::time::Time;
use serde_json::json;

use super::{Error, Gate};
use crate::config::Policy;
use crate::state::{Receipt, ReceiptKind};

/// Counts that may leave: allowed, signed, and kept as a receipt.
#[derive(Debug)]
pub struct ReleasedEvaluation {
    receipt: Signed,
}

impl ReleasedEvaluation {
    pub fn receipt(&self) -> &Signed {
        &self.receipt
    }
}

impl Gate {
    /// Lets counts on held-out text out. No ε covers them: they are exact. The receipt says what
    /// they were.
    pub fn release_evaluation(
        &self,
        task: &Task,
        plan: &Plan,
        policy: &Policy,
        scores: &Scores,
        now: Time,
    ) -> Result<ReleasedEvaluation, Error> {
        policy.allows_evaluation()?;
        self.permitted(plan, policy, now)?;
        // Types that are not of the plan would tell what else the institution annotates.
        let mut scores = scores.clone();
        scores
            .by_type
            .retain(|label, _| plan.labels.contains(label));
        let statement = EvaluationReceipt {
            run: task.run.clone(),
            plan: task.plan,
            round: task.round,
            institution: self.identity.institution.clone(),
            version: task.version,
            scores,
            at: now,
        };
        let signed = Signed::new(&statement, &self.identity.signing);
        self.store.add_receipt(&Receipt {
            digest: signed.digest(),
            kind: ReceiptKind::Evaluation,
            plan: task.plan,
            run: task.run.clone(),
            round: task.round,
            attempt: task.attempt,
            blob: None,
            signed: signed.clone(),
            time: now,
            note: json!({}),
            taken: None,
        })?;
        Ok(ReleasedEvaluation { receipt: signed })
    }
}
