//! Runs, their plans, and the outbox.

use fedner_round::{Effect, Member, Members, Run};
use fedner_shared::digest::Digest;
use fedner_shared::id::{InstitutionId, RunId};
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

    /// Writes the run's newest state, with those of its members that are not as they were before.
    pub fn put_run(&self, run: &Run, before: Option<&Members>) -> Result<(), Error> {
        let alone = Run {
            members: Members::default(),
            ..run.clone()
        };
        let snapshot = serde_json::to_string(&alone).map_err(damaged)?;
        self.0
            .execute(
                "INSERT INTO runs (id, number, plan, snapshot)
                 VALUES (?1, (SELECT coalesce(max(number), 0) + 1 FROM runs), ?2, ?3)
                 ON CONFLICT (id) DO UPDATE SET snapshot = ?3",
                params![run.id.as_str(), run.plan_digest.to_string(), snapshot],
            )
            .map_err(named("put run"))?;
        let none = Members::default();
        for (name, member) in run.members.changed_since(before.unwrap_or(&none)) {
            self.put_member(&run.id, name, member)?;
        }
        Ok(())
    }

    fn put_member(&self, run: &RunId, name: &InstitutionId, member: &Member) -> Result<(), Error> {
        let failed = named("put member");
        let json = serde_json::to_string(member).map_err(damaged)?;
        let sql = "INSERT OR REPLACE INTO members (run, institution, member) VALUES (?1, ?2, ?3)";
        let mut statement = self.0.prepare_cached(sql).map_err(&failed)?;
        statement
            .execute([run.as_str(), name.as_str(), &json])
            .map_err(&failed)?;
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
        rows.map(|row| {
            let mut run: Run = serde_json::from_str(&row.map_err(&failed)?).map_err(damaged)?;
            run.members = self.members(&run.id)?;
            Ok(run)
        })
        .collect()
    }

    fn members(&self, run: &RunId) -> Result<Members, Error> {
        let failed = named("list members");
        let sql = "SELECT institution, member FROM members WHERE run = ?1";
        let mut statement = self.0.prepare_cached(sql).map_err(&failed)?;
        let rows = statement
            .query_map([run.as_str()], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            })
            .map_err(&failed)?;
        rows.map(|row| {
            let (name, member) = row.map_err(&failed)?;
            let name = name.parse().map_err(damaged)?;
            Ok((name, serde_json::from_str(&member).map_err(damaged)?))
        })
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

#[cfg(test)]
mod tests {
    use fedner_shared::sign::SecretKey;

    use super::*;
    use crate::store::{Store, fixture};

    #[test]
    fn a_run_reads_back_with_those_who_changed_and_those_who_did_not() {
        let folder = tempfile::tempdir().expect("folder");
        let mut store = Store::open(&folder.path().join("s.sqlite")).expect("store");
        let signed = Signed::new(&fixture::plan(), &SecretKey::generate().expect("key"));
        let first = fixture::run(signed.digest());
        let second = fixture::seen(&first);
        let put = |store: &mut Store, run: &Run, before: Option<&Run>| {
            let before = before.map(|run| &run.members);
            store.transact("test", |tx| tx.put_run(run, before))
        };
        let plan = store.transact("test", |tx| tx.put_plan(&signed));
        plan.expect("plan");
        put(&mut store, &first, None).expect("put");
        assert_eq!(
            store.read(|tx| tx.runs()).expect("runs"),
            vec![first.clone()]
        );
        put(&mut store, &second, Some(&first)).expect("put");
        assert_eq!(store.read(|tx| tx.runs()).expect("runs"), [second]);
    }
}
