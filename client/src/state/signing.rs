//! What is signed with another key once the institution has one.

use fedner_shared::audit::AuditReport;
use fedner_shared::sign::{PublicKey, SecretKey, Signature, Signed, Statement};
use fedner_shared::statement::{Consent, EvaluationReceipt, UpdateReceipt};
use rusqlite::{Connection, params};

use super::values::{EARLIER_KEYS, get, put};
use super::{Error, Store};

impl Store {
    /// Signs with `key` what the coordinator may not have yet, and remembers the key `old` for all else. It may be
    /// done again.
    pub fn sign_anew(&self, key: &SecretKey, old: &PublicKey) -> Result<(), Error> {
        self.transaction("sign anew", |connection| {
            consents(connection, key)?;
            receipts(connection, key)?;
            let mut earlier: Vec<PublicKey> = get(connection, EARLIER_KEYS)?;
            if !earlier.contains(old) {
                earlier.push(*old);
            }
            put(connection, EARLIER_KEYS, &earlier)
        })
    }
}

fn consents(connection: &Connection, key: &SecretKey) -> rusqlite::Result<()> {
    let sql = "SELECT id, body FROM consents WHERE revoked_ms IS NULL";
    for (id, body) in rows(connection, sql)? {
        let signature = signature::<Consent>(&body, key)?;
        let sql = "UPDATE consents SET signature = ?2 WHERE id = ?1";
        connection.execute(sql, params![id, signature.as_bytes()])?;
    }
    Ok(())
}

fn receipts(connection: &Connection, key: &SecretKey) -> rusqlite::Result<()> {
    for kind in ["update", "evaluation", "audit"] {
        let sql =
            format!("SELECT id, body FROM receipts WHERE taken_ms IS NULL AND kind = '{kind}'");
        for (id, body) in rows(connection, &sql)? {
            let signature = match kind {
                "update" => signature::<UpdateReceipt>(&body, key)?,
                "evaluation" => signature::<EvaluationReceipt>(&body, key)?,
                _ => signature::<AuditReport>(&body, key)?,
            };
            let sql = "UPDATE receipts SET signature = ?2 WHERE id = ?1";
            connection.execute(sql, params![id, signature.as_bytes()])?;
        }
    }
    Ok(())
}

fn rows(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<(i64, String)>> {
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// The signature under that very text.
fn signature<T: Statement>(body: &str, key: &SecretKey) -> rusqlite::Result<Signature> {
    let statement: T =
        serde_json::from_str(body).map_err(|error| super::unreadable(Box::new(error)))?;
    let signed = Signed::new(&statement, key);
    if signed.body == body {
        return Ok(signed.signature);
    }
    Err(super::unreadable("a statement is not canonical".into()))
}

#[cfg(test)]
mod tests {
    use fedner_shared::digest::Digest;
    use fedner_shared::time::Time;

    use super::*;
    use crate::state::tests::Place;

    #[test]
    fn what_may_not_have_arrived_is_signed_with_the_new_key() {
        let (old, new) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let place = Place::new();
        let store = place.open();
        let consent = Consent {
            plan: Digest::of(b"plan"),
            institution: "anna".parse().expect("name"),
            examples: 5,
            held_out: None,
            annotation: None,
            policy: Digest::of(b"policy"),
            at: Time::from_millis(0),
            expires: Time::from_millis(9),
        };
        let signed = Signed::new(&consent, &old);
        let connection = Connection::open(place.path().join("state.sqlite")).expect("raw");
        connection
            .pragma_update(None, "foreign_keys", false)
            .expect("no plan is needed");
        let sql = "INSERT INTO consents (plan, body, signature) VALUES ('p', ?1, ?2)";
        let row = params![signed.body, signed.signature.as_bytes()];
        connection.execute(sql, row).expect("a consent");
        for _ in 0..2 {
            store.sign_anew(&new, &old.public()).expect("signed");
        }
        let kept = store.consents_in_force(Time::from_millis(1)).expect("read");
        assert_eq!(kept[0].signed.digest(), signed.digest());
        let by = |key: &SecretKey| kept[0].signed.verify::<Consent>(&key.public()).is_ok();
        assert!(by(&new) && !by(&old));
        assert_eq!(store.earlier_keys().expect("read"), [old.public()]);
    }
}
