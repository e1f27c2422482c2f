//! The heads of institutions' ledgers, as their receipts named them.

use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use rusqlite::params;

use super::{Error, Tx, damaged, named};

/// So many of an institution are kept, the newest.
const KEPT: u32 = 16;

impl Tx<'_> {
    /// Keeps a head that came now, and forgets the oldest.
    pub fn put_ledger_head(&self, institution: &InstitutionId, head: Digest) -> Result<(), Error> {
        let failed = named("put ledger head");
        let sql = "INSERT INTO ledger_heads (institution, head) VALUES (?1, ?2)
                   ON CONFLICT (institution, head) DO NOTHING";
        let row = params![institution.as_str(), head.to_string()];
        self.0.execute(sql, row).map_err(&failed)?;
        let sql = "DELETE FROM ledger_heads WHERE institution = ?1 AND rowid NOT IN
                   (SELECT rowid FROM ledger_heads WHERE institution = ?1 ORDER BY rowid DESC LIMIT ?2)";
        let row = params![institution.as_str(), KEPT];
        self.0.execute(sql, row).map_err(&failed)?;
        Ok(())
    }

    /// In the order in which they came, the newest first.
    pub fn ledger_heads(&self, institution: &InstitutionId) -> Result<Vec<Digest>, Error> {
        let failed = named("list ledger heads");
        let sql = "SELECT head FROM ledger_heads WHERE institution = ?1 ORDER BY rowid DESC";
        let mut statement = self.0.prepare(sql).map_err(&failed)?;
        let rows = statement
            .query_map([institution.as_str()], |row| row.get::<_, String>(0))
            .map_err(&failed)?;
        rows.map(|row| row.map_err(&failed)?.parse().map_err(damaged))
            .collect()
    }
}
