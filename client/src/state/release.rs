//! The transactions that make an update, or counts, releasable.

use fedner_privacy::ledger::Entry;
use fedner_session::Session;

use super::receipts::Receipt;
use super::{Error, Store, ledger, notes, receipts, session};

/// Everything that must be durable before the first byte of an update leaves.
#[derive(Debug)]
pub struct PaidRelease<'a> {
    pub entry: &'a Entry,
    pub receipt: &'a Receipt,
    /// The session that uploads.
    pub session: &'a Session,
}

impl Store {
    /// Debit, receipt and session together, on disk before this returns. An entry that does not
    /// continue the ledger is not taken: its sequence number is used already.
    pub fn commit_release(&self, release: &PaidRelease<'_>) -> Result<(), Error> {
        self.transaction("release update", |transaction| {
            ledger::insert(transaction, release.entry)?;
            receipts::insert(transaction, release.receipt)?;
            notes::put(transaction, session::SESSION, release.session)
        })
    }

    /// The receipt of counts, with the debit that paid for them where they have noise.
    pub fn commit_counts(&self, entry: Option<&Entry>, receipt: &Receipt) -> Result<(), Error> {
        self.transaction("release counts", |transaction| {
            if let Some(entry) = entry {
                ledger::insert(transaction, entry)?;
            }
            receipts::insert(transaction, receipt)
        })
    }
}
