//! Receipts for everything that left.

use fedner_session::{Release, Task};
use fedner_shared::digest::Digest;
use fedner_shared::id::RunId;
use fedner_shared::sign::Signed;
use fedner_shared::statement::{EvaluationReceipt, UpdateReceipt};
use fedner_shared::time::Time;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::{Error, Store, digest_of, signed_of};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptKind {
    Update,
    Evaluation,
    /// Of a report that a person submitted: its statement is the report.
    Audit,
}

impl ReceiptKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Evaluation => "evaluation",
            Self::Audit => "audit",
        }
    }
}

/// The assignment that something left for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub plan: Digest,
    pub run: RunId,
    pub round: u32,
    pub attempt: u32,
}

impl Asked {
    pub fn from_task(task: &Task) -> Self {
        Self {
            plan: task.plan,
            run: task.run.clone(),
            round: task.round,
            attempt: task.attempt,
        }
    }

    /// `None` where nobody asked: then all four columns are empty.
    fn read(row: &Row<'_>) -> rusqlite::Result<Option<Self>> {
        let Some(run) = row.get::<_, Option<String>>("run")? else {
            return Ok(None);
        };
        Ok(Some(Self {
            plan: digest_of(row, "plan")?,
            run: run.parse().map_err(|_| super::unreadable(run.into()))?,
            round: row.get("round")?,
            attempt: row.get("attempt")?,
        }))
    }
}

/// A signed receipt with what is known here only.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    pub digest: Digest,
    pub kind: ReceiptKind,
    /// Absent for what no assignment asked for.
    pub asked: Option<Asked>,
    /// The encoded update.
    pub blob: Option<Digest>,
    pub signed: Signed,
    pub time: Time,
    /// JSON that never leaves: the norms before and after clipping.
    pub note: serde_json::Value,
    /// When the coordinator had taken it.
    pub taken: Option<Time>,
}

impl Receipt {
    /// The ledger entry that paid for what left; `None` for what costs nothing, and for what cannot
    /// be read.
    pub fn paid_by(&self) -> Option<Digest> {
        match self.kind {
            ReceiptKind::Update => self.signed.peek::<UpdateReceipt>().ok()?.ledger_head,
            ReceiptKind::Evaluation => {
                let evaluation = self.signed.peek::<EvaluationReceipt>().ok()?;
                evaluation.noise.map(|noise| noise.ledger_head)
            }
            ReceiptKind::Audit => None,
        }
    }

    /// Whether it is about something that left for that plan.
    pub fn is_for(&self, plan: &Digest) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.plan == *plan)
    }

    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let unreadable = |text: &str| super::unreadable(text.to_owned().into());
        let (kind, note): (String, String) = (row.get("kind")?, row.get("note")?);
        let blob: Option<String> = row.get("blob")?;
        Ok(Self {
            digest: digest_of(row, "digest")?,
            kind: match kind.as_str() {
                "update" => ReceiptKind::Update,
                "evaluation" => ReceiptKind::Evaluation,
                "audit" => ReceiptKind::Audit,
                other => return Err(unreadable(other)),
            },
            asked: Asked::read(row)?,
            blob: match blob {
                Some(_) => Some(digest_of(row, "blob")?),
                None => None,
            },
            signed: signed_of(row)?,
            time: Time::from_millis(row.get("time_ms")?),
            note: serde_json::from_str(&note).map_err(|e| super::unreadable(Box::new(e)))?,
            taken: row
                .get::<_, Option<i64>>("taken_ms")?
                .map(Time::from_millis),
        })
    }
}

pub(super) fn insert(connection: &Connection, receipt: &Receipt) -> rusqlite::Result<()> {
    let asked = receipt.asked.as_ref();
    connection.execute(
        "INSERT INTO receipts
         (digest, kind, plan, run, round, attempt, blob, body, signature, time_ms, note)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            receipt.digest.to_string(),
            receipt.kind.as_str(),
            asked.map(|asked| asked.plan.to_string()),
            asked.map(|asked| asked.run.as_str()),
            asked.map(|asked| asked.round),
            asked.map(|asked| asked.attempt),
            receipt.blob.map(|blob| blob.to_string()),
            receipt.signed.body,
            receipt.signed.signature.as_bytes(),
            receipt.time.as_millis(),
            receipt.note.to_string(),
        ],
    )?;
    Ok(())
}

impl Store {
    /// Keeps a receipt of what costs nothing, before it leaves.
    pub fn add_receipt(&self, receipt: &Receipt) -> Result<(), Error> {
        self.transaction("add receipt", |t| insert(t, receipt))
    }

    pub fn receipt(&self, digest: &Digest) -> Result<Option<Receipt>, Error> {
        self.query("read receipt", |connection| {
            let sql = "SELECT * FROM receipts WHERE digest = ?1";
            connection
                .query_row(sql, [digest.to_string()], Receipt::of)
                .optional()
        })
    }

    /// Oldest first.
    pub fn receipts(&self) -> Result<Vec<Receipt>, Error> {
        self.query("read receipts", |connection| {
            let mut statement = connection.prepare("SELECT * FROM receipts ORDER BY id")?;
            statement.query_map([], Receipt::of)?.collect()
        })
    }

    /// What was released for this very attempt before.
    pub fn released(&self, task: &Task) -> Result<Option<Release>, Error> {
        self.of_attempt(task, ReceiptKind::Update, |row| {
            Ok(Release {
                blob: digest_of(row, "blob")?,
                bytes: row.get::<_, i64>("bytes")?.unsigned_abs(),
                receipt: digest_of(row, "digest")?,
            })
        })
    }

    /// The receipt of the counts that left for this very attempt, if they are of this very version.
    pub fn counted(&self, task: &Task) -> Result<Option<Digest>, Error> {
        let found = self.of_attempt(task, ReceiptKind::Evaluation, |row| {
            Ok((digest_of(row, "digest")?, row.get::<_, String>("version")?))
        })?;
        let version = task.version.to_string();
        Ok(found.and_then(|(receipt, of)| (of == version).then_some(receipt)))
    }

    /// The newest receipt of this kind for this attempt.
    fn of_attempt<T>(
        &self,
        task: &Task,
        kind: ReceiptKind,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, Error> {
        self.query("read release", |connection| {
            let sql = "SELECT digest, blob, json_extract(body, '$.bytes') AS bytes,
                 json_extract(body, '$.version') AS version FROM receipts
                 WHERE kind = ?1 AND plan = ?2 AND run = ?3 AND round = ?4 AND attempt = ?5
                 ORDER BY id DESC LIMIT 1";
            let key = params![
                kind.as_str(),
                task.plan.to_string(),
                task.run.as_str(),
                task.round,
                task.attempt
            ];
            connection.query_row(sql, key, read).optional()
        })
    }
}
