//! Invites that nobody has used.

use fedner_shared::id::InstitutionId;
use fedner_shared::time::Time;

use super::sql::values;
use super::{Error, Tx};

/// An invite, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenInvite {
    pub institution: InstitutionId,
    pub expires: Time,
    pub reenrol: bool,
}

impl Tx<'_> {
    /// Those that could be used now, oldest first.
    pub fn open_invites(&self, now: Time) -> Result<Vec<OpenInvite>, Error> {
        let sql = "SELECT institution, expires_ms, reenrol FROM invites
                   WHERE used_ms IS NULL AND voided_ms IS NULL AND expires_ms > ?1 ORDER BY rowid";
        self.list("read invites", sql, values![now.as_millis()], |row| {
            Ok(OpenInvite {
                institution: row.parse(0)?,
                expires: Time::from_millis(row.get(1)?),
                reenrol: row.get(2)?,
            })
        })
    }
}
