//! Institutions, their certificates, and invites.

use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::sign::PublicKey;
use fedner_shared::state::InstitutionState;
use fedner_shared::time::Time;
use rusqlite::{OptionalExtension, Row, params};

use super::{Error, Tx, damaged, named};
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
        self.0
            .execute(
                "INSERT INTO invites (secret_hash, institution, expires_ms, reenrol) VALUES (?1, ?2, ?3, ?4)",
                params![
                    secret_hash.as_bytes(),
                    institution.as_str(),
                    expires.as_millis(),
                    reenrol
                ],
            )
            .map_err(named("put invite"))?;
        Ok(())
    }

    pub fn put_presence(
        &self,
        institution: &InstitutionId,
        seen: Time,
        software: Option<&str>,
    ) -> Result<(), Error> {
        self.0
            .execute(
                "INSERT INTO presence (institution, seen_ms, software) VALUES (?1, ?2, ?3)
                 ON CONFLICT (institution) DO UPDATE
                 SET seen_ms = excluded.seen_ms, software = excluded.software",
                params![institution.as_str(), seen.as_millis(), software],
            )
            .map_err(named("put presence"))?;
        Ok(())
    }

    /// When each institution was last heard of, and by what software.
    pub fn presences(&self) -> Result<Vec<(InstitutionId, Time, Option<String>)>, Error> {
        let sql = "SELECT institution, seen_ms, software FROM presence";
        let mut statement = self.0.prepare(sql).map_err(named("read presence"))?;
        let rows = statement
            .query_map([], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    Time::from_millis(row.get(1)?),
                    row.get(2)?,
                ))
            })
            .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
            .map_err(named("read presence"))?;
        let read = |(name, at, software): (String, Time, Option<String>)| {
            Ok((name.parse().map_err(damaged)?, at, software))
        };
        rows.into_iter().map(read).collect()
    }

    /// Uses up the invite with that secret, if it is good.
    pub fn use_invite(&self, now: Time, secret_hash: Digest) -> Result<InviteUse, Error> {
        let found: Option<RawInvite> = self
            .0
            .query_row(
                "SELECT institution, expires_ms, used_ms, reenrol, voided_ms, used_by FROM invites
                 WHERE secret_hash = ?1",
                [secret_hash.as_bytes()],
                |row| {
                    Ok((
                        row.get(0)?,
                        row.get(1)?,
                        row.get(2)?,
                        row.get(3)?,
                        row.get(4)?,
                        row.get(5)?,
                    ))
                },
            )
            .optional()
            .map_err(named("find invite"))?;
        let Some((institution, expires, used, reenrol, voided, by)) = found else {
            return Ok(InviteUse::Unknown);
        };
        if let Some(voided) = voided {
            return Ok(InviteUse::Voided(Time::from_millis(voided)));
        }
        if let Some(used) = used {
            let by = by.map(|by| by.parse().map_err(damaged)).transpose()?;
            return Ok(InviteUse::Used {
                at: Time::from_millis(used),
                institution: institution.parse().map_err(damaged)?,
                by,
            });
        }
        let expires = Time::from_millis(expires);
        if expires <= now {
            return Ok(InviteUse::Expired(expires));
        }
        self.0
            .execute(
                "UPDATE invites SET used_ms = ?2 WHERE secret_hash = ?1",
                params![secret_hash.as_bytes(), now.as_millis()],
            )
            .map_err(named("use invite"))?;
        Ok(InviteUse::Accepted {
            institution: institution.parse().map_err(damaged)?,
            reenrol,
        })
    }

    /// Notes with which keys an invite was used, so that a lost answer can be given again.
    pub fn note_invite_used_by(&self, secret_hash: Digest, by: Digest) -> Result<(), Error> {
        self.0
            .execute(
                "UPDATE invites SET used_by = ?2 WHERE secret_hash = ?1",
                params![secret_hash.as_bytes(), by.to_string()],
            )
            .map_err(named("note invite"))?;
        Ok(())
    }

    /// The open invites of the name are worth nothing from now on; how many there were.
    pub fn void_invites(&self, now: Time, name: &InstitutionId) -> Result<usize, Error> {
        self.0
            .execute(
                "UPDATE invites SET voided_ms = ?2
                 WHERE institution = ?1 AND used_ms IS NULL AND voided_ms IS NULL",
                params![name.as_str(), now.as_millis()],
            )
            .map_err(named("void invites"))
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
        self.0
            .execute(
                "INSERT INTO institutions (name, state, signing_key, enrolled_ms, expires_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (name) DO UPDATE SET state = ?2, signing_key = ?3, enrolled_ms = ?4, expires_ms = ?5",
                params![
                    name.as_str(),
                    state.as_str(),
                    signing_key.as_bytes(),
                    enrolled.as_millis(),
                    certificate_expires.as_millis()
                ],
            )
            .map_err(named("put institution"))?;
        self.revoke_certificates(name)?;
        self.put_certificate(name, issued)
    }

    pub fn put_certificate(&self, name: &InstitutionId, issued: &Issued) -> Result<(), Error> {
        let expires = issued.expires;
        self.0
            .execute(
                "INSERT INTO certificates (serial, institution, expires_ms, authority)
                 VALUES (?1, ?2, ?3, ?4)",
                params![
                    issued.serial,
                    name.as_str(),
                    expires.as_millis(),
                    issued.authority
                ],
            )
            .map_err(named("put certificate"))?;
        self.0
            .execute(
                "UPDATE institutions SET expires_ms = ?2 WHERE name = ?1",
                params![name.as_str(), expires.as_millis()],
            )
            .map_err(named("put certificate"))?;
        Ok(())
    }

    pub fn revoke_certificates(&self, name: &InstitutionId) -> Result<(), Error> {
        self.0
            .execute(
                "UPDATE certificates SET revoked = 1 WHERE institution = ?1",
                [name.as_str()],
            )
            .map_err(named("revoke certificates"))?;
        Ok(())
    }

    /// Whether the certificate is one this coordinator gave out and has not revoked.
    pub fn certificate_stands(&self, name: &InstitutionId, serial: &str) -> Result<bool, Error> {
        let revoked: Option<bool> = self
            .0
            .query_row(
                "SELECT revoked FROM certificates WHERE serial = ?1 AND institution = ?2",
                params![serial, name.as_str()],
                |row| row.get(0),
            )
            .optional()
            .map_err(named("find certificate"))?;
        Ok(revoked == Some(false))
    }

    pub fn set_institution_state(
        &self,
        name: &InstitutionId,
        state: InstitutionState,
    ) -> Result<(), Error> {
        self.0
            .execute(
                "UPDATE institutions SET state = ?2 WHERE name = ?1",
                [name.as_str(), state.as_str()],
            )
            .map_err(named("set institution state"))?;
        Ok(())
    }

    pub fn institution(&self, name: &InstitutionId) -> Result<Option<Institution>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM institutions WHERE name = ?1");
        let raw = self
            .0
            .query_row(&sql, [name.as_str()], raw)
            .optional()
            .map_err(named("find institution"))?;
        raw.map(institution).transpose()
    }

    pub fn institutions(&self) -> Result<Vec<Institution>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM institutions ORDER BY name");
        let failed = named("list institutions");
        let mut statement = self.0.prepare(&sql).map_err(&failed)?;
        let rows = statement.query_map([], raw).map_err(&failed)?;
        rows.map(|row| institution(row.map_err(&failed)?)).collect()
    }
}

/// Institution, expiry, use, whether it lets a name come back, and when it was voided.
type RawInvite = (String, i64, Option<i64>, bool, Option<i64>, Option<String>);
type Raw = (String, String, [u8; 32], i64, i64);

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok((
        row.get(0)?,
        row.get(1)?,
        row.get(2)?,
        row.get(3)?,
        row.get(4)?,
    ))
}

fn institution((name, state, key, enrolled, expires): Raw) -> Result<Institution, Error> {
    Ok(Institution {
        name: name.parse().map_err(damaged)?,
        state: state.parse().map_err(damaged)?,
        signing_key: PublicKey::from_bytes(&key).map_err(damaged)?,
        enrolled: Time::from_millis(enrolled),
        certificate_expires: Time::from_millis(expires),
    })
}
