//! The ledger's entries. The rules are `fedner_privacy::ledger`'s.

use fedner_privacy::ledger::{Entry, Ledger};
use rusqlite::{Connection, params};

use super::{Error, Store};

impl Store {
    /// The verified ledger.
    pub fn ledger(&self) -> Result<Ledger, Error> {
        Ok(Ledger::replay(self.ledger_entries()?)?)
    }

    fn ledger_entries(&self) -> Result<Vec<Entry>, Error> {
        self.query("read ledger", |connection| {
            let mut statement = connection.prepare("SELECT body FROM ledger ORDER BY sequence")?;
            let entries = statement.query_map([], |row| {
                let body: String = row.get(0)?;
                serde_json::from_str(&body).map_err(|error| super::unreadable(Box::new(error)))
            })?;
            entries.collect()
        })
    }
}

pub(super) fn insert(connection: &Connection, entry: &Entry) -> rusqlite::Result<()> {
    let body = fedner_shared::digest::canonical_json(entry);
    let body = String::from_utf8_lossy(&body);
    let sql = "INSERT INTO ledger (sequence, body) VALUES (?1, ?2)";
    connection.execute(sql, params![entry.sequence as i64, body])?;
    Ok(())
}
