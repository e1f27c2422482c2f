//! The audit chain: every event with the digest of the one before.

use fedner_shared::digest::Digest;
use fedner_shared::event::{Entry, Event};
use fedner_shared::id::{InstitutionId, RunId};
use fedner_shared::sign::{PublicKey, Signed};
use fedner_shared::time::Time;

use super::sql::values;
use super::{Error, Tx, damaged};

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
        let sql = "SELECT sequence, digest FROM events ORDER BY sequence DESC LIMIT 1";
        let last = self.first("find last event", sql, values![], |row| {
            Ok((row.get::<i64>(0)? as u64 + 1, row.parse(1)?))
        })?;
        let (sequence, previous) = last.unwrap_or((1, GENESIS));
        let entry = Entry {
            sequence,
            time: now,
            previous,
            run: run.cloned(),
            event,
        };
        let json = serde_json::to_string(&entry).map_err(damaged)?;
        let sql = "INSERT INTO events (sequence, run, digest, entry) VALUES (?1, ?2, ?3, ?4)";
        let row = values![
            sequence as i64,
            run.map(RunId::as_str),
            entry.digest().to_string(),
            json
        ];
        self.write("append event", sql, row)?;
        Ok(entry)
    }

    /// Up to `limit` entries from sequence number `from` on, of one run or of all.
    pub fn events(
        &self,
        run: Option<&RunId>,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        let sql = "SELECT sequence, entry FROM events
                   WHERE sequence >= ?1 AND (CAST(?2 AS TEXT) IS NULL OR run = ?2)
                   ORDER BY sequence LIMIT ?3";
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        let key = values![from, run.map(RunId::as_str), limit as i64];
        self.list("list events", sql, key, |row| {
            // Whoever reads in pages goes on after the last number, which must be that of the row.
            let (number, entry) = (row.get::<i64>(0)?, row.json::<Entry>(1)?);
            if i64::try_from(entry.sequence) != Ok(number) {
                let said = format!("event {number} calls itself {}", entry.sequence);
                return Err(Error::Damaged(said));
            }
            Ok(entry)
        })
    }

    /// The sequence number of the newest entry; 0 before the first.
    pub fn last_sequence(&self) -> Result<u64, Error> {
        let sql = "SELECT coalesce(max(sequence), 0) FROM events";
        let last: i64 = self.one("find last event", sql, values![])?;
        Ok(last as u64)
    }

    /// The digests of the entries from sequence number `from` on, as they are stored.
    pub fn entry_digests(&self, from: u64) -> Result<Vec<Digest>, Error> {
        let sql = "SELECT digest FROM events WHERE sequence >= ?1 ORDER BY sequence";
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        self.list("list digests of events", sql, values![from], |row| {
            row.parse(0)
        })
    }

    /// Keeps the history that an institution has countersigned; never a shorter one.
    pub fn put_history_seen(&self, seen: &HistorySeen) -> Result<(), Error> {
        let json = serde_json::to_string(&seen.signed).map_err(damaged)?;
        let sql = "INSERT INTO histories_seen (institution, size, author_key, signed) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT (institution) DO UPDATE
                   SET size = excluded.size, author_key = excluded.author_key, signed = excluded.signed
                   WHERE excluded.size >= histories_seen.size";
        let row = values![
            &seen.institution,
            seen.size as i64,
            seen.key.as_bytes(),
            json
        ];
        self.write("put history seen", sql, row)
    }

    pub fn histories_seen(&self) -> Result<Vec<HistorySeen>, Error> {
        let sql =
            "SELECT institution, size, author_key, signed FROM histories_seen ORDER BY institution";
        self.list("list histories seen", sql, values![], |row| {
            let key: [u8; 32] = row.get(2)?;
            Ok(HistorySeen {
                institution: row.parse(0)?,
                size: row.get::<i64>(1)? as u64,
                key: PublicKey::from_bytes(&key).map_err(damaged)?,
                signed: row.json(3)?,
            })
        })
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
                let sql = "SELECT digest FROM events WHERE sequence = ?1";
                let stored: String = self.one("find event", sql, values![next as i64])?;
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
            store.damage(damage);
            assert!(store.read(|tx| tx.verify_chain()).is_err(), "{damage}");
        }
    }

    #[test]
    fn a_row_that_stands_under_another_number_is_not_read_again_and_again() {
        let (_folder, mut store) = chain();
        // Whoever goes on after what the last one calls itself would read it for ever.
        store.damage(
            "INSERT INTO events SELECT 9, run, digest, entry FROM events WHERE sequence = 2",
        );
        let read = store.read(|tx| tx.events(None, 6, 10));
        assert!(matches!(read, Err(Error::Damaged(_))), "{read:?}");
        assert_eq!(
            store.read(|tx| tx.events(None, 1, 5)).expect("whole").len(),
            5
        );
    }
}
