//! Plans that this institution has been shown, each verified before it was stored.

use fedner_shared::digest::Digest;
use fedner_shared::id::RunId;
use fedner_shared::plan::Plan;
use fedner_shared::secure::Signers;
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
    /// Bytes that a training takes at most, about; 0 where the coordinator did not say.
    pub memory: u64,
    /// Where updates are masked: who may take part, by whose signing key.
    pub roster: Signers,
    pub proposed: Time,
}

impl PlanRecord {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let signed = signed_of(row)?;
        let unreadable = |error: &str| super::unreadable(error.to_owned().into());
        let (run, roster): (String, String) = (row.get("run")?, row.get("roster")?);
        Ok(Self {
            digest: digest_of(row, "digest")?,
            run: run.parse().map_err(|_| unreadable(&run))?,
            plan: signed.peek().map_err(|e| unreadable(&e.to_string()))?,
            signed,
            dimension: row.get::<_, i64>("dimension")?.unsigned_abs(),
            memory: row.get::<_, i64>("memory")?.unsigned_abs(),
            roster: serde_json::from_str(&roster).map_err(|e| super::unreadable(Box::new(e)))?,
            proposed: Time::from_millis(row.get("proposed_ms")?),
        })
    }
}

impl Store {
    /// Stores a verified plan; one that is known stays as it is.
    pub fn add_plan(&self, record: &PlanRecord) -> Result<(), Error> {
        let roster = serde_json::to_string(&record.roster)
            .map_err(|error| Error::Content(error.to_string()))?;
        self.transaction("add plan", |transaction| {
            transaction.execute(
                "INSERT INTO plans (digest, run, body, signature, dimension, memory, proposed_ms, roster)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (digest) DO NOTHING",
                params![
                    record.digest.to_string(),
                    record.run.as_str(),
                    record.signed.body,
                    record.signed.signature.as_bytes(),
                    record.dimension as i64,
                    i64::try_from(record.memory).unwrap_or(i64::MAX),
                    record.proposed.as_millis(),
                    roster,
                ],
            )?;
            Ok(())
        })
    }

    /// Forgets the oldest plans that nobody has decided on, so that `most` of them are left; how many there are then.
    /// The coordinator shows those again whose runs are open.
    pub fn forget_undecided(&self, most: usize) -> Result<usize, Error> {
        self.transaction("forget plans", |transaction| {
            let undecided = "FROM plans AS undecided
                 WHERE NOT EXISTS (SELECT 1 FROM consents WHERE plan = undecided.digest)
                 AND NOT EXISTS (SELECT 1 FROM receipts WHERE plan = undecided.digest)";
            let found: i64 =
                transaction.query_row(&format!("SELECT count(*) {undecided}"), [], |row| {
                    row.get(0)
                })?;
            let found = usize::try_from(found).unwrap_or(usize::MAX);
            if found <= most {
                return Ok(found);
            }
            let forgotten = transaction.execute(
                &format!(
                    "DELETE FROM plans WHERE digest IN (SELECT digest {undecided}
                     ORDER BY proposed_ms DESC, digest LIMIT -1 OFFSET ?1)"
                ),
                [most as i64],
            )?;
            Ok(found - forgotten)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fedner_shared::sign::SecretKey;

    use super::*;
    use crate::config::policy::tests::plan;
    use crate::state::tests::Place;

    #[test]
    fn of_plans_that_nobody_decides_on_the_newest_are_kept_and_decided_ones_all() {
        let place = Place::new();
        let store = place.open();
        let key = SecretKey::from_seed([1; 32]);
        let mut digests = Vec::new();
        for number in 0..20 {
            let mut plan = plan("none");
            plan.seed = number;
            let record = PlanRecord {
                digest: plan.digest(),
                run: "run-1".parse().expect("name"),
                signed: Signed::new(&plan, &key),
                plan,
                dimension: 1,
                memory: 0,
                roster: Signers::new(),
                proposed: Time::from_millis(number as i64),
            };
            store.add_plan(&record).expect("kept");
            digests.push(record.digest);
        }
        place.decide_on(&digests[3]);
        assert_eq!(store.forget_undecided(19).expect("enough room"), 19);
        assert_eq!(store.forget_undecided(5).expect("forgotten"), 5);
        let left: BTreeSet<Digest> = store
            .plans()
            .expect("read")
            .iter()
            .map(|plan| plan.digest)
            .collect();
        let expected = digests[15..].iter().chain([&digests[3]]);
        assert_eq!(left, expected.copied().collect());
    }
}
