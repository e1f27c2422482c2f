//! `receipts list`, `receipts show`, `receipts verify`.

use std::process::ExitCode;

use clap::Subcommand;
use fedner_host::output::table;
use fedner_shared::audit::AuditReport;
use fedner_shared::keys::verify_by_any;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign::PublicKey;
use fedner_shared::statement::{EvaluationReceipt, UpdateReceipt};
use fedner_shared::time::Time;
use serde::Serialize;
use serde_json::Value;

use super::Context;
use crate::cli::figures::epsilon;
use crate::identity::Identity;
use crate::state::{Receipt, ReceiptKind, Store};

/// What has left this institution
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List everything that left
    List,
    /// Show a receipt in full
    Show {
        /// The first digits of its digest
        receipt: String,
    },
    /// Check every signature and digest
    Verify,
}

#[derive(Debug, Serialize)]
struct Row {
    receipt: String,
    kind: ReceiptKind,
    /// These four are null for what no assignment asked for.
    run: Option<String>,
    plan: Option<String>,
    round: Option<u32>,
    attempt: Option<u32>,
    time: Time,
    /// Whether the coordinator has taken it.
    taken: bool,
    /// Of an update.
    bytes: Option<u64>,
    blob: Option<String>,
    epsilon_after: Option<f64>,
    /// The same against everybody; absent where noise is not shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    epsilon_alone: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Shown {
    receipt: String,
    kind: ReceiptKind,
    time: Time,
    taken: Option<Time>,
    /// The statement that was sent.
    statement: Value,
    signature: String,
    /// What never leaves.
    local: Value,
}

#[derive(Debug, Serialize)]
struct Verdict {
    receipts: usize,
    problems: Vec<String>,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let directory = context.directory()?;
    let settings = directory.settings()?;
    let store = Store::open(&directory.database())?;
    let receipts = store.receipts()?;
    match arguments.command {
        Command::List => {
            let rows: Vec<Row> = receipts.iter().map(Row::of).collect();
            let none = "nothing has left; see `fedner-client consent list` for what is asked";
            context.output.list(&rows, none, list)?;
        }
        Command::Show { receipt } => {
            let shown = Shown::of(find(&receipts, &receipt)?);
            context.output.data(&shown, |shown| {
                serde_json::to_string_pretty(shown).unwrap_or_default()
            })?;
        }
        Command::Verify => {
            let identity = Identity::load(&directory.identity(), settings.institution)?;
            let verdict = verify(&receipts, &own_keys(&store, &identity)?);
            context.output.data(&verdict, |verdict| {
                if verdict.problems.is_empty() {
                    format!(
                        "{} receipts: all signatures and digests are right",
                        verdict.receipts
                    )
                } else {
                    verdict.problems.join("\n")
                }
            })?;
            if let Some(problem) = verdict.problems.into_iter().next() {
                return Err(Refusal::new(Code::SignatureInvalid, problem).into());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Row {
    fn of(receipt: &Receipt) -> Self {
        let (bytes, epsilon_after, epsilon_alone) = match receipt.kind {
            ReceiptKind::Update => match receipt.signed.peek::<UpdateReceipt>() {
                Ok(update) => (
                    Some(update.bytes),
                    update.epsilon_after,
                    update.epsilon_alone,
                ),
                Err(_) => (None, None, None),
            },
            ReceiptKind::Evaluation => {
                let evaluation = receipt.signed.peek::<EvaluationReceipt>().ok();
                let noise = evaluation.and_then(|evaluation| evaluation.noise);
                (None, noise.map(|noise| noise.epsilon_after), None)
            }
            ReceiptKind::Audit => (None, None, None),
        };
        let asked = receipt.asked.as_ref();
        Self {
            receipt: receipt.digest.to_string(),
            kind: receipt.kind,
            run: asked.map(|asked| asked.run.to_string()),
            plan: asked.map(|asked| asked.plan.to_string()),
            round: asked.map(|asked| asked.round),
            attempt: asked.map(|asked| asked.attempt),
            time: receipt.time,
            taken: receipt.taken.is_some(),
            bytes,
            blob: receipt.blob.map(|blob| blob.to_string()),
            epsilon_after,
            epsilon_alone,
        }
    }
}

impl Shown {
    fn of(receipt: &Receipt) -> Self {
        Self {
            receipt: receipt.digest.to_string(),
            kind: receipt.kind,
            time: receipt.time,
            taken: receipt.taken,
            statement: serde_json::from_str(&receipt.signed.body).unwrap_or_default(),
            signature: hex::encode(receipt.signed.signature.as_bytes()),
            local: receipt.note.clone(),
        }
    }
}

fn find<'a>(receipts: &'a [Receipt], text: &str) -> Result<&'a Receipt, Refusal> {
    let mut found = receipts
        .iter()
        .filter(|receipt| receipt.digest.to_string().starts_with(text));
    match (found.next(), found.next()) {
        (Some(receipt), None) => Ok(receipt),
        (Some(_), Some(_)) => {
            let message = format!("`{text}` means several receipts: give more digits");
            Err(Refusal::new(Code::NothingFound, message))
        }
        (None, _) => {
            let message = format!("no receipt `{text}`: see `fedner-client receipts list`");
            Err(Refusal::new(Code::NothingFound, message))
        }
    }
}

/// What is wrong with the receipts.
pub(super) fn problems(receipts: &[Receipt], keys: &[PublicKey]) -> Vec<String> {
    let wrong = |receipt: &Receipt| {
        let signature = match receipt.kind {
            ReceiptKind::Update => verify_by_any::<UpdateReceipt>(&receipt.signed, keys).map(drop),
            ReceiptKind::Evaluation => {
                verify_by_any::<EvaluationReceipt>(&receipt.signed, keys).map(drop)
            }
            ReceiptKind::Audit => verify_by_any::<AuditReport>(&receipt.signed, keys).map(drop),
        };
        let reason = match signature {
            Err(error) => error.to_string(),
            Ok(()) if receipt.signed.digest() != receipt.digest => {
                format!("its digest is {}", receipt.signed.digest())
            }
            Ok(()) => return None,
        };
        Some(format!("receipt {}: {reason}", receipt.digest))
    };
    receipts.iter().filter_map(wrong).collect()
}

/// The keys that signed for this institution, the present one last.
pub(super) fn own_keys(store: &Store, identity: &Identity) -> anyhow::Result<Vec<PublicKey>> {
    let mut keys = store.earlier_keys()?;
    keys.push(identity.signing.public());
    Ok(keys)
}

fn verify(receipts: &[Receipt], keys: &[PublicKey]) -> Verdict {
    Verdict {
        receipts: receipts.len(),
        problems: problems(receipts, keys),
    }
}

fn list(rows: &[Row]) -> String {
    let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
    let lines = rows.iter().map(|row| {
        [
            row.receipt[..12].to_owned(),
            row.kind.as_str().to_owned(),
            row.run.clone().unwrap_or("-".to_owned()),
            number(row.round.map(u64::from)),
            number(row.attempt.map(u64::from)),
            number(row.bytes),
            row.epsilon_after.map_or("-".to_owned(), epsilon),
            if row.taken { "taken" } else { "kept" }.to_owned(),
            row.time.to_string(),
        ]
    });
    let head = [
        "RECEIPT", "KIND", "RUN", "ROUND", "ATTEMPT", "BYTES", "EPSILON", "STATE", "TIME",
    ];
    table(head, &[3, 4, 5, 6], lines)
}
