//! The durable state: one database, one writer.
//!
//! Every transaction has a name and is all or nothing; a step of a run is made durable here,
//! snapshot, events and outbox together, before anybody acts on it.
//!
//! The database is SQLite's in a file, or PostgreSQL's. Queries are the methods of [`Tx`], the same text for both;
//! an engine runs statements (`sql`) and keeps three promises: one writer, all or nothing, durable once committed. Whoever
//! [defers](Store::defer) the last one has many commits share one sync of the disk.

mod audits;
mod copy;
mod events;
#[cfg(test)]
pub(crate) mod fixture;
mod heads;
mod institutions;
mod invites;
mod keyring;
mod keys;
mod leader;
mod lease;
mod models;
mod objects;
mod place;
mod postgres;
mod runs;
mod sql;
mod sqlite;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use fedner_host::machine::Machine;
use fedner_host::machine::ThisMachine;
use fedner_host::sqlite::CommitError;
use fedner_shared::refusal::Code;

use crate::observe;

pub use events::HistorySeen;
pub use institutions::{Institution, Invite, InviteUse};
pub use invites::OpenInvite;
pub use keyring::Keyring;
pub use keys::Person;
pub use leader::{LEASE, Leader, Terms};
pub use lease::{Lease, Taken};
pub use models::{StatementKind, StoredStatement};
pub use place::Place;
pub use postgres::Address;
pub use runs::Pending;
use sql::Statements;

/// Why an engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Postgres(#[from] postgres::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("transaction `{name}` failed: {source}")]
    Transaction { name: &'static str, source: Failure },
    #[error("transaction `{name}` failed: {source}")]
    Disk {
        name: &'static str,
        source: std::io::Error,
    },
    #[error("the store cannot be opened: {0}")]
    Open(Failure),
    #[error("the store has schema version {found}: this program knows {known:?}")]
    Schema { found: i64, known: &'static [i64] },
    #[error("the store is damaged: {0}")]
    Damaged(String),
    #[error("{0}")]
    Place(String),
    #[error("the store at that place holds a federation already")]
    Taken,
}

impl Error {
    /// Whether the disk has no room left, or cannot be written to at present.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Transaction { source, .. } | Self::Open(source) => match source {
                Failure::Sqlite(source) => matches!(
                    source.sqlite_error_code(),
                    Some(rusqlite::ErrorCode::DiskFull | rusqlite::ErrorCode::ReadOnly)
                ),
                Failure::Postgres(source) => source.is_full(),
            },
            Self::Disk { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            Self::Schema { .. } | Self::Damaged(_) | Self::Place(_) | Self::Taken => false,
        }
    }

    /// What an operator, or time, can mend: a server that does not answer, or not this program.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Transaction { source, .. } | Self::Open(source) => match source {
                Failure::Sqlite(_) => None,
                Failure::Postgres(source) => source.code(),
            },
            Self::Place(_) => Some(Code::ConfigInvalid),
            Self::Taken => Some(Code::AlreadyExists),
            Self::Disk { .. } | Self::Schema { .. } | Self::Damaged(_) => None,
        }
    }
}

/// The open database.
#[derive(Debug)]
pub struct Store {
    engine: Engine,
    machine: Arc<dyn Machine>,
    durable: Durable,
}

/// When what is committed is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durable {
    /// Once it is committed.
    AtOnce,
    /// After the next sync: all is at present.
    AfterSync,
    /// After the next sync: something is not yet.
    NotYet,
}

#[derive(Debug)]
enum Engine {
    Sqlite(sqlite::Database),
    Postgres(Box<postgres::Session>),
}

/// What can be read and written inside one transaction.
#[derive(Debug)]
pub struct Tx<'a>(&'a dyn Statements);

impl Store {
    /// Creates the database in a file, or opens it if its schema is known.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self::of(Engine::Sqlite(sqlite::Database::open(path)?)))
    }

    /// Opens an existing database in a file to look at, beside a running coordinator.
    pub fn open_read_only(path: &Path) -> Result<Self, Error> {
        let database = sqlite::Database::open_read_only(path)?;
        Ok(Self::of(Engine::Sqlite(database)))
    }

    /// Creates the tables at that place, or opens them, to write to.
    pub fn open_at(place: &Place) -> Result<Self, Error> {
        match place {
            Place::File(path) => Self::open(path),
            Place::Server(address) => {
                let session = postgres::Session::open(address)?;
                Ok(Self::of(Engine::Postgres(Box::new(session))))
            }
        }
    }

    /// The same where the lease is free. A file has no lease: its directory has one coordinator.
    pub fn take_at(place: &Place, terms: &Terms) -> Result<Taken, Error> {
        let Place::Server(address) = place else {
            return Self::open_at(place).map(Taken::Ours);
        };
        let session = postgres::Session::take(address, terms)?;
        let ours = |session| Taken::Ours(Self::of(Engine::Postgres(Box::new(session))));
        Ok(session.map_or(Taken::Held, ours))
    }

    /// Opens a place for a federation that begins there. A server's database must hold none.
    pub fn make_at(place: &Place) -> Result<Self, Error> {
        match place {
            Place::File(path) => Self::open(path),
            Place::Server(address) => {
                let session = postgres::Session::make(address)?;
                Ok(Self::of(Engine::Postgres(Box::new(session))))
            }
        }
    }

    /// Opens what is at that place to look at, beside a running coordinator.
    pub fn look_at(place: &Place) -> Result<Self, Error> {
        match place {
            Place::File(path) => Self::open_read_only(path),
            Place::Server(address) => {
                let session = postgres::Session::look(address)?;
                Ok(Self::of(Engine::Postgres(Box::new(session))))
            }
        }
    }

    fn of(engine: Engine) -> Self {
        Self {
            engine,
            machine: Arc::new(ThisMachine),
            durable: Durable::AtOnce,
        }
    }

    /// Has many commits become durable together, by [`sync`](Self::sync): whoever defers lets nobody hear of a commit
    /// before. Whether the engine can; each commit to PostgreSQL waits for the server anyway.
    pub fn defer(&mut self) -> Result<bool, Error> {
        let Engine::Sqlite(database) = &self.engine else {
            return Ok(false);
        };
        database.defer()?;
        // Of what was committed before, each commit was synced.
        self.durable = Durable::AfterSync;
        Ok(true)
    }

    /// Makes durable all that was committed. After an error it is not known what of it is: nobody may hear of it.
    pub fn sync(&mut self) -> Result<(), Error> {
        if let (Durable::NotYet, Engine::Sqlite(database)) = (self.durable, &self.engine) {
            database.sync(self.machine.as_ref())?;
            self.durable = Durable::AfterSync;
        }
        Ok(())
    }

    /// The same store, on that machine's disk.
    #[must_use]
    pub fn with_machine(self, machine: Arc<dyn Machine>) -> Self {
        Self { machine, ..self }
    }

    /// Runs `work` in a transaction called `name`, and commits it if it succeeds.
    pub fn transact<T, E: From<Error>>(
        &mut self,
        name: &'static str,
        work: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let began = Instant::now();
        let machine = self.machine.as_ref();
        let failed = |error| match error {
            CommitError::Database(source) => Error::Transaction { name, source },
            CommitError::Disk(source) => Error::Disk { name, source },
        };
        if self.durable == Durable::AfterSync {
            self.durable = Durable::NotYet;
        }
        let value = match &mut self.engine {
            Engine::Sqlite(database) => {
                let transaction = database.begin();
                let transaction = transaction.map_err(CommitError::Database).map_err(failed)?;
                let value = work(&Tx(&transaction))?;
                transaction.commit(name, machine).map_err(failed)?;
                value
            }
            Engine::Postgres(session) => {
                session
                    .begin()
                    .map_err(|error| failed(CommitError::Database(error.into())))?;
                let value = match work(&Tx(session.as_ref())) {
                    Ok(value) => value,
                    Err(error) => {
                        session.roll_back();
                        return Err(error);
                    }
                };
                session.commit(name, machine).map_err(failed)?;
                value
            }
        };
        observe::count_commit(name, began.elapsed());
        Ok(value)
    }

    /// Runs `work` without writing.
    pub fn read<T>(&mut self, work: impl FnOnce(&Tx<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let failed = |source| Error::Transaction {
            name: "read",
            source,
        };
        match &mut self.engine {
            Engine::Sqlite(database) => work(&Tx(&database.begin().map_err(failed)?)),
            Engine::Postgres(session) => {
                session.begin_reading();
                let value = work(&Tx(session.as_ref()));
                session.roll_back();
                value
            }
        }
    }

    /// The engine's own check of its pages, and that no row refers to one that is not there.
    pub fn check_pages(&self) -> Result<(), Error> {
        match &self.engine {
            Engine::Sqlite(database) => database.check_pages(),
            // The server checks both by itself.
            Engine::Postgres(_) => Ok(()),
        }
    }

    /// Whether another coordinator has taken the store, or what became of a commit is not known: what is in memory
    /// is then worth nothing any more.
    pub fn is_lost(&self) -> bool {
        match &self.engine {
            Engine::Sqlite(_) => false,
            Engine::Postgres(session) => session.is_lost(),
        }
    }

    /// That nobody else can have written since; an error where that is not known. It costs nothing while the lease
    /// holds.
    pub fn confirm(&self) -> Result<(), Error> {
        let Engine::Postgres(session) = &self.engine else {
            return Ok(());
        };
        session.confirm().map_err(|error| Error::Transaction {
            name: "confirm",
            source: error.into(),
        })
    }

    /// Who writes at present; `None` where nobody but this process can.
    pub fn leader(&self) -> Result<Option<Leader>, Error> {
        let Engine::Postgres(session) = &self.engine else {
            return Ok(None);
        };
        let leader = session.leader().map_err(|error| Error::Transaction {
            name: "leader",
            source: error.into(),
        });
        leader.map(Some)
    }

    /// The right to write, where it is a lease.
    pub fn lease(&self) -> Option<Lease> {
        match &self.engine {
            Engine::Sqlite(_) => None,
            Engine::Postgres(session) => session.lease().cloned().map(Lease),
        }
    }

    /// Whether several processes can reach it.
    pub fn is_shared(&self) -> bool {
        matches!(self.engine, Engine::Postgres(_))
    }

    /// Writes the state, as it is at one instant, to the new file `to`.
    pub fn back_up(place: &Place, to: &Path) -> Result<(), Error> {
        match place {
            Place::File(path) => sqlite::backup::backup(path, to),
            Place::Server(_) => {
                let mut from = Self::look_at(place)?;
                copy::copy(&mut from, &mut Self::open(to)?)?;
                sqlite::backup::make_durable(to)
            }
        }
    }

    /// Copies the state in the file `from` to that place, which must hold nothing.
    pub fn bring_back(from: &Path, place: &Place) -> Result<Self, Error> {
        let mut to = Self::make_at(place)?;
        copy::copy(&mut Self::open(from)?, &mut to)?;
        Ok(to)
    }

    #[cfg(test)]
    fn damage(&mut self, sql: &str) {
        let Engine::Sqlite(database) = &self.engine else {
            panic!("of SQLite's alone");
        };
        database.raw().execute_batch(sql).expect("damage");
    }
}

fn damaged(error: impl std::fmt::Display) -> Error {
    Error::Damaged(error.to_string())
}

#[cfg(test)]
mod tests {
    use fedner_shared::event::Event;
    use fedner_shared::time::Time;

    use super::*;

    fn raw(store: &Store) -> &rusqlite::Connection {
        match &store.engine {
            Engine::Sqlite(database) => database.raw(),
            Engine::Postgres(_) => panic!("of SQLite's alone"),
        }
    }

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
        let pages: i64 = raw(&store)
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .expect("pages");
        raw(&store)
            .pragma_update(None, "max_page_count", pages + 1)
            .expect("limit");
        let long = "x".repeat(100_000);
        let error: Error = append(&mut store, &long).expect_err("no room");
        assert!(error.is_full(), "{error}");
        raw(&store)
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
            let set = raw(store).pragma_update(None, "query_only", yes);
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
