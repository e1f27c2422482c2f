//! Runs, their plans, and the outbox.

use fedner_round::{Effect, Member, Members, Run};
use fedner_shared::digest::Digest;
use fedner_shared::id::{InstitutionId, RunId};
use fedner_shared::sign::Signed;

use super::sql::values;
use super::{Error, Tx, damaged};

/// An effect that has not been carried out yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    pub run: RunId,
    pub effect: Effect,
}

impl Tx<'_> {
    pub fn put_plan(&self, signed: &Signed) -> Result<(), Error> {
        let json = serde_json::to_string(signed).map_err(damaged)?;
        let sql = "INSERT INTO plans (digest, signed) VALUES (?1, ?2)";
        let row = values![signed.digest().to_string(), json];
        self.write("put plan", sql, row)
    }

    pub fn plan(&self, digest: Digest) -> Result<Option<Signed>, Error> {
        let sql = "SELECT signed FROM plans WHERE digest = ?1";
        self.first("find plan", sql, values![digest.to_string()], |row| {
            row.json(0)
        })
    }

    /// Writes the run's newest state, with those of its members that are not as they were before.
    pub fn put_run(&self, run: &Run, before: Option<&Members>) -> Result<(), Error> {
        let alone = Run {
            members: Members::default(),
            ..run.clone()
        };
        let snapshot = serde_json::to_string(&alone).map_err(damaged)?;
        let sql = "INSERT INTO runs (id, number, plan, snapshot)
                   VALUES (?1, (SELECT coalesce(max(number), 0) + 1 FROM runs), ?2, ?3)
                   ON CONFLICT (id) DO UPDATE SET snapshot = excluded.snapshot";
        let row = values![run.id.as_str(), run.plan_digest.to_string(), snapshot];
        self.write("put run", sql, row)?;
        let none = Members::default();
        for (name, member) in run.members.changed_since(before.unwrap_or(&none)) {
            self.put_member(&run.id, name, member)?;
        }
        Ok(())
    }

    fn put_member(&self, run: &RunId, name: &InstitutionId, member: &Member) -> Result<(), Error> {
        let json = serde_json::to_string(member).map_err(damaged)?;
        let sql = "INSERT INTO members (run, institution, member) VALUES (?1, ?2, ?3)
                   ON CONFLICT (run, institution) DO UPDATE SET member = excluded.member";
        let row = values![run.as_str(), name, json];
        self.write("put member", sql, row)
    }

    /// All runs, oldest first.
    pub fn runs(&self) -> Result<Vec<Run>, Error> {
        let sql = "SELECT snapshot FROM runs ORDER BY number";
        let mut runs: Vec<Run> = self.list("list runs", sql, values![], |row| row.json(0))?;
        for run in &mut runs {
            run.members = self.members(&run.id)?;
        }
        Ok(runs)
    }

    fn members(&self, run: &RunId) -> Result<Members, Error> {
        let sql = "SELECT institution, member FROM members WHERE run = ?1";
        let found = self.list("list members", sql, values![run.as_str()], |row| {
            Ok((row.parse(0)?, row.json(1)?))
        })?;
        Ok(found.into_iter().collect())
    }

    pub fn put_effect(&self, run: &RunId, effect: &Effect) -> Result<(), Error> {
        let json = serde_json::to_string(effect).map_err(damaged)?;
        let sql = "INSERT INTO outbox (run, round, sequence, effect) VALUES (?1, ?2, ?3, ?4)";
        let row = values![run.as_str(), effect.round, effect.sequence as i64, json];
        self.write("put effect", sql, row)
    }

    /// The effect has been carried out.
    pub fn remove_effect(&self, run: &RunId, effect: &Effect) -> Result<(), Error> {
        let sql = "DELETE FROM outbox WHERE run = ?1 AND round = ?2 AND sequence = ?3";
        let key = values![run.as_str(), effect.round, effect.sequence as i64];
        self.write("remove effect", sql, key)
    }

    pub fn outbox(&self) -> Result<Vec<Pending>, Error> {
        let sql = "SELECT run, effect FROM outbox ORDER BY run, round, sequence";
        self.list("list outbox", sql, values![], |row| {
            Ok(Pending {
                run: row.parse(0)?,
                effect: row.json(1)?,
            })
        })
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
