//! Runs, their plans, and the outbox.

use fedner_round::{Effect, Run};
use fedner_shared::digest::Digest;
use fedner_shared::id::RunId;
use fedner_shared::sign::Signed;
use rusqlite::{OptionalExtension, params};

use super::{Error, Tx, damaged, named};

/// An effect that has not been carried out yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    pub run: RunId,
    pub effect: Effect,
}

impl Tx<'_> {
    pub fn put_plan(&self, signed: &Signed) -> Result<(), Error> {
        let json = serde_json::to_string(signed).map_err(damaged)?;
        self.0
            .execute(
                "INSERT INTO plans (digest, signed) VALUES (?1, ?2)",
                [signed.digest().to_string(), json],
            )
            .map_err(named("put plan"))?;
        Ok(())
    }

    pub fn plan(&self, digest: Digest) -> Result<Option<Signed>, Error> {
        let json: Option<String> = self
            .0
            .query_row(
                "SELECT signed FROM plans WHERE digest = ?1",
                [digest.to_string()],
                |row| row.get(0),
            )
            .optional()
            .map_err(named("find plan"))?;
        json.map(|json| serde_json::from_str(&json).map_err(damaged))
            .transpose()
    }

    /// Writes the run's newest state.
    pub fn put_run(&self, run: &Run) -> Result<(), Error> {
        let snapshot = serde_json::to_string(run).map_err(damaged)?;
        self.0
            .execute(
                "INSERT INTO runs (id, number, plan, snapshot)
                 VALUES (?1, (SELECT coalesce(max(number), 0) + 1 FROM runs), ?2, ?3)
                 ON CONFLICT (id) DO UPDATE SET snapshot = ?3",
                params![run.id.as_str(), run.plan_digest.to_string(), snapshot],
            )
            .map_err(named("put run"))?;
        Ok(())
    }

    /// All runs, oldest first.
    pub fn runs(&self) -> Result<Vec<Run>, Error> {
        let failed = named("list runs");
        let mut statement = self
            .0
            .prepare("SELECT snapshot FROM runs ORDER BY number")
            .map_err(&failed)?;
        let rows = statement
            .query_map([], |row| row.get::<_, String>(0))
            .map_err(&failed)?;
        rows.map(|row| serde_json::from_str(&row.map_err(&failed)?).map_err(damaged))
            .collect()
    }

    pub fn put_effect(&self, run: &RunId, effect: &Effect) -> Result<(), Error> {
        let json = serde_json::to_string(effect).map_err(damaged)?;
        self.0
            .execute(
                "INSERT INTO outbox (run, round, sequence, effect) VALUES (?1, ?2, ?3, ?4)",
                params![run.as_str(), effect.round, effect.sequence as i64, json],
            )
            .map_err(named("put effect"))?;
        Ok(())
    }

    /// The effect has been carried out.
    pub fn remove_effect(&self, run: &RunId, effect: &Effect) -> Result<(), Error> {
        self.0
            .execute(
                "DELETE FROM outbox WHERE run = ?1 AND round = ?2 AND sequence = ?3",
                params![run.as_str(), effect.round, effect.sequence as i64],
            )
            .map_err(named("remove effect"))?;
        Ok(())
    }

    pub fn outbox(&self) -> Result<Vec<Pending>, Error> {
        let failed = named("list outbox");
        let sql = "SELECT run, effect FROM outbox ORDER BY run, round, sequence";
        let mut statement = self.0.prepare(sql).map_err(&failed)?;
        let rows = statement
            .query_map([], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            })
            .map_err(&failed)?;
        rows.map(|row| {
            let (run, effect) = row.map_err(&failed)?;
            let run = run.parse().map_err(damaged)?;
            Ok(Pending {
                run,
                effect: serde_json::from_str(&effect).map_err(damaged)?,
            })
        })
        .collect()
    }
}
