//! Tables, and the version that this program reads.

/// The schema that this program makes. Older ones are brought up to it.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// What leads from each version to the next. What has been released is never changed.
pub(super) const MIGRATIONS: &[&str] = &[
    TO_VERSION_1,
    TO_VERSION_2,
    TO_VERSION_3,
    TO_VERSION_4,
    TO_VERSION_5,
];

const TO_VERSION_1: &str = "
CREATE TABLE notes (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE plans (
    digest      TEXT PRIMARY KEY,
    run         TEXT NOT NULL,
    body        TEXT NOT NULL,
    signature   BLOB NOT NULL,
    dimension   INTEGER NOT NULL,
    proposed_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE consents (
    id         INTEGER PRIMARY KEY,
    plan       TEXT NOT NULL REFERENCES plans (digest),
    body       TEXT NOT NULL,
    signature  BLOB NOT NULL,
    revoked_ms INTEGER
) STRICT;

CREATE TABLE ledger (
    sequence INTEGER PRIMARY KEY,
    body     TEXT NOT NULL
) STRICT;

CREATE TABLE receipts (
    id        INTEGER PRIMARY KEY,
    digest    TEXT NOT NULL UNIQUE,
    kind      TEXT NOT NULL,
    plan      TEXT NOT NULL,
    run       TEXT NOT NULL,
    round     INTEGER NOT NULL,
    attempt   INTEGER NOT NULL,
    blob      TEXT,
    body      TEXT NOT NULL,
    signature BLOB NOT NULL,
    time_ms   INTEGER NOT NULL,
    note      TEXT NOT NULL,
    taken_ms  INTEGER
) STRICT;
CREATE INDEX receipts_by_round ON receipts (run, round, attempt);
";

/// A report that a person submits belongs to no assignment.
const TO_VERSION_2: &str = "
ALTER TABLE receipts RENAME TO older_receipts;
CREATE TABLE receipts (
    id        INTEGER PRIMARY KEY,
    digest    TEXT NOT NULL UNIQUE,
    kind      TEXT NOT NULL,
    plan      TEXT,
    run       TEXT,
    round     INTEGER,
    attempt   INTEGER,
    blob      TEXT,
    body      TEXT NOT NULL,
    signature BLOB NOT NULL,
    time_ms   INTEGER NOT NULL,
    note      TEXT NOT NULL,
    taken_ms  INTEGER,
    CHECK ((plan IS NULL) = (run IS NULL) AND (run IS NULL) = (round IS NULL)
        AND (round IS NULL) = (attempt IS NULL))
) STRICT;
INSERT INTO receipts
    SELECT id, digest, kind, plan, run, round, attempt, blob, body, signature, time_ms, note, taken_ms
    FROM older_receipts;
DROP TABLE older_receipts;
CREATE INDEX receipts_by_round ON receipts (run, round, attempt);
";

/// The policy in force is kept here; `policy.toml` is how people change it.
const TO_VERSION_3: &str = "
CREATE TABLE policies (
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL,
    body   TEXT NOT NULL,
    source TEXT NOT NULL,
    at_ms  INTEGER NOT NULL
) STRICT;
";

/// What a training takes.
const TO_VERSION_4: &str = "
ALTER TABLE plans ADD COLUMN memory INTEGER NOT NULL DEFAULT 0;
";

/// Whose updates are masked together.
const TO_VERSION_5: &str = "
ALTER TABLE plans ADD COLUMN roster TEXT NOT NULL DEFAULT '{}';
";

#[cfg(test)]
mod tests {
    use fedner_shared::digest::Digest;
    use fedner_shared::sign::{Signature, Signed};
    use fedner_shared::time::Time;

    use rusqlite::Connection;

    use super::*;
    use crate::state::tests::Place;
    use crate::state::{Asked, Receipt, ReceiptKind};

    fn receipt(asked: Option<Asked>, kind: ReceiptKind) -> Receipt {
        let signed = Signed {
            body: format!("{{\"kind\":\"{}\"}}", kind.as_str()),
            signature: Signature::from_bytes([7; 64]),
        };
        Receipt {
            digest: signed.digest(),
            kind,
            asked,
            blob: None,
            signed,
            time: Time::from_millis(5),
            note: serde_json::json!({}),
            taken: Some(Time::from_millis(6)),
        }
    }

    /// A database as a program of the first schema left it, with one receipt.
    fn older(place: &Place, receipt: &Receipt) {
        let connection = Connection::open(place.path().join("state.sqlite")).expect("raw");
        connection.execute_batch(MIGRATIONS[0]).expect("tables");
        let asked = receipt.asked.as_ref().expect("an assignment");
        connection
            .execute(
                "INSERT INTO receipts VALUES (3, ?1, 'evaluation', ?2, ?3, ?4, ?5, NULL, ?6, ?7, 5, '{}', 6)",
                rusqlite::params![
                    receipt.digest.to_string(),
                    asked.plan.to_string(),
                    asked.run.as_str(),
                    asked.round,
                    asked.attempt,
                    receipt.signed.body,
                    receipt.signed.signature.as_bytes(),
                ],
            )
            .expect("a receipt");
        connection
            .pragma_update(None, "user_version", 1)
            .expect("version");
    }

    #[test]
    fn an_older_schema_is_brought_up_to_date_with_what_it_holds() {
        let place = Place::new();
        let asked = Asked {
            plan: Digest::of(b"plan"),
            run: "run-1".parse().expect("name"),
            round: 2,
            attempt: 1,
        };
        let kept = receipt(Some(asked), ReceiptKind::Evaluation);
        older(&place, &kept);
        let store = place.open();
        assert_eq!(store.receipts().expect("read"), std::slice::from_ref(&kept));
        let report = receipt(None, ReceiptKind::Audit);
        store.add_receipt(&report).expect("no assignment is needed");
        let read = place.open().receipts().expect("read");
        assert_eq!(read.len(), 2);
        assert_eq!((&read[0], read[1].asked.as_ref()), (&kept, None));
        assert!(
            store.add_receipt(&kept).is_err(),
            "the digest is unique still"
        );
    }
}
