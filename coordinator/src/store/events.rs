//! The audit chain: every event with the digest of the one before.

use fedner_shared::digest::Digest;
use fedner_shared::event::{Entry, Event};
use fedner_shared::id::{InstitutionId, RunId};
use fedner_shared::sign::{PublicKey, Signed};
use fedner_shared::time::Time;
use rusqlite::{OptionalExtension, params};

use super::{Error, Tx, damaged, named};

/// What the first entry names as its predecessor.
const GENESIS: Digest = Digest::from_bytes([0; 32]);

/// A history of events that an institution has countersigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistorySeen {
    pub institution: InstitutionId,
    pub size: u64,
    pub key: PublicKey,
    pub signed: Signed,
}

impl Tx<'_> {
    /// Adds an event to the chain.
    pub fn append_event(
        &self,
        now: Time,
        run: Option<&RunId>,
        event: Event,
    ) -> Result<Entry, Error> {
        let last: Option<(i64, String)> = self
            .0
            .query_row(
                "SELECT sequence, digest FROM events ORDER BY sequence DESC LIMIT 1",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()
            .map_err(named("find last event"))?;
        let (sequence, previous) = match last {
            Some((sequence, digest)) => (sequence as u64 + 1, digest.parse().map_err(damaged)?),
            None => (1, GENESIS),
        };
        let entry = Entry {
            sequence,
            time: now,
            previous,
            run: run.cloned(),
            event,
        };
        let json = serde_json::to_string(&entry).map_err(damaged)?;
        self.0
            .execute(
                "INSERT INTO events (sequence, run, digest, entry) VALUES (?1, ?2, ?3, ?4)",
                params![
                    sequence as i64,
                    run.map(RunId::as_str),
                    entry.digest().to_string(),
                    json
                ],
            )
            .map_err(named("append event"))?;
        Ok(entry)
    }

    /// Up to `limit` entries from sequence number `from` on, of one run or of all.
    pub fn events(
        &self,
        run: Option<&RunId>,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        let failed = named("list events");
        let sql = "SELECT entry FROM events WHERE sequence >= ?1 AND (?2 IS NULL OR run = ?2)
                   ORDER BY sequence LIMIT ?3";
        let mut statement = self.0.prepare_cached(sql).map_err(&failed)?;
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        let rows = statement
            .query_map(params![from, run.map(RunId::as_str), limit as i64], |row| {
                row.get::<_, String>(0)
            })
            .map_err(&failed)?;
        rows.map(|row| serde_json::from_str(&row.map_err(&failed)?).map_err(damaged))
            .collect()
    }

    /// The sequence number of the newest entry; 0 before the first.
    pub fn last_sequence(&self) -> Result<u64, Error> {
        let last: i64 = self
            .0
            .query_row("SELECT coalesce(max(sequence), 0) FROM events", [], |row| {
                row.get(0)
            })
            .map_err(named("find last event"))?;
        Ok(last as u64)
    }

    /// The digests of the entries from sequence number `from` on, as they are stored.
    pub fn entry_digests(&self, from: u64) -> Result<Vec<Digest>, Error> {
        let failed = named("list digests of events");
        let sql = "SELECT digest FROM events WHERE sequence >= ?1 ORDER BY sequence";
        let mut statement = self.0.prepare_cached(sql).map_err(&failed)?;
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        let rows = statement
            .query_map([from], |row| row.get::<_, String>(0))
            .map_err(&failed)?;
        rows.map(|row| row.map_err(&failed)?.parse().map_err(damaged))
            .collect()
    }

    /// Keeps the history that an institution has countersigned; never a shorter one.
    pub fn put_history_seen(&self, seen: &HistorySeen) -> Result<(), Error> {
        let json = serde_json::to_string(&seen.signed).map_err(damaged)?;
        self.0
            .execute(
                "INSERT INTO histories_seen (institution, size, author_key, signed) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (institution) DO UPDATE
                 SET size = excluded.size, author_key = excluded.author_key, signed = excluded.signed
                 WHERE excluded.size >= size",
                params![
                    seen.institution.as_str(),
                    seen.size as i64,
                    seen.key.as_bytes(),
                    json
                ],
            )
            .map_err(named("put history seen"))?;
        Ok(())
    }

    pub fn histories_seen(&self) -> Result<Vec<HistorySeen>, Error> {
        let failed = named("list histories seen");
        let sql =
            "SELECT institution, size, author_key, signed FROM histories_seen ORDER BY institution";
        let mut statement = self.0.prepare(sql).map_err(&failed)?;
        let rows = statement
            .query_map([], |row| {
                let key: [u8; 32] = row.get(2)?;
                let (name, signed): (String, String) = (row.get(0)?, row.get(3)?);
                Ok((name, row.get::<_, i64>(1)?, key, signed))
            })
            .map_err(&failed)?;
        rows.map(|row| {
            let (name, size, key, signed) = row.map_err(&failed)?;
            Ok(HistorySeen {
                institution: name.parse().map_err(damaged)?,
                size: size as u64,
                key: PublicKey::from_bytes(&key).map_err(damaged)?,
                signed: serde_json::from_str(&signed).map_err(damaged)?,
            })
        })
        .collect()
    }

    /// Walks the whole chain; returns its length, or says where it breaks.
    pub fn verify_chain(&self) -> Result<u64, Error> {
        let (mut next, mut previous) = (1, GENESIS);
        loop {
            let page = self.events(None, next, 1000)?;
            if page.is_empty() {
                return if self.last_sequence()? + 1 == next {
                    Ok(next - 1)
                } else {
                    Err(damaged(format!("event {next} is missing")))
                };
            }
            for entry in page {
                if entry.sequence != next {
                    return Err(damaged(format!(
                        "event {next} is missing: found {}",
                        entry.sequence
                    )));
                }
                if entry.previous != previous {
                    return Err(damaged(format!(
                        "event {next} does not follow the one before it"
                    )));
                }
                let stored: String = self
                    .0
                    .query_row(
                        "SELECT digest FROM events WHERE sequence = ?1",
                        [next as i64],
                        |row| row.get(0),
                    )
                    .map_err(named("find event"))?;
                previous = entry.digest();
                if stored != previous.to_string() {
                    return Err(damaged(format!("event {next} was changed")));
                }
                next += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn chain() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("folder");
        let mut store = Store::open(&folder.path().join("s.sqlite")).expect("store");
        store
            .transact("test", |tx| {
                for number in 0..5 {
                    tx.append_event(Time::from_millis(number), None, Event::RunStarted)?;
                }
                Ok::<_, Error>(())
            })
            .expect("append");
        (folder, store)
    }

    #[test]
    fn edits_removals_and_reordering_break_the_chain() {
        let (_folder, mut store) = chain();
        assert_eq!(store.read(|tx| tx.verify_chain()).expect("whole"), 5);
        for damage in [
            "UPDATE events SET entry = replace(entry, '\"time\":2', '\"time\":9') WHERE sequence = 3",
            "DELETE FROM events WHERE sequence = 3",
            "DELETE FROM events WHERE sequence = 1",
            "UPDATE events SET sequence = CASE sequence WHEN 2 THEN -3 WHEN 3 THEN -2 END WHERE sequence IN (2, 3);
             UPDATE events SET sequence = -sequence WHERE sequence < 0",
        ] {
            let (_folder, mut store) = chain();
            store.connection.execute_batch(damage).expect("damage");
            assert!(store.read(|tx| tx.verify_chain()).is_err(), "{damage}");
        }
    }
}
