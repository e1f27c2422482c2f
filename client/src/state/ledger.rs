//! The ledger's entries. The rules are `fedner_privacy::ledger`'s.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use fedner_privacy::ledger::{Entry, Ledger};
use fedner_shared::digest::{Digest, canonical_text};
use fedner_shared::time::Time;
use rusqlite::{Connection, params};

use super::{Error, Store, values};

const RECOVERED: &str = "recovered";

/// The ledger as this process has verified it: of many entries that takes a while.
#[derive(Debug, Default)]
pub(super) struct Verified {
    ledger: Ledger,
    /// After so many changes by other processes; `None` before the first look.
    seen: Option<i64>,
}

impl Store {
    /// The verified ledger. Entries that this process has verified are read anew only where another one has changed the
    /// database since.
    pub fn ledger(&self) -> Result<Ledger, Error> {
        let mut known = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = Some(self.outside_changes()?);
        if known.seen != seen {
            *known = Verified {
                ledger: Ledger::replay(self.entries_after(0)?)?,
                seen,
            };
        }
        for entry in self.entries_after(known.ledger.entries().len())? {
            known.ledger.append(entry)?;
        }
        Ok(known.ledger.clone())
    }

    /// Writes the heads that the second place lacks to it. Refuses a ledger that lacks what stands there.
    pub fn keep_heads(&self) -> Result<(), Error> {
        match &self.heads {
            Some(heads) => Ok(heads.keep(&self.ledger()?)?),
            None => Ok(()),
        }
    }

    /// The coordinator has what the receipt is about: marks it, and confirms its debit, together.
    pub fn mark_taken(&self, receipt: &Digest, now: Time) -> Result<(), Error> {
        let debited = self.debit_of(receipt)?;
        let ledger = self.ledger()?;
        let confirmed = debited.and_then(|debited| ledger.confirm(now, &debited));
        self.transaction("mark taken", |transaction| {
            if let Some(entry) = &confirmed {
                insert(transaction, entry)?;
            }
            let sql = "UPDATE receipts SET taken_ms = ?2 WHERE digest = ?1";
            transaction.execute(sql, params![receipt.to_string(), now.as_millis()])?;
            Ok(())
        })?;
        self.keep_heads()
    }

    /// Adds what a lost ledger must have held, and keeps the names that its entries had, all in one.
    pub fn recover(&self, entries: &[Entry], heads: &BTreeSet<Digest>) -> Result<(), Error> {
        let mut known = self.recovered()?;
        known.extend(heads);
        self.transaction("recover ledger", |transaction| {
            for entry in entries {
                insert(transaction, entry)?;
            }
            values::put(transaction, RECOVERED, &known)
        })
    }

    /// Entries of a lost ledger that are accounted for by others.
    pub fn recovered(&self) -> Result<BTreeSet<Digest>, Error> {
        self.value(RECOVERED)
    }

    /// The ledger entry that a receipt names: the debit that paid for what left.
    fn debit_of(&self, receipt: &Digest) -> Result<Option<Digest>, Error> {
        let receipt = self.receipt(receipt)?;
        Ok(receipt.and_then(|receipt| receipt.paid_by()))
    }

    /// All but the first `count` entries.
    fn entries_after(&self, count: usize) -> Result<Vec<Entry>, Error> {
        self.query("read ledger", |connection| {
            let sql = "SELECT body FROM ledger WHERE sequence > ?1 ORDER BY sequence";
            let mut statement = connection.prepare_cached(sql)?;
            let entries = statement.query_map([count as i64], |row| {
                let body: String = row.get(0)?;
                serde_json::from_str(&body).map_err(|error| super::unreadable(Box::new(error)))
            })?;
            entries.collect()
        })
    }
}

pub(super) fn insert(connection: &Connection, entry: &Entry) -> rusqlite::Result<()> {
    let body = canonical_text(entry);
    let sql = "INSERT INTO ledger (sequence, body) VALUES (?1, ?2)";
    connection.execute(sql, params![entry.sequence as i64, body])?;
    Ok(())
}
