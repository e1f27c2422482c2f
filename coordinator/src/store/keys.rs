//! Keys that gave way to others, and the certificates of operators and viewers.

use fedner_shared::id::InstitutionId;
use fedner_shared::sign::{PublicKey, Signed};
use fedner_shared::time::Time;

use super::sql::values;
use super::{Error, Tx, damaged};
use crate::authority::Role;

/// The newest certificate of an operator or a viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub role: Role,
    pub name: String,
    pub issued: Time,
    pub expires: Time,
    /// What was issued before is worth nothing.
    pub revoked: Option<Time>,
}

impl Tx<'_> {
    /// Keeps the statement by which a key gave way; of an institution, or of the coordinator.
    pub fn put_succession(
        &self,
        institution: Option<&InstitutionId>,
        signed: &Signed,
    ) -> Result<(), Error> {
        let json = serde_json::to_string(signed).map_err(damaged)?;
        let sql = "INSERT INTO successions (institution, digest, signed) VALUES (?1, ?2, ?3)";
        let row = values![institution, signed.digest().to_string(), json];
        self.write("put succession", sql, row)
    }

    /// Of the coordinator's own keys, oldest first.
    pub fn own_successions(&self) -> Result<Vec<Signed>, Error> {
        self.successions("SELECT signed FROM successions WHERE institution IS NULL ORDER BY number")
    }

    /// Of everybody's keys, oldest first.
    pub fn all_successions(&self) -> Result<Vec<Signed>, Error> {
        self.successions("SELECT signed FROM successions ORDER BY number")
    }

    fn successions(&self, sql: &str) -> Result<Vec<Signed>, Error> {
        self.list("list successions", sql, values![], |row| row.json(0))
    }

    pub fn set_signing_key(&self, name: &InstitutionId, key: &PublicKey) -> Result<(), Error> {
        let sql = "UPDATE institutions SET signing_key = ?2 WHERE name = ?1";
        let row = values![name, key.as_bytes()];
        self.write("set signing key", sql, row)
    }

    /// Puts another signature under a plan that is there.
    pub fn sign_plan_anew(&self, signed: &Signed) -> Result<(), Error> {
        let json = serde_json::to_string(signed).map_err(damaged)?;
        let sql = "UPDATE plans SET signed = ?2 WHERE digest = ?1";
        let row = values![signed.digest().to_string(), json];
        if self.execute("sign plan anew", sql, row)? == 1 {
            return Ok(());
        }
        Err(damaged(format!("plan {} is missing", signed.digest())))
    }

    pub fn put_person(&self, person: &Person) -> Result<(), Error> {
        let Person {
            role,
            name,
            issued,
            expires,
            revoked,
        } = person;
        let sql = "INSERT INTO people (role, name, issued_ms, expires_ms, revoked_ms)
                   VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT (role, name) DO UPDATE
                   SET issued_ms = excluded.issued_ms, expires_ms = excluded.expires_ms,
                       revoked_ms = coalesce(excluded.revoked_ms, people.revoked_ms)";
        let row = values![
            role.as_str(),
            name,
            issued.as_millis(),
            expires.as_millis(),
            revoked.map(Time::as_millis)
        ];
        self.write("put person", sql, row)
    }

    pub fn people(&self) -> Result<Vec<Person>, Error> {
        let sql =
            "SELECT role, name, issued_ms, expires_ms, revoked_ms FROM people ORDER BY role, name";
        self.list("list people", sql, values![], |row| {
            let role: String = row.get(0)?;
            let revoked: Option<i64> = row.get(4)?;
            Ok(Person {
                role: Role::parse(&role).ok_or_else(|| damaged(&role))?,
                name: row.get(1)?,
                issued: Time::from_millis(row.get(2)?),
                expires: Time::from_millis(row.get(3)?),
                revoked: revoked.map(Time::from_millis),
            })
        })
    }

    /// Active institutions none of whose certificates in force is of that authority.
    pub fn without_certificate_of(&self, authority: &str) -> Result<Vec<InstitutionId>, Error> {
        let sql = "SELECT name FROM institutions WHERE state = 'active' AND NOT EXISTS (
                       SELECT 1 FROM certificates
                       WHERE institution = name AND revoked = 0 AND authority = ?1)
                   ORDER BY name";
        self.list("list certificates", sql, values![authority], |row| {
            row.parse(0)
        })
    }

    /// The institutions' certificates of other authorities than that one are worth nothing.
    pub fn revoke_certificates_not_of(&self, authority: &str) -> Result<(), Error> {
        let sql = "UPDATE certificates SET revoked = 1 WHERE authority <> ?1";
        self.write("revoke certificates", sql, values![authority])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn a_revocation_stays_when_a_new_certificate_is_issued() {
        let folder = tempfile::tempdir().expect("folder");
        let mut store = Store::open(&folder.path().join("s.sqlite")).expect("store");
        let time = Time::from_millis;
        let mut person = Person {
            role: Role::Viewer,
            name: "dash".to_owned(),
            issued: time(1),
            expires: time(9),
            revoked: Some(time(4)),
        };
        let mut put = |person: &Person| {
            let put = store.transact("test", |tx| tx.put_person(person));
            put.expect("put");
            store.read(|tx| tx.people()).expect("read")
        };
        assert_eq!(put(&person), std::slice::from_ref(&person));
        person.issued = time(5);
        person.revoked = None;
        let kept = put(&person);
        person.revoked = Some(time(4));
        assert_eq!(kept, [person]);
    }
}
