//! The audit chain: every event with the digest of the one before.

use fedner_shared::digest::Digest;
use fedner_shared::event::{Entry, Event};
use fedner_shared::id::RunId;
use fedner_shared::time::Time;
use rusqlite::{OptionalExtension, params};

use super::{Error, Tx, damaged, named};

/// What the first entry names as its predecessor.
const GENESIS: Digest = Digest::from_bytes([0; 32]);

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
