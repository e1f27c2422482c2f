//! The keys that processes of one federation share, sealed. The database never has what opens them.

use super::sql::values;
use super::{Error, Tx};

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    /// Rises with each change.
    pub generation: i64,
    pub sealed: Vec<u8>,
}

impl Tx<'_> {
    pub fn keyring(&self) -> Result<Option<Keyring>, Error> {
        let sql = "SELECT generation, sealed FROM keyring";
        self.first("keyring", sql, values![], |row| {
            Ok(Keyring {
                generation: row.get(0)?,
                sealed: row.get(1)?,
            })
        })
    }

    pub fn put_keyring(&self, keyring: &Keyring) -> Result<(), Error> {
        self.write("put keyring", "DELETE FROM keyring", values![])?;
        let sql = "INSERT INTO keyring (generation, sealed) VALUES (?1, ?2)";
        let values = values![keyring.generation, keyring.sealed.as_slice()];
        self.write("put keyring", sql, values)
    }
}
