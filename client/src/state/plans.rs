//! Plans that this institution has been shown, each verified before it was stored.

use fedner_shared::digest::Digest;
use fedner_shared::id::RunId;
use fedner_shared::plan::Plan;
use fedner_shared::sign::Signed;
use fedner_shared::time::Time;
use rusqlite::{OptionalExtension, Row, params};

use super::{Error, Store, digest_of, signed_of};

/// A plan with its operator's signature.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanRecord {
    pub digest: Digest,
    pub run: RunId,
    pub plan: Plan,
    pub signed: Signed,
    /// Trainable weights; 0 where the coordinator did not say.
    pub dimension: u64,
    pub proposed: Time,
}

impl PlanRecord {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let signed = signed_of(row)?;
        let unreadable = |error: &str| super::unreadable(error.to_owned().into());
        let run: String = row.get("run")?;
        Ok(Self {
            digest: digest_of(row, "digest")?,
            run: run.parse().map_err(|_| unreadable(&run))?,
            plan: signed.peek().map_err(|e| unreadable(&e.to_string()))?,
            signed,
            dimension: row.get::<_, i64>("dimension")?.unsigned_abs(),
            proposed: Time::from_millis(row.get("proposed_ms")?),
        })
    }
}

impl Store {
    /// Stores a verified plan; one that is known stays as it is.
    pub fn add_plan(&self, record: &PlanRecord) -> Result<(), Error> {
        self.transaction("add plan", |transaction| {
            transaction.execute(
                "INSERT INTO plans (digest, run, body, signature, dimension, proposed_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (digest) DO NOTHING",
                params![
                    record.digest.to_string(),
                    record.run.as_str(),
                    record.signed.body,
                    record.signed.signature.as_bytes(),
                    record.dimension as i64,
                    record.proposed.as_millis(),
                ],
            )?;
            Ok(())
        })
    }

    pub fn plan(&self, digest: &Digest) -> Result<Option<PlanRecord>, Error> {
        self.query("read plan", |connection| {
            let sql = "SELECT * FROM plans WHERE digest = ?1";
            connection
                .query_row(sql, [digest.to_string()], PlanRecord::of)
                .optional()
        })
    }

    /// In the order in which they were proposed.
    pub fn plans(&self) -> Result<Vec<PlanRecord>, Error> {
        self.query("read plans", |connection| {
            let mut statement =
                connection.prepare("SELECT * FROM plans ORDER BY proposed_ms, digest")?;
            statement.query_map([], PlanRecord::of)?.collect()
        })
    }
}
