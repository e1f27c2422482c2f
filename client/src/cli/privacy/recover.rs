//! `privacy recover`.

use std::process::ExitCode;

use fedner_host::machine::{Machine as _, ThisMachine};
use serde::Serialize;

use crate::cli::{Context, runtime};
use crate::egress;
use crate::identity::Identity;
use crate::state::Store;
use crate::transport::{Coordinator, Says, Session};

/// Rebuild a ledger that is lost for good from the receipts that the coordinator keeps
///
/// The result says no less than was released. It may say less than was spent: what was paid for and never reached
/// the coordinator is known to nobody. Restore the newest copy of the directory instead, where there is one.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only say what would be added
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    /// Releases that the ledger lacked.
    debits: usize,
    /// Of these, such as only a later receipt tells of.
    without_receipt: usize,
    /// By plan: ε at the plan's δ; absent without noise.
    plans: Vec<Spent>,
}

#[derive(Debug, Serialize)]
struct Spent {
    plan: String,
    epsilon: Option<f64>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let directory = context.directory()?;
    let settings = directory.settings()?;
    // No daemon may pay for anything meanwhile.
    let _lock = directory.lock()?;
    let identity = Identity::load(&directory.identity(), settings.institution.clone())?;
    let store = Store::open(&directory.database())?;
    store.check_not_moved()?;
    let ledger = store.ledger()?;
    let (answer, kept) = runtime()?.block_on(async {
        let coordinator = Coordinator::new(&(&settings).into(), &identity.tls)?;
        let coordinator = coordinator.with_session(Session::looks());
        let answer = coordinator.check_in(Says::default()).await?;
        let kept = coordinator.receipts().await?;
        Ok::<_, crate::transport::Error>((answer, kept))
    })?;
    let known = store.recovered()?;
    let now = ThisMachine.now();
    let institution = &identity.institution;
    let rebuilt = egress::rebuild(
        (&ledger, &known),
        institution,
        &kept,
        &answer.ledger_heads,
        now,
    )?;
    let mut book = ledger;
    for entry in &rebuilt.entries {
        book.append(entry.clone())?;
    }
    let mut plans = Vec::new();
    for receipt in &kept {
        let plan: fedner_shared::plan::Plan = receipt.plan.peek()?;
        let spent = Spent {
            plan: plan.name.to_string(),
            epsilon: egress::spent(&book, institution, &plan),
        };
        if plans.iter().all(|known: &Spent| known.plan != spent.plan) {
            plans.push(spent);
        }
    }
    if !arguments.dry_run {
        store.recover(&rebuilt.entries, &rebuilt.heads)?;
        if let Some(heads) = directory.heads(&settings) {
            heads.begin_anew(&store.ledger()?)?;
        }
    }
    let debits = rebuilt
        .entries
        .iter()
        .filter(|entry| entry.spends().is_some());
    let report = Report {
        debits: debits.count(),
        without_receipt: rebuilt.without_receipt,
        plans,
    };
    let dry = arguments.dry_run;
    context.output.data(&report, |report| text(report, dry))?;
    Ok(ExitCode::SUCCESS)
}

fn text(report: &Report, dry: bool) -> String {
    let verb = if dry { "would be" } else { "were" };
    let mut lines = vec![format!(
        "{} releases {verb} added, {} of which no receipt tells by itself",
        report.debits, report.without_receipt
    )];
    for Spent { plan, epsilon } in &report.plans {
        lines.push(match epsilon {
            Some(epsilon) => format!("{plan}: at least ε = {epsilon:.3}"),
            None => format!("{plan}: without noise"),
        });
    }
    lines.push("what was paid for and never reached the coordinator is known to nobody".to_owned());
    lines.join("\n")
}
