//! One SQLite database with one writer, as both programs keep theirs.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::crash;
use crate::machine::Machine;

/// How long a connection waits for another process.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a transaction was not committed.
#[derive(Debug)]
pub enum CommitError<E = rusqlite::Error> {
    Database(E),
    Disk(io::Error),
}

/// A log beside the file, and each commit on disk before anything leaves.
pub fn configure(connection: &Connection) -> rusqlite::Result<()> {
    wait(connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // A service may write nowhere but into its directory.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "foreign_keys", true)
}

/// Has commits of the connection wait for no disk: they are durable after [`sync`], many at a time. In what order they
/// become so does not change, and a file that loses the newest of them is whole.
pub fn defer(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "NORMAL")
}

/// Makes durable what connections have committed to the file at `path`. The log beside it is there as long as one of
/// them is open.
pub fn sync(path: &Path) -> io::Result<()> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    File::open(log)?.sync_data()
}

/// Has the connection overwrite what is deleted or replaced, instead of leaving it where it was until there is something
/// new to write.
pub fn overwrite(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "secure_delete", true)
}

/// Takes the log beside the file into it, and empties it. Whether it did: others who read or write put it off, and
/// nobody waits for them.
pub fn clear_log(connection: &Connection) -> rusqlite::Result<bool> {
    connection.busy_timeout(Duration::ZERO)?;
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        row.get::<_, i64>(0)
    });
    wait(connection)?;
    Ok(busy? == 0)
}

/// Has the connection wait for another process that writes.
pub fn wait(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(PATIENCE)
}

/// The version of the schema; 0 of an empty database.
pub fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Makes the tables in an empty database, and brings those of an older one up to date, all of it or
/// nothing. `steps` lead from each version to the next. Answers with the version there is then; a
/// newer one is left alone.
pub fn migrate(connection: &mut Connection, steps: &[&str]) -> rusqlite::Result<i64> {
    let newest = steps.len() as i64;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = version(&transaction)?;
    if !(0..newest).contains(&found) {
        return Ok(found);
    }
    for step in &steps[found as usize..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", newest)?;
    transaction.commit()?;
    Ok(newest)
}

/// Commits the transaction called `name`: it is durable afterwards, or nothing of it happened.
pub fn commit(
    transaction: Transaction<'_>,
    name: &'static str,
    machine: &dyn Machine,
) -> Result<(), CommitError> {
    machine.before_write(name).map_err(CommitError::Disk)?;
    crash::point("before commit", name);
    transaction.commit().map_err(CommitError::Database)?;
    crash::point("after commit", name);
    machine.after_write(name).map_err(CommitError::Disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_taken_once_and_a_newer_schema_is_left_alone() {
        let mut connection = Connection::open_in_memory().expect("database");
        let steps = ["CREATE TABLE a (x)", "CREATE TABLE b (x)"];
        assert_eq!(migrate(&mut connection, &steps[..1]).expect("made"), 1);
        for _ in 0..2 {
            assert_eq!(migrate(&mut connection, &steps).expect("up to date"), 2);
        }
        assert_eq!(migrate(&mut connection, &steps[..1]).expect("newer"), 2);
        assert_eq!(version(&connection).expect("kept"), 2);
    }

    #[test]
    fn a_step_that_fails_leaves_nothing_behind() {
        let mut connection = Connection::open_in_memory().expect("database");
        let steps = ["CREATE TABLE a (x)", "CREATE TABLE a (x)"];
        migrate(&mut connection, &steps).expect_err("twice the same table");
        assert_eq!(version(&connection).expect("kept"), 0);
        assert!(connection.prepare("SELECT * FROM a").is_err());
    }
}
