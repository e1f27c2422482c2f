//! The heads of institutions' ledgers, as their receipts named them.

use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;

use super::sql::values;
use super::{Error, Tx};

/// So many of an institution are kept, the newest.
const KEPT: u32 = 16;

impl Tx<'_> {
    /// Keeps a head that came now, and forgets the oldest.
    pub fn put_ledger_head(&self, institution: &InstitutionId, head: Digest) -> Result<(), Error> {
        let name = "put ledger head";
        let sql = "INSERT INTO ledger_heads (institution, head) VALUES (?1, ?2)
                   ON CONFLICT (institution, head) DO NOTHING";
        self.write(name, sql, values![institution, head.to_string()])?;
        let sql = "DELETE FROM ledger_heads WHERE institution = ?1 AND rowid NOT IN
                   (SELECT rowid FROM ledger_heads WHERE institution = ?1 ORDER BY rowid DESC LIMIT ?2)";
        self.write(name, sql, values![institution, KEPT])
    }

    /// In the order in which they came, the newest first.
    pub fn ledger_heads(&self, institution: &InstitutionId) -> Result<Vec<Digest>, Error> {
        let sql = "SELECT head FROM ledger_heads WHERE institution = ?1 ORDER BY rowid DESC";
        self.list("list ledger heads", sql, values![institution], |row| {
            row.parse(0)
        })
    }
}
