//! What a round would cost, and whether the limits of plan and policy allow it.

use fedner_privacy::accountant::zcdp;
use fedner_privacy::ledger::{Account, Debit, Entry, Kind, Ledger, Refused};
use fedner_session::Task;
use fedner_shared::id::InstitutionId;
use fedner_shared::plan::{Plan, Unit};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::time::Time;

use crate::config::Policy;

/// Without noise there is no ε, so that its δ decides nothing; it must only be one.
const NO_DELTA: f64 = 1e-5;

/// Everything this institution holds, as one account a unit.
pub fn account(institution: &InstitutionId, unit: Unit) -> Account {
    Account {
        cohort: institution.to_string(),
        unit,
    }
}

/// ε of the plan so far at its δ; `None` without noise.
pub fn spent(ledger: &Ledger, institution: &InstitutionId, plan: &Plan) -> Option<f64> {
    match plan.privacy.unit {
        Unit::None => None,
        Unit::Institution => {
            let account = account(institution, plan.privacy.unit);
            Some(ledger.spent(&account, Some(plan.digest()), plan.privacy.delta))
        }
    }
}

/// The entry that one more update would make, if the limits allow it. Asked before a training
/// begins, and again before its update is made.
pub fn check_budget(
    ledger: &Ledger,
    institution: &InstitutionId,
    task: &Task,
    plan: &Plan,
    policy: &Policy,
    dimension: usize,
    now: Time,
) -> Result<Entry, Refusal> {
    let privacy = &plan.privacy;
    let (delta, run_limit, total_limit) = match privacy.unit {
        Unit::None => (NO_DELTA, f64::INFINITY, None),
        Unit::Institution => (
            privacy.delta,
            privacy.max_epsilon.min(policy.max_epsilon_run),
            Some(policy.max_epsilon_total),
        ),
    };
    let debit = Debit {
        account: account(institution, privacy.unit),
        plan: task.plan,
        run: task.run.clone(),
        round: task.round,
        attempt: task.attempt,
        kind: Kind::Update,
        rho: zcdp::rho_per_round(privacy, dimension),
        delta,
    };
    ledger
        .propose(now, debit, run_limit, total_limit)
        .map_err(|refused| {
            let code = match refused {
                Refused::Run { .. } | Refused::Account { .. } => Code::BudgetSpent,
                Refused::Value { .. } => Code::PlanInvalid,
            };
            Refusal::new(
                code,
                format!("round {} of {}: {refused}", task.round, plan.name),
            )
        })
}
