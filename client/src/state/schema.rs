//! Tables, and the version that this program reads.

use std::time::Duration;

use rusqlite::Connection;

/// The schema that this program reads and makes.
pub(super) const VERSION: i64 = 1;

const TABLES: &str = "
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

pub(super) fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Every commit is on disk before anything leaves.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)
}

/// Makes the tables in an empty database; answers with the version of the schema found there.
pub(super) fn version(connection: &mut Connection) -> rusqlite::Result<i64> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found != 0 {
        return Ok(found);
    }
    transaction.execute_batch(TABLES)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(VERSION)
}
