//! What a round would cost, and whether the limits of plan and policy allow it.

use fedner_privacy::ledger::{Account, Cost, Debit, Entry, Kind, Ledger, Limit, Refused};
use fedner_session::Task;
use fedner_shared::digest::Digest;
use fedner_shared::id::{InstitutionId, RunId};
use fedner_shared::plan::{Plan, Unit};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::time::Time;

use crate::config::Policy;

/// Without noise there is no ε, so that its δ decides nothing; it must only be one.
const NO_DELTA: f64 = 1e-5;

/// Everything this institution holds, by unit.
pub fn account(institution: &InstitutionId, unit: Unit) -> Account {
    Account {
        cohort: institution.to_string(),
        unit,
    }
}

/// What the institution allows altogether.
pub fn limit(institution: &InstitutionId, policy: &Policy) -> Limit {
    Limit {
        account: account(institution, policy.account),
        delta: policy.max_delta,
        max_epsilon: policy.max_epsilon_total,
    }
}

/// ε of the plan so far at its δ; `None` without noise.
pub fn spent(ledger: &Ledger, institution: &InstitutionId, plan: &Plan) -> Option<f64> {
    match plan.privacy.unit {
        Unit::None => None,
        Unit::Person | Unit::Document | Unit::Sentence | Unit::Institution => {
            let account = account(institution, plan.privacy.unit);
            Some(ledger.spent(&account, Some(plan.digest()), plan.privacy.delta))
        }
    }
}

/// Refuses to go on with a ledger that lacks the entry `head`, which a receipt that the coordinator
/// has seen names: something was paid for that is not in it.
pub fn check_not_behind(ledger: &Ledger, head: &Digest) -> Result<(), Refusal> {
    if ledger.contains(head) {
        return Ok(());
    }
    let message = format!(
        "the coordinator has seen a receipt of this institution that names ledger entry {}, which is not \
         among the {} here",
        head.short(),
        ledger.entries().len()
    );
    Err(Refusal::new(Code::LedgerBehind, message))
}

/// A release of a plan, by its digest, at that run, round and attempt.
pub(super) fn debit(
    institution: &InstitutionId,
    (plan, digest): (&Plan, Digest),
    (run, round, attempt): (RunId, u32, u32),
    (kind, cost): (Kind, Cost),
) -> Debit {
    let privacy = &plan.privacy;
    let delta = match privacy.unit {
        Unit::None => NO_DELTA,
        Unit::Person | Unit::Document | Unit::Sentence | Unit::Institution => privacy.delta,
    };
    Debit {
        account: account(institution, privacy.unit),
        plan: digest,
        run,
        round,
        attempt,
        kind,
        cost,
        delta,
        per_person: privacy.max_per_person,
    }
}

/// What one more release is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Budget<'a> {
    pub institution: &'a InstitutionId,
    pub task: &'a Task,
    pub plan: &'a Plan,
    pub policy: &'a Policy,
    pub kind: Kind,
    pub cost: Cost,
}

impl Budget<'_> {
    /// The entry that one more release would make, if the limits allow it: to be made durable before
    /// anything leaves.
    pub fn debit(&self, ledger: &Ledger, now: Time) -> Result<Entry, Refusal> {
        let (run_limit, total_limit) = self.limits();
        ledger
            .propose(now, self.wish(), run_limit, total_limit.as_ref())
            .map_err(|refused| self.refusal(&refused))
    }

    fn limits(&self) -> (f64, Option<Limit>) {
        match self.plan.privacy.unit {
            Unit::None => (f64::INFINITY, None),
            Unit::Person | Unit::Document | Unit::Sentence | Unit::Institution => (
                self.plan
                    .privacy
                    .max_epsilon
                    .min(self.policy.max_epsilon_run),
                Some(limit(self.institution, self.policy)),
            ),
        }
    }

    /// What is asked for.
    pub fn wish(&self) -> Debit {
        let Task {
            run,
            round,
            attempt,
            ..
        } = self.task;
        let place = (run.clone(), *round, *attempt);
        debit(
            self.institution,
            (self.plan, self.task.plan),
            place,
            (self.kind, self.cost),
        )
    }

    fn refusal(&self, refused: &Refused) -> Refusal {
        let code = match refused {
            Refused::Run { .. } | Refused::Account { .. } => Code::BudgetSpent,
            Refused::Unbounded { .. } | Refused::AccountOpen { .. } => Code::UnitForbidden,
            Refused::Value { .. } => Code::PlanInvalid,
        };
        let (round, name) = (self.task.round, &self.plan.name);
        Refusal::new(code, format!("round {round} of {name}: {refused}"))
    }
}
