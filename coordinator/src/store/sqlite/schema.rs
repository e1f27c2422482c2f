//! The schema, its version, and the way from older ones.

use fedner_host::sqlite;
use rusqlite::Connection;

use crate::store::Error;

/// The schema versions this program can open; the last is the one it writes.
const KNOWN: &[i64] = &[1, 2, 3, 4, 5, 6, 7, 8];

/// What leads from each version to the next. What has been released is never changed.
const MIGRATIONS: &[&str] = &[
    TO_VERSION_1,
    TO_VERSION_2,
    TO_VERSION_3,
    TO_VERSION_4,
    TO_VERSION_5,
    TO_VERSION_6,
    TO_VERSION_7,
    TO_VERSION_8,
];

/// Versions of which something was let go on purpose.
const TO_VERSION_8: &str = "
CREATE TABLE pruned (
    version      TEXT PRIMARY KEY REFERENCES versions (digest),
    what         TEXT NOT NULL CHECK (what IN ('updates', 'files'))
) STRICT;
";

/// When each institution was last heard of is kept over restarts, and with which keys an invite was used.
const TO_VERSION_7: &str = "
CREATE TABLE presence (
    institution  TEXT PRIMARY KEY,
    seen_ms      INTEGER NOT NULL,
    software     TEXT
) STRICT;
ALTER TABLE invites ADD COLUMN used_by TEXT;
";

const TO_VERSION_1: &str = "
CREATE TABLE institutions (
    name         TEXT PRIMARY KEY,
    state        TEXT NOT NULL CHECK (state IN ('active', 'suspended', 'revoked')),
    signing_key  BLOB NOT NULL,
    enrolled_ms  INTEGER NOT NULL,
    expires_ms   INTEGER NOT NULL
) STRICT;
CREATE TABLE certificates (
    serial       TEXT PRIMARY KEY,
    institution  TEXT NOT NULL REFERENCES institutions (name),
    expires_ms   INTEGER NOT NULL,
    revoked      INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE invites (
    secret_hash  BLOB PRIMARY KEY,
    institution  TEXT NOT NULL,
    expires_ms   INTEGER NOT NULL,
    used_ms      INTEGER
) STRICT;
CREATE TABLE plans (
    digest       TEXT PRIMARY KEY,
    signed       TEXT NOT NULL
) STRICT;
CREATE TABLE runs (
    id           TEXT PRIMARY KEY,
    number       INTEGER NOT NULL UNIQUE,
    plan         TEXT NOT NULL UNIQUE REFERENCES plans (digest),
    snapshot     TEXT NOT NULL
) STRICT;
CREATE TABLE outbox (
    run          TEXT NOT NULL REFERENCES runs (id),
    round        INTEGER NOT NULL,
    sequence     INTEGER NOT NULL,
    effect       TEXT NOT NULL,
    PRIMARY KEY (run, round, sequence)
) STRICT;
CREATE TABLE events (
    sequence     INTEGER PRIMARY KEY,
    run          TEXT,
    digest       TEXT NOT NULL,
    entry        TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_run ON events (run, sequence);
CREATE TABLE statements (
    digest       TEXT PRIMARY KEY,
    kind         TEXT NOT NULL,
    author       TEXT NOT NULL,
    author_key   BLOB NOT NULL,
    signed       TEXT NOT NULL
) STRICT;
CREATE TABLE versions (
    digest       TEXT PRIMARY KEY,
    model        TEXT NOT NULL,
    number       INTEGER NOT NULL,
    record       TEXT NOT NULL,
    UNIQUE (model, number)
) STRICT;
CREATE TABLE aliases (
    alias        TEXT PRIMARY KEY,
    version      TEXT NOT NULL REFERENCES versions (digest)
) STRICT;
CREATE TABLE scores (
    version      TEXT NOT NULL REFERENCES versions (digest),
    institution  TEXT NOT NULL,
    scores       TEXT NOT NULL,
    PRIMARY KEY (version, institution)
) STRICT;
";

/// A step of a run changes few of its members: each has a row of its own. An institution's newest
/// update is looked for at every check-in.
const TO_VERSION_2: &str = "
CREATE TABLE members (
    run          TEXT NOT NULL REFERENCES runs (id),
    institution  TEXT NOT NULL,
    member       TEXT NOT NULL,
    PRIMARY KEY (run, institution)
) STRICT;
INSERT INTO members (run, institution, member)
    SELECT runs.id, each.key, each.value
    FROM runs, json_each(runs.snapshot, '$.members') AS each;
UPDATE runs SET snapshot = json_remove(snapshot, '$.members');
CREATE INDEX statements_by_author ON statements (author, kind);
";

/// Signed reports of audits, which stand among the statements, are kept with the versions that they are
/// about. A version in several files has an export in one, by whose digest a report names it.
const TO_VERSION_3: &str = "
CREATE TABLE audit_reports (
    version      TEXT NOT NULL REFERENCES versions (digest),
    report       TEXT NOT NULL REFERENCES statements (digest),
    PRIMARY KEY (version, report)
) STRICT;
CREATE TABLE exports (
    version      TEXT PRIMARY KEY REFERENCES versions (digest),
    weights      TEXT NOT NULL
) STRICT;
CREATE INDEX exports_by_weights ON exports (weights);
";

/// An invite says whether it lets a known name come back, and is void once the name has been kept out. The
/// newest history of events that each institution has countersigned is kept.
const TO_VERSION_4: &str = "
ALTER TABLE invites ADD COLUMN reenrol INTEGER NOT NULL DEFAULT 0;
ALTER TABLE invites ADD COLUMN voided_ms INTEGER;
CREATE TABLE histories_seen (
    institution  TEXT PRIMARY KEY REFERENCES institutions (name),
    size         INTEGER NOT NULL,
    author_key   BLOB NOT NULL,
    signed       TEXT NOT NULL
) STRICT;
";

/// A certificate is of one of several authorities, a key may give way to another, and the certificates of
/// operators and viewers are known by name.
const TO_VERSION_5: &str = "
ALTER TABLE certificates ADD COLUMN authority TEXT NOT NULL DEFAULT '';
CREATE TABLE successions (
    number       INTEGER PRIMARY KEY,
    institution  TEXT REFERENCES institutions (name),
    digest       TEXT NOT NULL UNIQUE,
    signed       TEXT NOT NULL
) STRICT;
CREATE TABLE people (
    role         TEXT NOT NULL CHECK (role IN ('operator', 'viewer')),
    name         TEXT NOT NULL,
    issued_ms    INTEGER NOT NULL,
    expires_ms   INTEGER NOT NULL,
    revoked_ms   INTEGER,
    PRIMARY KEY (role, name)
) STRICT;
";

/// The heads of ledgers that receipts have named, taken or not.
const TO_VERSION_6: &str = "
CREATE TABLE ledger_heads (
    institution  TEXT NOT NULL REFERENCES institutions (name),
    head         TEXT NOT NULL,
    PRIMARY KEY (institution, head)
) STRICT;
";

pub(super) fn check(connection: &Connection) -> Result<(), Error> {
    let found = sqlite::version(connection);
    known(found.map_err(|error| Error::Open(error.into()))?)
}

pub(super) fn migrate(connection: &mut Connection) -> Result<(), Error> {
    let name = "migrate schema";
    let migrated = sqlite::migrate(connection, MIGRATIONS);
    known(migrated.map_err(|error| Error::Transaction {
        name,
        source: error.into(),
    })?)
}

fn known(found: i64) -> Result<(), Error> {
    if found == 0 || KNOWN.contains(&found) {
        return Ok(());
    }
    Err(Error::Schema {
        found,
        known: KNOWN,
    })
}

#[cfg(test)]
mod tests {
    use fedner_round::Run;
    use fedner_shared::digest::Digest;

    use super::*;
    use crate::store::{Store, fixture};

    /// A database as a program of that schema version left it.
    fn older(path: &std::path::Path, version: i64) {
        let mut connection = Connection::open(path).expect("raw");
        let steps = &MIGRATIONS[..version as usize];
        sqlite::migrate(&mut connection, steps).expect("older");
        connection
            .execute_batch(
                "INSERT INTO plans VALUES ('p', '{}');
                 INSERT INTO invites (secret_hash, institution, expires_ms) VALUES (x'00', 'st-anna', 5);
                 INSERT INTO versions VALUES ('v', 'notes', 1, '{}');",
            )
            .expect("rows");
        let mut run = serde_json::to_value(run()).expect("json");
        let members = run.as_object_mut().expect("a run").remove("members");
        let members = members.expect("members");
        if version == 1 {
            run["members"] = members.clone();
        }
        let sql = "INSERT INTO runs VALUES ('notes.1', 1, 'p', ?1)";
        connection.execute(sql, [run.to_string()]).expect("a run");
        if version > 1 {
            for (name, member) in members.as_object().expect("members") {
                let row = ["notes.1", name, &member.to_string()];
                let sql = "INSERT INTO members VALUES (?1, ?2, ?3)";
                connection.execute(sql, row).expect("a member");
            }
        }
    }

    /// With a member of whom something is known.
    fn run() -> Run {
        fixture::seen(&fixture::run(Digest::of(b"plan")))
    }

    #[test]
    fn every_older_schema_is_brought_up_to_date_with_what_it_holds() {
        let current = MIGRATIONS.len() as i64;
        assert_eq!(KNOWN.last(), Some(&current));
        for version in KNOWN {
            let folder = tempfile::tempdir().expect("folder");
            let path = folder.path().join("s.sqlite");
            older(&path, *version);
            let mut store = Store::open(&path).expect("migrated");
            store.check_pages().expect("sound");
            assert_eq!(store.read(|tx| tx.verify_chain()).expect("chain"), 0);
            assert_eq!(store.read(|tx| tx.runs()).expect("runs"), [run()]);
            drop(store);
            let connection = Connection::open(&path).expect("raw");
            assert_eq!(sqlite::version(&connection).expect("known"), current);
            let rows: i64 = connection
                .query_row(
                    "SELECT (SELECT count(*) FROM plans) + (SELECT count(*) FROM invites)
                          + (SELECT count(*) FROM versions)",
                    [],
                    |row| row.get(0),
                )
                .expect("count");
            assert_eq!(rows, 3, "from version {version}");
            connection
                .execute_batch(
                    "INSERT INTO statements VALUES ('s', 'audit', 'st-anna', x'00', '{}');
                     INSERT INTO audit_reports VALUES ('v', 's');
                     INSERT INTO exports VALUES ('v', 'w');",
                )
                .expect("room for reports");
        }
    }

    #[test]
    fn a_newer_schema_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("s.sqlite");
        drop(Store::open(&path).expect("create"));
        drop(Store::open(&path).expect("open again"));
        let connection = Connection::open(&path).expect("raw");
        connection
            .pragma_update(None, "user_version", 99)
            .expect("set");
        drop(connection);
        assert!(matches!(
            Store::open(&path),
            Err(Error::Schema { found: 99, .. })
        ));
    }
}
