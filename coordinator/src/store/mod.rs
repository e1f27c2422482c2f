//! The durable state: one SQLite database, one writer.
//!
//! Every transaction has a name and is all or nothing; a step of a run is made durable here,
//! snapshot, events and outbox together, before anybody acts on it.

mod audits;
mod backup;
mod events;
#[cfg(test)]
pub(crate) mod fixture;
mod heads;
mod institutions;
mod invites;
mod keys;
mod models;
mod objects;
mod runs;
mod schema;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use fedner_host::machine::Machine;
use fedner_host::machine::ThisMachine;
use fedner_host::sqlite::{self, CommitError};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction};

use crate::observe;

pub use backup::backup;
pub use events::HistorySeen;
pub use institutions::{Institution, Invite, InviteUse};
pub use invites::OpenInvite;
pub use keys::Person;
pub use models::{StatementKind, StoredStatement};
pub use runs::Pending;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("transaction `{name}` failed: {source}")]
    Transaction {
        name: &'static str,
        source: rusqlite::Error,
    },
    #[error("transaction `{name}` failed: {source}")]
    Disk {
        name: &'static str,
        source: std::io::Error,
    },
    #[error("the store cannot be opened: {0}")]
    Open(rusqlite::Error),
    #[error("the store has schema version {found}: this program knows {known:?}")]
    Schema { found: i64, known: &'static [i64] },
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

impl Error {
    /// Whether the disk has no room left, or cannot be written to at present.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Transaction { source, .. } | Self::Open(source) => matches!(
                source.sqlite_error_code(),
                Some(rusqlite::ErrorCode::DiskFull | rusqlite::ErrorCode::ReadOnly)
            ),
            Self::Disk { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            Self::Schema { .. } | Self::Damaged(_) => false,
        }
    }
}

/// The open database.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    machine: Arc<dyn Machine>,
}

/// What can be read and written inside one transaction.
#[derive(Debug)]
pub struct Tx<'a>(Transaction<'a>);

impl Store {
    /// Creates the database, or opens it if its schema is known.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut connection = Connection::open(path).map_err(Error::Open)?;
        sqlite::configure(&connection).map_err(Error::Open)?;
        schema::migrate(&mut connection)?;
        Ok(Self {
            connection,
            machine: Arc::new(ThisMachine),
        })
    }

    /// The same store, on that machine's disk.
    #[must_use]
    pub fn with_machine(self, machine: Arc<dyn Machine>) -> Self {
        Self { machine, ..self }
    }

    /// Opens an existing database to look at, beside a running coordinator.
    pub fn open_read_only(path: &Path) -> Result<Self, Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(Error::Open)?;
        connection
            .pragma_update(None, "query_only", true)
            .map_err(Error::Open)?;
        schema::check(&connection)?;
        Ok(Self {
            connection,
            machine: Arc::new(ThisMachine),
        })
    }

    /// Runs `work` in a transaction called `name`, and commits it if it succeeds.
    pub fn transact<T, E: From<Error>>(
        &mut self,
        name: &'static str,
        work: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let began = Instant::now();
        let failed = |source| Error::Transaction { name, source };
        let transaction = self.connection.transaction().map_err(failed)?;
        let tx = Tx(transaction);
        let value = work(&tx)?;
        sqlite::commit(tx.0, name, self.machine.as_ref()).map_err(|error| match error {
            CommitError::Database(source) => Error::Transaction { name, source },
            CommitError::Disk(source) => Error::Disk { name, source },
        })?;
        observe::count_commit(name, began.elapsed());
        Ok(value)
    }

    /// Runs `work` without writing.
    pub fn read<T>(&mut self, work: impl FnOnce(&Tx<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let transaction = self
            .connection
            .transaction()
            .map_err(|source| Error::Transaction {
                name: "read",
                source,
            })?;
        work(&Tx(transaction))
    }

    /// SQLite's own check of its pages, and that no row refers to one that is not there.
    pub fn check_pages(&self) -> Result<(), Error> {
        let orphan: Option<String> = self
            .connection
            .query_row("PRAGMA foreign_key_check", [], |row| row.get(0))
            .optional()
            .map_err(Error::Open)?;
        if let Some(table) = orphan {
            let message = format!("a row of `{table}` refers to one that is missing");
            return Err(Error::Damaged(message));
        }
        let verdict: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(Error::Open)?;
        if verdict == "ok" {
            Ok(())
        } else {
            Err(Error::Damaged(verdict))
        }
    }
}

/// For the methods of [`Tx`]: names the failing statement.
fn named(name: &'static str) -> impl Fn(rusqlite::Error) -> Error {
    move |source| Error::Transaction { name, source }
}

fn damaged(error: impl std::fmt::Display) -> Error {
    Error::Damaged(error.to_string())
}

#[cfg(test)]
mod tests {
    use fedner_shared::event::Event;
    use fedner_shared::time::Time;

    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_and_loses_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        let mut store = Store::open(&folder.path().join("s.sqlite")).expect("store");
        let append = |store: &mut Store, text: &str| {
            let event = Event::RunFailed {
                reason: text.to_owned(),
            };
            store.transact("test", |tx| {
                tx.append_event(Time::from_millis(1), None, event)
            })
        };
        append(&mut store, "before").expect("room");
        let pages: i64 = store
            .connection
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .expect("pages");
        store
            .connection
            .pragma_update(None, "max_page_count", pages + 1)
            .expect("limit");
        let long = "x".repeat(100_000);
        let error: Error = append(&mut store, &long).expect_err("no room");
        assert!(error.is_full(), "{error}");
        store
            .connection
            .pragma_update(None, "max_page_count", pages + 1000)
            .expect("limit");
        append(&mut store, &long).expect("room again");
        assert_eq!(store.read(|tx| tx.verify_chain()).expect("whole"), 2);
    }

    #[test]
    fn a_disk_that_became_read_only_is_told_apart_and_loses_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        let mut store = Store::open(&folder.path().join("s.sqlite")).expect("store");
        let append = |store: &mut Store| {
            let now = Time::from_millis(1);
            store.transact("test", |tx| tx.append_event(now, None, Event::RunStarted))
        };
        append(&mut store).expect("writable");
        let read_only = |store: &Store, yes: bool| {
            let set = store.connection.pragma_update(None, "query_only", yes);
            set.expect("pragma");
        };
        read_only(&store, true);
        let error: Error = append(&mut store).expect_err("read-only");
        assert!(error.is_full(), "{error}");
        read_only(&store, false);
        append(&mut store).expect("writable again");
        assert_eq!(store.read(|tx| tx.verify_chain()).expect("whole"), 2);
    }
}
