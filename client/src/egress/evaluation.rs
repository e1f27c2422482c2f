//! Evaluation counts: clipped by unit, noised and paid for; exact only where the policy says so.

use fedner_privacy::counts::{self, ClippedCounts};
use fedner_privacy::ledger::{Cost, Entry, Kind};
use fedner_session::{Input, Session, Task, Transition};
use fedner_shared::digest::Digest;
use fedner_shared::plan::{CountNoise, Plan};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::score::{Counts, Scores};
use fedner_shared::sign::Signed;
use fedner_shared::statement::{EvaluationReceipt, NoisedCounts};
use fedner_shared::time::Time;
use serde_json::json;

use super::{Budget, Error, Gate, due};
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

/// An evaluation's result that asks to leave.
#[derive(Debug)]
pub struct EvaluationRequest<'a> {
    pub task: &'a Task,
    pub plan: &'a Plan,
    pub policy: &'a Policy,
    /// The counts of each unit.
    pub units: &'a [Scores],
    /// The plan's types that the text is declared to annotate, in the order of the plan.
    pub types: &'a [String],
    /// In the state `evaluating`, with its charge.
    pub session: &'a Session,
    pub now: Time,
}

impl Gate {
    /// Makes counts on held-out text ready to leave. The receipt says what they are, and what covers
    /// them. Afterwards the session submits; the transition returned is durable.
    pub fn release_evaluation(&self, request: &EvaluationRequest<'_>) -> Result<Transition, Error> {
        let EvaluationRequest {
            task, plan, policy, ..
        } = *request;
        policy.allows_evaluation(plan)?;
        let consent = self.permitted(plan, policy, request.now)?;
        let charge = request.session.charge();
        let paid = match plan.privacy.count_noise() {
            Some(noise) => Some((noise, self.paid_counts(request, noise)?)),
            None => None,
        };
        let scores = match &paid {
            Some((noise, _)) => noised(request.units, request.types, *noise)?,
            None => exact(request.units, request.types),
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
            at: request.now,
        };
        let signed = Signed::new(&statement, &self.identity.signing);
        let receipt = Receipt {
            digest: signed.digest(),
            kind: ReceiptKind::Evaluation,
            asked: Some(Asked::from_task(task)),
            blob: None,
            signed,
            time: request.now,
            note: json!({}),
            taken: None,
        };
        let counted = Input::Counted {
            receipt: receipt.digest,
            not_before: due(plan, policy, (consent.examples, charge), request.now),
        };
        let transition = request.session.step(request.now, counted)?;
        let entry = paid.as_ref().map(|(_, entry)| entry.digest());
        self.store
            .commit_counts(entry, &receipt, &transition.session)?;
        Ok(transition)
    }

    /// Counts that were made ready: after a crash, or when the same attempt is asked for again.
    pub fn resume_evaluation(&self, receipt: &Digest) -> Result<ReleasedEvaluation, Error> {
        let kept = self.store.receipt(receipt)?;
        let kept = kept.filter(|kept| kept.kind == ReceiptKind::Evaluation);
        let kept = kept.ok_or_else(|| {
            let message = format!("the receipt {receipt} of counts is gone");
            Error::Refused(Refusal::new(Code::StateInvalid, message))
        })?;
        Ok(ReleasedEvaluation {
            receipt: kept.signed,
        })
    }

    fn paid_counts(
        &self,
        request: &EvaluationRequest<'_>,
        noise: CountNoise,
    ) -> Result<Entry, Error> {
        let budget = Budget {
            institution: &self.identity.institution,
            task: request.task,
            plan: request.plan,
            policy: request.policy,
            kind: Kind::Evaluation,
            cost: Cost::of_counts(noise),
        };
        self.paid(request.session.charge(), &budget.wish())
    }
}

/// The sum of the units' counts of `types`. Types that are not of the plan would tell what else the
/// institution annotates.
fn exact(units: &[Scores], types: &[String]) -> Scores {
    let mut sum = Scores::default();
    for unit in units {
        sum.merge(unit);
    }
    sum.by_type.retain(|label, _| types.contains(label));
    sum
}

/// The same with noise, for each of the types, which are declared: that one has no entity here would tell
/// of it.
fn noised(units: &[Scores], types: &[String], noise: CountNoise) -> Result<Scores, counts::Error> {
    let mut sum = ClippedCounts::new(noise, 3 * types.len());
    for unit in units {
        let of = types.iter().map(|label| unit.of(label));
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
    let by_type = types.iter().zip(released.chunks_exact(3));
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
