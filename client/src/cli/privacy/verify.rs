//! `privacy verify`.

use std::process::ExitCode;

use fedner_shared::refusal::{Code, Refusal};
use serde::Serialize;

use crate::cli::{Context, receipts};
use crate::identity::Identity;
use crate::state::{ReceiptKind, Store};

#[derive(Debug, Serialize)]
struct Verdict {
    entries: usize,
    receipts: usize,
    head: String,
    problems: Vec<String>,
}

pub(super) fn run(context: &Context) -> anyhow::Result<ExitCode> {
    let directory = context.directory()?;
    let settings = directory.settings()?;
    let heads = directory.heads(&settings);
    let identity = Identity::load(&directory.identity(), settings.institution)?;
    let store = Store::open(&directory.database())?;
    // Reading it verifies the chain and every figure.
    let ledger = store.ledger()?;
    let kept = store.receipts()?;
    let keys = receipts::own_keys(&store, &identity)?;
    let mut problems = receipts::problems(&kept, &keys);
    let lost = heads.and_then(|heads| heads.check(&ledger).err());
    problems.extend(lost.map(|error| error.to_string()));
    for receipt in &kept {
        let missing = match receipt.paid_by() {
            Some(head) => !ledger.contains(&head),
            // Every update is paid for, and counts that have noise.
            None => receipt.kind == ReceiptKind::Update,
        };
        if missing {
            problems.push(format!(
                "receipt {} names a ledger entry that is missing: the ledger has lost its end",
                receipt.digest
            ));
        }
    }
    let contradictions = store.history()?.contradictions;
    let own = problems.len();
    for contradiction in &contradictions {
        problems.push(format!(
            "the coordinator's history was rewritten, found at {}: {}",
            contradiction.found, contradiction.reason
        ));
    }
    let verdict = Verdict {
        entries: ledger.entries().len(),
        receipts: kept.len(),
        head: ledger.head().to_string(),
        problems,
    };
    context.output.data(&verdict, |verdict| {
        if verdict.problems.is_empty() {
            format!(
                "{} ledger entries and {} receipts: chain, figures and signatures are right",
                verdict.entries, verdict.receipts
            )
        } else {
            verdict.problems.join("\n")
        }
    })?;
    let code = if own == 0 && !contradictions.is_empty() {
        Code::HistoryRewritten
    } else {
        Code::LedgerInvalid
    };
    match verdict.problems.into_iter().next() {
        Some(problem) => Err(Refusal::new(code, problem).into()),
        None => Ok(ExitCode::SUCCESS),
    }
}
