//! Institutions, their certificates, and invites.

use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::sign::PublicKey;
use fedner_shared::state::InstitutionState;
use fedner_shared::time::Time;

use super::sql::{Row, values};
use super::{Error, Tx};
use crate::authority::Issued;

/// An institution that has enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Institution {
    pub name: InstitutionId,
    pub state: InstitutionState,
    pub signing_key: PublicKey,
    pub enrolled: Time,
    pub certificate_expires: Time,
}

/// A one-time invite; its secret is kept as a digest only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    pub secret_hash: Digest,
    pub institution: InstitutionId,
    pub expires: Time,
    /// Whether it lets a name come back that is enrolled, or was.
    pub reenrol: bool,
}

/// What became of an attempt to use an invite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InviteUse {
    Accepted {
        institution: InstitutionId,
        reenrol: bool,
    },
    Unknown,
    Expired(Time),
    /// By whom: the digest of the keys that were enrolled with it.
    Used {
        at: Time,
        institution: InstitutionId,
        by: Option<Digest>,
    },
    Voided(Time),
}

const COLUMNS: &str = "name, state, signing_key, enrolled_ms, expires_ms";

impl Tx<'_> {
    pub fn put_invite(&self, invite: &Invite) -> Result<(), Error> {
        let Invite {
            secret_hash,
            institution,
            expires,
            reenrol,
        } = invite;
        let sql = "INSERT INTO invites (secret_hash, institution, expires_ms, reenrol) VALUES (?1, ?2, ?3, ?4)";
        let row = values![
            secret_hash.as_bytes(),
            institution,
            expires.as_millis(),
            *reenrol
        ];
        self.write("put invite", sql, row)
    }

    pub fn put_presence(
        &self,
        institution: &InstitutionId,
        seen: Time,
        software: Option<&str>,
    ) -> Result<(), Error> {
        let sql = "INSERT INTO presence (institution, seen_ms, software) VALUES (?1, ?2, ?3)
                   ON CONFLICT (institution) DO UPDATE
                   SET seen_ms = excluded.seen_ms, software = excluded.software";
        let row = values![institution, seen.as_millis(), software];
        self.write("put presence", sql, row)
    }

    /// When each institution was last heard of, and by what software.
    pub fn presences(&self) -> Result<Vec<(InstitutionId, Time, Option<String>)>, Error> {
        let sql = "SELECT institution, seen_ms, software FROM presence";
        self.list("read presence", sql, values![], |row| {
            Ok((row.parse(0)?, Time::from_millis(row.get(1)?), row.get(2)?))
        })
    }

    /// Uses up the invite with that secret, if it is good.
    pub fn use_invite(&self, now: Time, secret_hash: Digest) -> Result<InviteUse, Error> {
        let sql =
            "SELECT institution, expires_ms, used_ms, reenrol, voided_ms, used_by FROM invites
                   WHERE secret_hash = ?1";
        let key = values![secret_hash.as_bytes()];
        let found = self.first("find invite", sql, key, |row| {
            let (used, voided): (Option<i64>, Option<i64>) = (row.get(2)?, row.get(4)?);
            let institution: InstitutionId = row.parse(0)?;
            if let Some(voided) = voided {
                return Ok(InviteUse::Voided(Time::from_millis(voided)));
            }
            if let Some(used) = used {
                let by: Option<String> = row.get(5)?;
                return Ok(InviteUse::Used {
                    at: Time::from_millis(used),
                    institution,
                    by: by.map(|_| row.parse(5)).transpose()?,
                });
            }
            let expires = Time::from_millis(row.get(1)?);
            if expires <= now {
                return Ok(InviteUse::Expired(expires));
            }
            Ok(InviteUse::Accepted {
                institution,
                reenrol: row.get(3)?,
            })
        })?;
        let found = found.unwrap_or(InviteUse::Unknown);
        if matches!(found, InviteUse::Accepted { .. }) {
            let sql = "UPDATE invites SET used_ms = ?2 WHERE secret_hash = ?1";
            let row = values![secret_hash.as_bytes(), now.as_millis()];
            self.write("use invite", sql, row)?;
        }
        Ok(found)
    }

    /// Notes with which keys an invite was used, so that a lost answer can be given again.
    pub fn note_invite_used_by(&self, secret_hash: Digest, by: Digest) -> Result<(), Error> {
        let sql = "UPDATE invites SET used_by = ?2 WHERE secret_hash = ?1";
        let row = values![secret_hash.as_bytes(), by.to_string()];
        self.write("note invite", sql, row)
    }

    /// The open invites of the name are worth nothing from now on; how many there were.
    pub fn void_invites(&self, now: Time, name: &InstitutionId) -> Result<usize, Error> {
        let sql = "UPDATE invites SET voided_ms = ?2
                   WHERE institution = ?1 AND used_ms IS NULL AND voided_ms IS NULL";
        self.execute("void invites", sql, values![name, now.as_millis()])
    }

    /// Enrols an institution, or enrols it anew: its older certificates are revoked.
    pub fn put_institution(&self, institution: &Institution, issued: &Issued) -> Result<(), Error> {
        let Institution {
            name,
            state,
            signing_key,
            enrolled,
            certificate_expires,
        } = institution;
        let sql = "INSERT INTO institutions (name, state, signing_key, enrolled_ms, expires_ms)
                   VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT (name) DO UPDATE SET state = excluded.state,
                       signing_key = excluded.signing_key, enrolled_ms = excluded.enrolled_ms,
                       expires_ms = excluded.expires_ms";
        let row = values![
            name,
            state.as_str(),
            signing_key.as_bytes(),
            enrolled.as_millis(),
            certificate_expires.as_millis()
        ];
        self.write("put institution", sql, row)?;
        self.revoke_certificates(name)?;
        self.put_certificate(name, issued)
    }

    pub fn put_certificate(&self, name: &InstitutionId, issued: &Issued) -> Result<(), Error> {
        let expires = issued.expires.as_millis();
        let sql = "INSERT INTO certificates (serial, institution, expires_ms, authority)
                   VALUES (?1, ?2, ?3, ?4)";
        let row = values![&issued.serial, name, expires, &issued.authority];
        self.write("put certificate", sql, row)?;
        let sql = "UPDATE institutions SET expires_ms = ?2 WHERE name = ?1";
        self.write("put certificate", sql, values![name, expires])
    }

    pub fn revoke_certificates(&self, name: &InstitutionId) -> Result<(), Error> {
        let sql = "UPDATE certificates SET revoked = 1 WHERE institution = ?1";
        self.write("revoke certificates", sql, values![name])
    }

    /// Whether the certificate is one this coordinator gave out and has not revoked.
    pub fn certificate_stands(&self, name: &InstitutionId, serial: &str) -> Result<bool, Error> {
        let sql = "SELECT revoked FROM certificates WHERE serial = ?1 AND institution = ?2";
        let key = values![serial, name];
        let revoked: Option<bool> = self.first("find certificate", sql, key, |row| row.get(0))?;
        Ok(revoked == Some(false))
    }

    pub fn set_institution_state(
        &self,
        name: &InstitutionId,
        state: InstitutionState,
    ) -> Result<(), Error> {
        let sql = "UPDATE institutions SET state = ?2 WHERE name = ?1";
        let row = values![name, state.as_str()];
        self.write("set institution state", sql, row)
    }

    pub fn institution(&self, name: &InstitutionId) -> Result<Option<Institution>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM institutions WHERE name = ?1");
        self.first("find institution", &sql, values![name], institution)
    }

    pub fn institutions(&self) -> Result<Vec<Institution>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM institutions ORDER BY name");
        self.list("list institutions", &sql, values![], institution)
    }
}

fn institution(row: &Row) -> Result<Institution, Error> {
    let key: [u8; 32] = row.get(2)?;
    Ok(Institution {
        name: row.parse(0)?,
        state: row.parse(1)?,
        signing_key: PublicKey::from_bytes(&key).map_err(super::damaged)?,
        enrolled: Time::from_millis(row.get(3)?),
        certificate_expires: Time::from_millis(row.get(4)?),
    })
}
