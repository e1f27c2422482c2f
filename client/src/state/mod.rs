//! The client's database: everything that must survive a crash.
//!
//! One connection, one writer, every commit on disk before it returns. All SQL of the client is in
//! this folder.

mod consents;
mod decisions;
mod heads;
mod ledger;
mod plans;
mod policies;
mod receipts;
mod release;
mod schema;
mod secure;
mod session;
mod signing;
mod values;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fedner_host::files::another_owner;
use fedner_host::machine::Machine;
use fedner_host::machine::ThisMachine;
use fedner_host::sqlite::{self, CommitError};
use fedner_privacy::ledger as rules;
use fedner_session::Rejection;
use fedner_shared::digest::Digest;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign::{Signature, Signed};
use fedner_shared::time::Time;
use rusqlite::{Connection, Row, Transaction, TransactionBehavior};

pub use consents::{ConsentRecord, Standing};
pub use decisions::Decision;
pub use heads::Heads;
pub use plans::PlanRecord;
pub use policies::{PolicyRecord, PolicySource};
pub use receipts::{Asked, Receipt, ReceiptKind};
pub use release::PaidRelease;
pub use secure::SecureAttempt;
pub use values::{Contact, Contradiction, Forms, History};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the database {} cannot be opened: {source}{}", file.display(), owned(file))]
    Open {
        file: PathBuf,
        source: rusqlite::Error,
    },
    #[error("the database has schema {found}: this fedner-client reads {expected}")]
    Schema { expected: i64, found: i64 },
    #[error("the transaction `{name}` failed: {source}")]
    Transaction {
        name: &'static str,
        source: rusqlite::Error,
    },
    #[error("the transaction `{name}` failed: {source}")]
    Disk {
        name: &'static str,
        source: std::io::Error,
    },
    #[error("the database holds something that cannot be read: {0}")]
    Content(String),
    #[error("this institution was moved to {to} at {at}")]
    Moved { to: String, at: Time },
    #[error(transparent)]
    Heads(#[from] heads::Error),
    #[error(transparent)]
    Ledger(#[from] rules::Error),
    #[error(transparent)]
    Session(#[from] Rejection),
}

impl Error {
    pub fn refusal(&self) -> Option<Refusal> {
        let code = match self {
            Self::Open { .. } | Self::Schema { .. } | Self::Content(_) => Code::StateInvalid,
            Self::Moved { .. } => Code::DirectoryMoved,
            Self::Ledger(_) => Code::LedgerInvalid,
            Self::Heads(heads::Error::Behind(refusal)) => return Some(refusal.clone()),
            Self::Heads(heads::Error::File { .. })
            | Self::Transaction { .. }
            | Self::Disk { .. }
            | Self::Session(_) => return None,
        };
        Some(Refusal::new(code, self.to_string()))
    }
}

/// Whose the file is, where that is why it cannot be opened.
fn owned(file: &Path) -> String {
    another_owner(file).map_or_else(String::new, |owner| format!("; {owner}"))
}

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    connection: Arc<Mutex<Connection>>,
    machine: Arc<dyn Machine>,
    heads: Option<Heads>,
    /// Secrets that were let go may still lie in the log beside the file.
    stale_log: Arc<AtomicBool>,
    /// As it was when it was looked at last.
    ledger: Arc<Mutex<ledger::Verified>>,
}

impl Store {
    /// Opens the database, and makes it where there is none.
    pub fn open(file: &Path) -> Result<Self, Error> {
        let fault = |source| Error::Open {
            file: file.to_owned(),
            source,
        };
        let mut connection = Connection::open(file).map_err(fault)?;
        sqlite::configure(&connection).map_err(fault)?;
        sqlite::overwrite(&connection).map_err(fault)?;
        let found = sqlite::migrate(&mut connection, schema::MIGRATIONS).map_err(fault)?;
        if found != schema::VERSION {
            return Err(Error::Schema {
                expected: schema::VERSION,
                found,
            });
        }
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            machine: Arc::new(ThisMachine),
            heads: None,
            // Of a program that died before it could empty it.
            stale_log: Arc::new(AtomicBool::new(true)),
            ledger: Arc::default(),
        })
    }

    /// The same store, whose ledger's heads are kept in a second place too.
    #[must_use]
    pub fn with_heads(self, heads: Option<Heads>) -> Self {
        Self { heads, ..self }
    }

    /// The same store, on that machine's disk.
    #[must_use]
    pub fn with_machine(self, machine: Arc<dyn Machine>) -> Self {
        Self { machine, ..self }
    }

    /// Writes a whole copy of the database to a new file.
    pub fn copy_to(&self, file: &Path) -> Result<(), Error> {
        self.query("copy the database", |connection| {
            let path = file.to_string_lossy();
            connection.execute("VACUUM INTO ?1", [path.as_ref()])?;
            Ok(())
        })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while the lock was held rolled its transaction back.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` as one transaction: all of it is durable afterwards, or nothing of it happened.
    fn transaction<T>(
        &self,
        name: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let fault = |source| Error::Transaction { name, source };
        let mut connection = self.lock();
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(fault)?;
        let value = work(&transaction).map_err(fault)?;
        match sqlite::commit(transaction, name, self.machine.as_ref()) {
            Ok(()) => Ok(value),
            Err(CommitError::Database(source)) => Err(Error::Transaction { name, source }),
            Err(CommitError::Disk(source)) => Err(Error::Disk { name, source }),
        }
    }

    fn query<T>(
        &self,
        name: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        work(&self.lock()).map_err(|source| Error::Transaction { name, source })
    }

    /// Changes whenever another process has changed the database.
    pub fn outside_changes(&self) -> Result<i64, Error> {
        self.query("look for changes", |connection| {
            connection.query_row("PRAGMA data_version", [], |row| row.get(0))
        })
    }
}

/// A signed statement in the columns `body` and `signature`.
fn signed_of(row: &Row<'_>) -> rusqlite::Result<Signed> {
    let signature: [u8; 64] = row.get("signature")?;
    Ok(Signed {
        body: row.get("body")?,
        signature: Signature::from_bytes(signature),
    })
}

fn digest_of(row: &Row<'_>, column: &str) -> rusqlite::Result<Digest> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error| unreadable(Box::new(error)))
}

fn unreadable(error: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A store in a directory of its own, which can be opened again.
    pub(crate) struct Place {
        path: PathBuf,
        _own: Option<tempfile::TempDir>,
    }

    impl Place {
        pub(crate) fn new() -> Self {
            let own = tempfile::tempdir().expect("directory");
            Self {
                path: own.path().to_owned(),
                _own: Some(own),
            }
        }

        /// One that another process made, and keeps.
        pub(crate) fn from_path(path: PathBuf) -> Self {
            Self { path, _own: None }
        }

        pub(crate) fn path(&self) -> &Path {
            &self.path
        }

        pub(crate) fn open(&self) -> Store {
            Store::open(&self.path.join("state.sqlite")).expect("store")
        }

        /// A person revoked a consent to that plan.
        pub(crate) fn decide_on(&self, plan: &Digest) {
            let sql = "INSERT INTO consents (plan, body, signature, revoked_ms) VALUES (?1, '{}', x'00', 1)";
            let store = self.open();
            let done = store.lock().execute(sql, [plan.to_string()]);
            done.expect("decided");
        }

        /// Every later insert into `table` fails, as a full disk would make it.
        pub(crate) fn break_table(&self, table: &str) {
            let store = self.open();
            let sql = format!(
                "CREATE TRIGGER broken BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'disk'); END"
            );
            store.lock().execute_batch(&sql).expect("trigger");
        }
    }

    #[test]
    fn another_schema_is_refused() {
        let place = Place::new();
        let store = place.open();
        store
            .lock()
            .pragma_update(None, "user_version", 99)
            .expect("version");
        drop(store);
        let error = Store::open(&place.path().join("state.sqlite")).expect_err("other schema");
        assert!(matches!(error, Error::Schema { found: 99, .. }), "{error}");
    }

    #[test]
    fn a_change_of_another_process_is_noticed_and_an_own_one_is_not() {
        let place = Place::new();
        let (daemon, command) = (place.open(), place.open());
        let before = daemon.outside_changes().expect("version");
        daemon.save_contact(&Contact::default()).expect("saved");
        assert_eq!(daemon.outside_changes().expect("version"), before);
        let failure = Some("gone".to_owned());
        let contact = Contact {
            failure,
            ..Contact::default()
        };
        command.save_contact(&contact).expect("saved");
        assert_ne!(daemon.outside_changes().expect("version"), before);
    }
}
