//! Invites that nobody has used.

use fedner_shared::id::InstitutionId;
use fedner_shared::time::Time;

use super::{Error, Tx, damaged, named};

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
        let mut statement = self.0.prepare(sql).map_err(named("read invites"))?;
        let rows = statement
            .query_map([now.as_millis()], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    Time::from_millis(row.get(1)?),
                    row.get(2)?,
                ))
            })
            .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
            .map_err(named("read invites"))?;
        let read = |(institution, expires, reenrol): (String, Time, bool)| {
            Ok(OpenInvite {
                institution: institution.parse().map_err(damaged)?,
                expires,
                reenrol,
            })
        };
        rows.into_iter().map(read).collect()
    }
}
