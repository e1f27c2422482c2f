//! `privacy show`.

use std::process::ExitCode;

use fedner_host::output::table;
use fedner_privacy::ledger::{Cost, Entry, Ledger, Limit, Stage};
use fedner_shared::plan::Unit;
use fedner_shared::time::Time;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::figures::epsilon;
use crate::config::Policy;
use crate::egress;
use crate::rules;
use crate::state::{PlanRecord, Receipt, ReceiptKind, Store};

/// Figures that are infinite without noise are absent.
#[derive(Debug, Serialize)]
struct Report {
    /// The digest of the newest entry.
    head: String,
    account: Bounded,
    accounts: Vec<AccountRow>,
    plans: Vec<PlanRow>,
    entries: Vec<EntryRow>,
}

/// The account that the policy bounds: every release, whatever its plan protects, at the policy's δ.
/// Another release never makes it smaller.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Bounded {
    pub(in crate::cli) unit: Unit,
    pub(in crate::cli) epsilon: Option<f64>,
    /// The same against everybody, by the noise added here alone; absent where no noise was shared. No limit is on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    epsilon_alone: Option<f64>,
    pub(in crate::cli) delta: f64,
    pub(in crate::cli) max_epsilon_total: f64,
    /// `max_epsilon_total` less `epsilon`, never below 0.
    pub(in crate::cli) epsilon_left: f64,
    /// Entries that have no bound for this unit.
    unbounded: Vec<u64>,
    /// Entries without noise, of text that the policy called public: they are in no ε.
    unprotected: Vec<u64>,
    /// Receipts of exact counts: they are in no ε either.
    exact_counts: usize,
}

/// What the plans that protect one unit cost it.
#[derive(Debug, Serialize)]
struct AccountRow {
    cohort: String,
    unit: Unit,
    /// Trainings begun, updates paid for, and those of them that the coordinator has.
    planned: usize,
    updates: usize,
    confirmed: usize,
    /// All runs together, at the δ of the newest entry.
    epsilon: Option<f64>,
    delta: f64,
    /// What sampled mechanisms cost is not in it.
    rho: Option<f64>,
}

#[derive(Debug, Serialize)]
struct PlanRow {
    plan: String,
    name: Option<String>,
    run: String,
    unit: Unit,
    updates: usize,
    epsilon: Option<f64>,
    /// The same against everybody; absent where noise was not shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    epsilon_alone: Option<f64>,
    delta: f64,
    max_epsilon: Option<f64>,
    epsilon_left: Option<f64>,
}

#[derive(Debug, Serialize)]
struct EntryRow {
    sequence: u64,
    time: Time,
    stage: Stage,
    digest: String,
    plan: String,
    run: String,
    round: u32,
    attempt: u32,
    unit: Unit,
    /// The inputs of the formula.
    #[serde(flatten)]
    cost: Cost,
    rho: Option<f64>,
    epsilon_after: Option<f64>,
    epsilon_account: Option<f64>,
}

pub(super) fn run(context: &Context) -> anyhow::Result<ExitCode> {
    let directory = context.directory()?;
    let settings = directory.settings()?;
    let store = Store::open(&directory.database())?;
    let policy = rules::shown(&store, &directory)?.policy;
    let ledger = store.ledger()?;
    let limit = egress::limit(&settings.institution, &policy);
    let account = Bounded::now(&ledger, &limit, &store.receipts()?);
    let report = Report::of(&ledger, account, &store.plans()?, &policy);
    context.output.data(&report, text)?;
    Ok(ExitCode::SUCCESS)
}

impl Bounded {
    pub(in crate::cli) fn now(ledger: &Ledger, limit: &Limit, receipts: &[Receipt]) -> Self {
        let exact = |receipt: &&Receipt| {
            receipt.kind == ReceiptKind::Evaluation && receipt.paid_by().is_none()
        };
        Self::of(ledger, limit, receipts.iter().filter(exact).count())
    }

    fn of(ledger: &Ledger, limit: &Limit, exact_counts: usize) -> Self {
        let charged = ledger.charged(&limit.account, limit.delta);
        let alone = ledger.charged_alone(&limit.account, limit.delta).epsilon;
        Self {
            unit: limit.account.unit,
            epsilon: finite(charged.epsilon),
            epsilon_alone: finite(alone).filter(|_| ledger.shares_noise(None)),
            delta: limit.delta,
            max_epsilon_total: limit.max_epsilon,
            epsilon_left: left(limit.max_epsilon, charged.epsilon),
            unbounded: charged.unbounded,
            unprotected: charged.unprotected,
            exact_counts,
        }
    }

    pub(in crate::cli) fn text(&self) -> String {
        let mut lines = vec![format!(
            "each {}: epsilon {} of all releases together at delta {:e}; the limit is {}, {:.3} is left",
            self.unit,
            shown(self.epsilon),
            self.delta,
            self.max_epsilon_total,
            self.epsilon_left
        )];
        if let Some(alone) = self.epsilon_alone {
            lines.push(format!(
                "it holds against the coordinator and as many others as each plan says; against everybody, by the \
                 noise added here alone, it is {}",
                epsilon(alone)
            ));
        }
        let listed = |entries: &[u64]| {
            let numbers: Vec<String> = entries.iter().map(u64::to_string).collect();
            numbers.join(", ")
        };
        if !self.unbounded.is_empty() {
            let entries = listed(&self.unbounded);
            lines.push(format!("no bound: entries {entries} protect another unit"));
        }
        if !self.unprotected.is_empty() {
            let entries = listed(&self.unprotected);
            lines.push(format!(
                "not in it: entries {entries}, without noise, of text called public"
            ));
        }
        if self.exact_counts > 0 {
            let count = self.exact_counts;
            lines.push(format!("not in it: {count} receipts of exact counts"));
        }
        lines.join("\n")
    }
}

impl Report {
    fn of(ledger: &Ledger, account: Bounded, plans: &[PlanRecord], policy: &Policy) -> Self {
        let entries = ledger.entries();
        let mut accounts: Vec<AccountRow> = Vec::new();
        let mut rows: Vec<PlanRow> = Vec::new();
        // The newest entry of an account or a plan carries its sum.
        for (index, entry) in entries.iter().enumerate().rev() {
            let debit = &entry.debit;
            let same = |other: &&Entry| other.debit.account == debit.account;
            let later = &entries[index + 1..];
            let account_is_new = !later.iter().any(|other| same(&other));
            if account_is_new {
                accounts.push(AccountRow {
                    cohort: debit.account.cohort.clone(),
                    unit: debit.account.unit,
                    planned: ledger.count(&debit.account, Stage::Planned),
                    updates: ledger.count(&debit.account, Stage::Debited),
                    confirmed: ledger.count(&debit.account, Stage::Confirmed),
                    epsilon: finite(entry.epsilon_account),
                    delta: debit.delta,
                    rho: finite(ledger.rho(&debit.account, None)),
                });
            }
            if !later.iter().any(|other| other.debit.plan == debit.plan) {
                rows.push(plan_row(entry, ledger, plans, policy));
            }
        }
        accounts.reverse();
        rows.reverse();
        Self {
            head: ledger.head().to_string(),
            account,
            accounts,
            plans: rows,
            entries: entries.iter().map(EntryRow::of).collect(),
        }
    }
}

fn plan_row(entry: &Entry, ledger: &Ledger, plans: &[PlanRecord], policy: &Policy) -> PlanRow {
    let (debit, entries) = (&entry.debit, ledger.entries());
    let of = Some(debit.plan);
    let alone = ledger.spent_alone(&debit.account, of, debit.delta);
    let plan = plans.iter().find(|record| record.digest == debit.plan);
    let limit = plan.map(|record| record.plan.privacy.max_epsilon.min(policy.max_epsilon_run));
    PlanRow {
        plan: debit.plan.to_string(),
        name: plan.map(|record| record.plan.name.to_string()),
        run: debit.run.to_string(),
        unit: debit.account.unit,
        updates: entries
            .iter()
            .filter(|other| other.debit.plan == debit.plan && other.stage == Stage::Debited)
            .count(),
        epsilon: finite(entry.epsilon_after),
        epsilon_alone: finite(alone).filter(|_| ledger.shares_noise(of)),
        delta: debit.delta,
        max_epsilon: limit.filter(|_| entry.epsilon_after.is_finite()),
        epsilon_left: limit
            .filter(|_| entry.epsilon_after.is_finite())
            .map(|limit| left(limit, entry.epsilon_after)),
    }
}

impl EntryRow {
    fn of(entry: &Entry) -> Self {
        let debit = &entry.debit;
        Self {
            sequence: entry.sequence,
            time: entry.time,
            stage: entry.stage,
            digest: entry.digest().to_string(),
            plan: debit.plan.to_string(),
            run: debit.run.to_string(),
            round: debit.round,
            attempt: debit.attempt,
            unit: debit.account.unit,
            cost: debit.cost,
            rho: debit.cost.rho().and_then(finite),
            epsilon_after: finite(entry.epsilon_after),
            epsilon_account: finite(entry.epsilon_account),
        }
    }
}

fn left(limit: f64, spent: f64) -> f64 {
    (limit - spent).max(0.0)
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Planned => "planned",
        Stage::Debited => "debited",
        Stage::Confirmed => "confirmed",
    }
}

fn cost(cost: &Cost) -> String {
    match cost {
        Cost::Unprotected => "no noise".to_owned(),
        Cost::Gaussian {
            squared_sensitivity,
            scale,
        } => format!("{:.0} / {scale:.0}", (*squared_sensitivity as f64).sqrt()),
        Cost::SharedGaussian {
            squared_sensitivity,
            scale,
            senders,
            ..
        } => format!(
            "{:.0} / {scale:.0} of {senders}",
            (*squared_sensitivity as f64).sqrt()
        ),
        Cost::SampledGaussian {
            sampling_rate,
            noise_multiplier,
            steps,
            ..
        } => format!("q {sampling_rate:.4}, z {noise_multiplier:.3}, T {steps}"),
        Cost::SharedSampledGaussian {
            sampling_rate,
            noise_multiplier,
            steps,
            senders,
            ..
        } => format!("q {sampling_rate:.4}, z {noise_multiplier:.3} of {senders}, T {steps}"),
    }
}

fn finite(figure: f64) -> Option<f64> {
    figure.is_finite().then_some(figure)
}

fn shown(figure: Option<f64>) -> String {
    epsilon(figure.unwrap_or(f64::INFINITY))
}

fn text(report: &Report) -> String {
    if report.entries.is_empty() {
        return "nothing was spent: no update has left".to_owned();
    }
    let accounts = report.accounts.iter().map(|row| {
        [
            row.unit.to_string(),
            row.updates.to_string(),
            row.confirmed.to_string(),
            shown(row.epsilon),
            format!("{:e}", row.delta),
        ]
    });
    let plans = report.plans.iter().map(|row| {
        [
            row.name
                .clone()
                .unwrap_or_else(|| row.plan[..12].to_owned()),
            row.run.clone(),
            row.unit.to_string(),
            row.updates.to_string(),
            shown(row.epsilon),
            format!("{:e}", row.delta),
            row.max_epsilon
                .map_or("-".to_owned(), |max| max.to_string()),
        ]
    });
    let entries = report.entries.iter().map(|row| {
        [
            row.sequence.to_string(),
            row.time.to_string(),
            stage(row.stage).to_owned(),
            row.run.clone(),
            row.round.to_string(),
            row.attempt.to_string(),
            cost(&row.cost),
            shown(row.epsilon_after),
            shown(row.epsilon_account),
        ]
    });
    format!(
        "{}\n\n{}\n\n{}\n\n{}",
        report.account.text(),
        table(
            ["UNIT", "UPDATES", "CONFIRMED", "EPSILON", "DELTA"],
            &[1, 2, 3, 4],
            accounts
        ),
        table(
            [
                "PLAN", "RUN", "UNIT", "UPDATES", "EPSILON", "DELTA", "LIMIT"
            ],
            &[3, 4, 5, 6],
            plans
        ),
        table(
            [
                "ENTRY",
                "TIME",
                "STAGE",
                "RUN",
                "ROUND",
                "ATTEMPT",
                "SENSITIVITY / NOISE",
                "EPSILON",
                "IN ALL"
            ],
            &[0, 4, 5, 6, 7, 8],
            entries
        )
    )
}
