//! The transactions that pay for an attempt, and that make its result releasable.

use fedner_privacy::ledger::Entry;
use fedner_session::Session;
use fedner_shared::digest::Digest;
use rusqlite::{Connection, params};

use super::receipts::Receipt;
use super::secure::SecureAttempt;
use super::{Error, Store, ledger, receipts, secure, session, values};

/// Everything that must be durable before the first byte of an update leaves.
#[derive(Debug)]
pub struct PaidRelease<'a> {
    /// The debit that pays for it.
    pub entry: Digest,
    pub receipt: &'a Receipt,
    /// The session that uploads.
    pub session: &'a Session,
    /// The attempt under whose masks it is; they are used up.
    pub secure: Option<&'a SecureAttempt>,
}

impl Store {
    /// The debit of an attempt, where there is one to make, and the session that may read private
    /// text: on disk before this returns, with the ledger's head in its second place. An entry that does not continue the ledger is not taken:
    /// its sequence number is used already.
    pub fn commit_charge(&self, entry: Option<&Entry>, session: &Session) -> Result<(), Error> {
        self.transaction("charge attempt", |transaction| {
            if let Some(entry) = entry {
                ledger::insert(transaction, entry)?;
            }
            values::put(transaction, session::SESSION, session)
        })?;
        self.keep_heads()
    }

    /// Receipt and session together, on disk before this returns. A debit pays once.
    pub fn commit_release(&self, release: &PaidRelease<'_>) -> Result<(), Error> {
        self.transaction("release update", |transaction| {
            refuse_used(transaction, &release.entry)?;
            receipts::insert(transaction, release.receipt)?;
            if let Some(attempt) = release.secure {
                secure::put(transaction, attempt)?;
            }
            values::put(transaction, session::SESSION, release.session)
        })
    }

    /// The receipt of counts, with the session that submits them. A debit pays once.
    pub fn commit_counts(
        &self,
        entry: Option<Digest>,
        receipt: &Receipt,
        session: &Session,
    ) -> Result<(), Error> {
        self.transaction("release counts", |transaction| {
            if let Some(entry) = &entry {
                refuse_used(transaction, entry)?;
            }
            receipts::insert(transaction, receipt)?;
            values::put(transaction, session::SESSION, session)
        })
    }

    /// Whether a release was paid for with this debit.
    pub fn is_used(&self, entry: &Digest) -> Result<bool, Error> {
        self.query("look for the release of a debit", |connection| {
            is_used(connection, entry)
        })
    }
}

fn is_used(connection: &Connection, entry: &Digest) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM receipts WHERE ?1 IN
         (json_extract(body, '$.ledger_head'), json_extract(body, '$.noise.ledger_head')))";
    connection.query_row(sql, params![entry.to_string()], |row| row.get(0))
}

fn refuse_used(connection: &Connection, entry: &Digest) -> rusqlite::Result<()> {
    if is_used(connection, entry)? {
        let message = format!("the debit {entry} has paid for another release");
        return Err(super::unreadable(message.into()));
    }
    Ok(())
}
