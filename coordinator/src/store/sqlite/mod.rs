//! SQLite: a file, and one connection that writes.

pub(super) mod backup;
mod schema;

use std::io;
use std::path::{Path, PathBuf};

use fedner_host::crash;
use fedner_host::files::sync_dir;
use fedner_host::machine::Machine;
use fedner_host::sqlite::{self, CommitError};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, OptionalExtension, ToSql, params_from_iter};

use super::sql::{Row, Statements, Value};
use super::{Error, Failure};

/// Statements that are kept ready.
const READY: usize = 64;

#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
}

impl Database {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let opened = |error: rusqlite::Error| Error::Open(error.into());
        let mut connection = Connection::open(path).map_err(opened)?;
        sqlite::configure(&connection).map_err(opened)?;
        schema::migrate(&mut connection)?;
        Ok(Self::of(connection, path))
    }

    pub(super) fn open_read_only(path: &Path) -> Result<Self, Error> {
        let opened = |error: rusqlite::Error| Error::Open(error.into());
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(opened)?;
        connection
            .pragma_update(None, "query_only", true)
            .map_err(opened)?;
        schema::check(&connection)?;
        Ok(Self::of(connection, path))
    }

    fn of(connection: Connection, path: &Path) -> Self {
        connection.set_prepared_statement_cache_capacity(READY);
        Self {
            connection,
            path: path.to_owned(),
        }
    }

    /// From now on commits are durable after [`sync`](Self::sync).
    pub(super) fn defer(&self) -> Result<(), Error> {
        let opened = |error: rusqlite::Error| Error::Open(error.into());
        sqlite::defer(&self.connection).map_err(opened)?;
        // The log's name must outlast a power cut too.
        self.path
            .parent()
            .map_or(Ok(()), sync_dir)
            .map_err(not_durable)
    }

    pub(super) fn sync(&self, machine: &dyn Machine) -> Result<(), Error> {
        crash::point("before sync", "store");
        let synced = machine
            .before_sync()
            .and_then(|()| sqlite::sync(&self.path));
        synced.map_err(not_durable)
    }

    pub(super) fn begin(&mut self) -> Result<Transaction<'_>, Failure> {
        Ok(Transaction(self.connection.transaction()?))
    }

    pub(super) fn check_pages(&self) -> Result<(), Error> {
        let opened = |error: rusqlite::Error| Error::Open(error.into());
        let orphan: Option<String> = self
            .connection
            .query_row("PRAGMA foreign_key_check", [], |row| row.get(0))
            .optional()
            .map_err(opened)?;
        if let Some(table) = orphan {
            let message = format!("a row of `{table}` refers to one that is missing");
            return Err(Error::Damaged(message));
        }
        let verdict: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(opened)?;
        if verdict == "ok" {
            Ok(())
        } else {
            Err(Error::Damaged(verdict))
        }
    }

    #[cfg(test)]
    pub(super) fn raw(&self) -> &Connection {
        &self.connection
    }
}

fn not_durable(source: io::Error) -> Error {
    let name = "sync";
    Error::Disk { name, source }
}

/// It is rolled back unless it is committed.
#[derive(Debug)]
pub(super) struct Transaction<'a>(rusqlite::Transaction<'a>);

impl Transaction<'_> {
    pub(super) fn commit(
        self,
        name: &'static str,
        machine: &dyn Machine,
    ) -> Result<(), CommitError<Failure>> {
        sqlite::commit(self.0, name, machine).map_err(|error| match error {
            CommitError::Database(error) => CommitError::Database(error.into()),
            CommitError::Disk(error) => CommitError::Disk(error),
        })
    }
}

impl Statements for Transaction<'_> {
    fn execute(&self, sql: &str, values: &[Value]) -> Result<usize, Failure> {
        let mut statement = self.0.prepare_cached(sql)?;
        Ok(statement.execute(params_from_iter(values))?)
    }

    fn write(&self, sql: &str, values: &[Value]) -> Result<(), Failure> {
        self.execute(sql, values).map(drop)
    }

    fn rows(&self, sql: &str, values: &[Value]) -> Result<Vec<Row>, Failure> {
        let mut statement = self.0.prepare_cached(sql)?;
        let columns = statement.column_count();
        let rows = statement.query_map(params_from_iter(values), |row| {
            let values = (0..columns).map(|column| value(row.get_ref(column)?));
            values.collect::<rusqlite::Result<_>>().map(Row)
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

fn value(value: ValueRef<'_>) -> rusqlite::Result<Value> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Text(_) => Value::Text(value.as_str()?.to_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
        // No table has a column of them.
        ValueRef::Real(number) => Value::Text(number.to_string()),
    })
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}
