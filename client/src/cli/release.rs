//! `release list`, `release bytes`, `release grant`, `release refuse`.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use fedner_host::files::write_secret;
use fedner_host::output::table;
use fedner_session::{Release, State, Task};
use fedner_shared::digest::Digest;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::time::Time;
use serde::Serialize;
use serde_json::Value;

use super::Context;
use crate::blobs::Blobs;
use crate::config::Directory;
use crate::identity;
use crate::rules;
use crate::state::{Decision, Store};

/// Let go, or keep, the updates that wait for a person: with `hold = true` in the policy
///
/// A waiting update is clipped, noised, encoded, signed and paid for: what is shown is, to the byte,
/// what would leave. Refused or let go too late it stays paid for.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what waits: the signed receipt, and the file of the update
    List,
    /// Write the bytes that would leave into a file; on the disk they are sealed
    Bytes {
        /// The first digits of its receipt
        receipt: String,
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Let an update go
    Grant {
        /// The first digits of its receipt
        receipt: String,
        /// Say what would leave, and let nothing go
        #[arg(long)]
        dry_run: bool,
    },
    /// Keep an update here for good, and tell the coordinator
    Refuse {
        /// The first digits of its receipt
        receipt: String,
    },
}

/// An update that a person decides about.
#[derive(Debug, Serialize)]
pub(super) struct Waiting {
    pub(super) receipt: String,
    pub(super) run: String,
    pub(super) round: u32,
    pub(super) attempt: u32,
    pub(super) since: Option<Time>,
    pub(super) word: Decision,
    /// What would leave, and nothing beside it: this statement with its signature,
    pub(super) statement: Value,
    pub(super) signature: String,
    /// and the bytes in this file, of which the statement has the digest. They are sealed; see `release bytes`.
    pub(super) file: PathBuf,
    pub(super) bytes: u64,
    #[serde(skip)]
    blob: Digest,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let directory = context.directory()?;
    let settings = directory.settings()?;
    let store = Store::open(&directory.database())?;
    let hold = rules::shown(&store, &directory)?.policy.hold;
    let waiting = waiting(&store, &directory, hold)?;
    let (receipt, word) = match &arguments.command {
        Command::List => {
            let rows: Vec<Waiting> = waiting.into_iter().collect();
            let none = "no update waits; with `hold = true` in policy.toml each one does";
            context.output.list(&rows, none, list)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Bytes { receipt, .. } => (receipt, Decision::None),
        Command::Grant { receipt, .. } => (receipt, Decision::Granted),
        Command::Refuse { receipt } => (receipt, Decision::Refused),
    };
    let mut waiting = waiting
        .filter(|waiting| waiting.receipt.starts_with(receipt.as_str()))
        .ok_or_else(|| {
            let message = format!("no update `{receipt}` waits: see `fedner-client release list`");
            Refusal::new(Code::NothingFound, message)
        })?;
    if let Command::Bytes { to, .. } = &arguments.command {
        let key = identity::storage_key(&directory, &settings)?;
        let blobs = Blobs::open(directory.blobs())?.sealed(key);
        let mut bytes = Vec::new();
        blobs.file(&waiting.blob)?.read_to_end(&mut bytes)?;
        write_secret(to, &bytes)?;
    } else if !matches!(arguments.command, Command::Grant { dry_run: true, .. }) {
        let digest = waiting.receipt.parse()?;
        waiting.word = store.decide(&digest, word)?;
    }
    context.output.data(&waiting, text)?;
    // The first word holds.
    Ok(ExitCode::from(u8::from(
        waiting.word != Decision::None && waiting.word != word,
    )))
}

/// The update that waits for a person, where the policy holds them back or a person has refused it.
pub(super) fn waiting(
    store: &Store,
    directory: &Directory,
    hold: bool,
) -> anyhow::Result<Option<Waiting>> {
    let session = store.session()?;
    Ok(match &session.state {
        State::Uploading { task, release, .. } => {
            let blobs = Blobs::open(directory.blobs())?;
            Waiting::of(store, task, *release, (session.since, blobs))?
                .filter(|waiting| hold || waiting.word == Decision::Refused)
        }
        State::Idle
        | State::Fetching { .. }
        | State::Training { .. }
        | State::Releasing { .. }
        | State::Evaluating { .. }
        | State::Submitting { .. } => None,
    })
}

impl Waiting {
    fn of(
        store: &Store,
        task: &Task,
        release: Release,
        (since, blobs): (Option<Time>, Blobs),
    ) -> anyhow::Result<Option<Self>> {
        let Some(receipt) = store.receipt(&release.receipt)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            receipt: receipt.digest.to_string(),
            run: task.run.to_string(),
            round: task.round,
            attempt: task.attempt,
            since,
            word: store.decision(&receipt.digest)?,
            statement: serde_json::from_str(&receipt.signed.body)?,
            signature: hex::encode(receipt.signed.signature.as_bytes()),
            file: blobs.place(&release.blob),
            bytes: release.bytes,
            blob: release.blob,
        }))
    }
}

fn list(rows: &[Waiting]) -> String {
    let lines = rows.iter().map(|row| {
        [
            row.receipt[..12].to_owned(),
            row.run.clone(),
            row.round.to_string(),
            row.attempt.to_string(),
            row.bytes.to_string(),
            row.word.as_str().to_owned(),
            row.since.map_or("-".to_owned(), |since| since.to_string()),
        ]
    });
    let head = [
        "RECEIPT", "RUN", "ROUND", "ATTEMPT", "BYTES", "WORD", "SINCE",
    ];
    table(head, &[2, 3, 4], lines)
}

fn text(waiting: &Waiting) -> String {
    let word = match waiting.word {
        Decision::None => "nothing was let go; this would leave",
        Decision::Granted => "granted; this leaves",
        Decision::Refused => "refused; this stays",
    };
    format!(
        "{word}:\nthe {} bytes sealed in {}\nand the statement, signed {}:\n{}",
        waiting.bytes,
        waiting.file.display(),
        waiting.signature,
        serde_json::to_string_pretty(&waiting.statement).unwrap_or_default()
    )
}
