//! Evaluation counts: clipped by unit, noised and paid for; exact only where the policy says so.

use fedner_privacy::counts::{self, ClippedCounts};
use fedner_privacy::ledger::{Entry, Kind};
use fedner_session::Task;
use fedner_shared::plan::{CountNoise, Plan};
use fedner_shared::score::{Counts, Scores};
use fedner_shared::sign::Signed;
use fedner_shared::statement::{EvaluationReceipt, NoisedCounts};
use fedner_shared::time::Time;
use serde_json::json;

use super::{Budget, Error, Gate, cost_of_counts};
use crate::config::Policy;
use crate::state::{Asked, Receipt, ReceiptKind};

/// Counts that may leave: allowed, noised and paid for where the plan protects anything, signed, and
/// kept as a receipt.
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
    /// Lets counts on held-out text out, of which `units` has those of each unit. The receipt says
    /// what they were, and what covers them.
    pub fn release_evaluation(
        &self,
        task: &Task,
        plan: &Plan,
        policy: &Policy,
        units: &[Scores],
        now: Time,
    ) -> Result<ReleasedEvaluation, Error> {
        policy.allows_evaluation(plan)?;
        self.permitted(plan, policy, now)?;
        let paid = match plan.privacy.count_noise() {
            Some(noise) => Some((noise, self.debit_counts(task, plan, policy, noise, now)?)),
            None => None,
        };
        let scores = match &paid {
            Some((noise, _)) => noised(units, plan, *noise)?,
            None => exact(units, plan),
        };
        let statement = EvaluationReceipt {
            run: task.run.clone(),
            plan: task.plan,
            round: task.round,
            institution: self.identity.institution.clone(),
            version: task.version,
            scores,
            noise: paid.as_ref().map(|(noise, entry)| NoisedCounts {
                sigma: noise.sigma,
                epsilon_after: entry.epsilon_after,
                ledger_head: entry.digest(),
            }),
            at: now,
        };
        let signed = Signed::new(&statement, &self.identity.signing);
        let receipt = Receipt {
            digest: signed.digest(),
            kind: ReceiptKind::Evaluation,
            asked: Some(Asked::of(task)),
            blob: None,
            signed: signed.clone(),
            time: now,
            note: json!({}),
            taken: None,
        };
        let entry = paid.as_ref().map(|(_, entry)| entry);
        self.store.commit_counts(entry, &receipt)?;
        Ok(ReleasedEvaluation { receipt: signed })
    }

    fn debit_counts(
        &self,
        task: &Task,
        plan: &Plan,
        policy: &Policy,
        noise: CountNoise,
        now: Time,
    ) -> Result<Entry, Error> {
        let budget = Budget {
            institution: &self.identity.institution,
            task,
            plan,
            policy,
            kind: Kind::Evaluation,
            cost: cost_of_counts(noise),
        };
        Ok(budget.debit(&self.store.ledger()?, now)?)
    }
}

/// The sum of the units' counts. Types that are not of the plan would tell what else the institution
/// annotates.
fn exact(units: &[Scores], plan: &Plan) -> Scores {
    let mut sum = Scores::default();
    for unit in units {
        sum.merge(unit);
    }
    sum.by_type.retain(|label, _| plan.labels.contains(label));
    sum
}

/// The same with noise, for every type of the plan: that one has no entity here would tell of it.
fn noised(units: &[Scores], plan: &Plan, noise: CountNoise) -> Result<Scores, counts::Error> {
    let mut sum = ClippedCounts::new(noise, 3 * plan.labels.len());
    for unit in units {
        let of = plan.labels.iter().map(|label| unit.of(label));
        let flat = of.flat_map(|counts: Counts| {
            [
                counts.true_positives,
                counts.false_positives,
                counts.false_negatives,
            ]
        });
        sum.add(&flat.collect::<Vec<u64>>())?;
    }
    let released = sum.release()?;
    let by_type = plan.labels.iter().zip(released.chunks_exact(3));
    let by_type = by_type.map(|(label, counts)| {
        let counts = Counts {
            true_positives: counts[0],
            false_positives: counts[1],
            false_negatives: counts[2],
        };
        (label.clone(), counts)
    });
    Ok(Scores {
        by_type: by_type.collect(),
    })
}
