//! The narrow layer between the queries and the engines that run them: statements with values in, rows out.
//!
//! The text of a query is the same for both engines. `?1`, `?2` stand for values.

use fedner_shared::id::InstitutionId;
use serde::de::DeserializeOwned;

use super::{Error, Failure, Tx, damaged};

/// What stands in a row, or for a `?` of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Value {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// Values for a statement, each of its own type.
macro_rules! values {
    ($($value:expr),* $(,)?) => {
        &[$($crate::store::sql::Value::from($value)),*] as &[$crate::store::sql::Value]
    };
}
pub(super) use values;

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Integer(value.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Integer(value.into())
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&InstitutionId> for Value {
    fn from(value: &InstitutionId) -> Self {
        Self::from(value.as_str())
    }
}

impl From<&[u8; 32]> for Value {
    fn from(value: &[u8; 32]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// What a query answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row(pub(super) Vec<Value>);

impl Row {
    pub(super) fn get<T: FromValue>(&self, column: usize) -> Result<T, Error> {
        let value = self.0.get(column).and_then(T::from_value);
        value.ok_or_else(|| damaged(format!("column {column} of a row is of another type")))
    }

    /// The text of a column, read as what it names.
    pub(super) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        column: usize,
    ) -> Result<T, Error> {
        self.get::<String>(column)?.parse().map_err(damaged)
    }

    pub(super) fn json<T: DeserializeOwned>(&self, column: usize) -> Result<T, Error> {
        serde_json::from_str(&self.get::<String>(column)?).map_err(damaged)
    }
}

/// What a column may be read as.
pub(super) trait FromValue: Sized {
    fn from_value(value: &Value) -> Option<Self>;
}

impl FromValue for i64 {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Integer(number) => Some(*number),
            Value::Null | Value::Text(_) | Value::Bytes(_) => None,
        }
    }
}

impl FromValue for u32 {
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value)?.try_into().ok()
    }
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value).map(|number| number != 0)
    }
}

impl FromValue for String {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.clone()),
            Value::Null | Value::Integer(_) | Value::Bytes(_) => None,
        }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Bytes(bytes) => Some(bytes.clone()),
            Value::Null | Value::Integer(_) | Value::Text(_) => None,
        }
    }
}

impl FromValue for [u8; 32] {
    fn from_value(value: &Value) -> Option<Self> {
        Vec::from_value(value)?.try_into().ok()
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Option<Self> {
        if *value == Value::Null {
            return Some(None);
        }
        T::from_value(value).map(Some)
    }
}

/// A transaction of an engine.
pub(super) trait Statements: std::fmt::Debug {
    /// Runs a statement that writes; how many rows it changed.
    fn execute(&self, sql: &str, values: &[Value]) -> Result<usize, Failure>;

    /// The same where nobody asks how many: an engine may send it later, before the next question or the commit. What
    /// is wrong with it shows then.
    fn write(&self, sql: &str, values: &[Value]) -> Result<(), Failure>;

    fn rows(&self, sql: &str, values: &[Value]) -> Result<Vec<Row>, Failure>;
}

impl Tx<'_> {
    pub(super) fn execute(
        &self,
        name: &'static str,
        sql: &str,
        values: &[Value],
    ) -> Result<usize, Error> {
        let done = self.0.execute(sql, values);
        done.map_err(|source| Error::Transaction { name, source })
    }

    /// The same where nobody asks how many rows changed.
    pub(super) fn write(
        &self,
        name: &'static str,
        sql: &str,
        values: &[Value],
    ) -> Result<(), Error> {
        let done = self.0.write(sql, values);
        done.map_err(|source| Error::Transaction { name, source })
    }

    /// What `read` makes of each row.
    pub(super) fn list<T>(
        &self,
        name: &'static str,
        sql: &str,
        values: &[Value],
        read: impl Fn(&Row) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let rows = self.0.rows(sql, values);
        let rows = rows.map_err(|source| Error::Transaction { name, source })?;
        rows.iter().map(read).collect()
    }

    /// The same of the first row, if there is one.
    pub(super) fn first<T>(
        &self,
        name: &'static str,
        sql: &str,
        values: &[Value],
        read: impl Fn(&Row) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let found = self.list(name, sql, values, read)?;
        Ok(found.into_iter().next())
    }

    /// The one value that a query answers with.
    pub(super) fn one<T: FromValue>(
        &self,
        name: &'static str,
        sql: &str,
        values: &[Value],
    ) -> Result<T, Error> {
        let found = self.first(name, sql, values, |row| row.get(0))?;
        found.ok_or_else(|| damaged(format!("`{name}` found nothing")))
    }
}
