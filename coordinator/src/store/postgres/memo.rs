//! What whoever writes has read lately. Nobody else writes while the lease holds, so an answer stays right until a
//! statement of our own changes one of its tables.

use std::collections::HashMap;

use crate::store::sql::{Row, Value};

/// Larger answers are not kept.
const LARGEST: usize = 16 << 10;
/// All answers together; then it begins anew.
const MOST: usize = 16 << 20;
/// What an answer takes besides its values.
const OVERHEAD: usize = 128;

/// Answers by the text of the query, and by its values.
#[derive(Debug, Default)]
pub(super) struct Memo {
    answers: HashMap<String, HashMap<Vec<Value>, Vec<Row>>>,
    bytes: usize,
}

impl Memo {
    pub(super) fn get(&self, sql: &str, values: &[Value]) -> Option<Vec<Row>> {
        self.answers.get(sql)?.get(values).cloned()
    }

    pub(super) fn keep(&mut self, sql: &str, values: &[Value], rows: &[Row]) {
        let bytes = size(values, rows);
        if bytes > LARGEST {
            return;
        }
        if self.bytes + bytes > MOST {
            *self = Self::default();
        }
        self.bytes += bytes;
        let of_query = self.answers.entry(sql.to_owned()).or_default();
        of_query.insert(values.to_vec(), rows.to_vec());
    }

    /// A statement changes its table: no answer that has to do with it is right any more.
    pub(super) fn forget(&mut self, statement: &str) {
        let Some(table) = table_of(statement) else {
            *self = Self::default();
            return;
        };
        let gone = self.answers.extract_if(|sql, _| names(sql, table));
        let sizes = gone.flat_map(|(_, answers)| answers);
        let freed: usize = sizes.map(|(values, rows)| size(&values, &rows)).sum();
        self.bytes -= freed;
    }
}

fn size(values: &[Value], rows: &[Row]) -> usize {
    let cells = values.iter().chain(rows.iter().flat_map(|row| &row.0));
    let length = |value: &Value| match value {
        Value::Null | Value::Integer(_) => 0,
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
    };
    OVERHEAD
        + cells
            .map(|cell| size_of::<Value>() + length(cell))
            .sum::<usize>()
}

/// The table that a statement writes to.
fn table_of(statement: &str) -> Option<&str> {
    let mut words = statement.split_whitespace();
    match (words.next()?, words.next()?) {
        ("INSERT", "INTO") | ("DELETE", "FROM") => words.next(),
        ("UPDATE", table) => Some(table),
        _ => None,
    }
}

/// Whether the text of a query has that word.
fn names(sql: &str, table: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    sql.split(|c| !part(c)).any(|word| word == table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sql::values;

    fn row(number: i64) -> Vec<Row> {
        vec![Row(values![number].to_vec())]
    }

    #[test]
    fn an_answer_is_kept_until_one_of_its_tables_changes() {
        let mut memo = Memo::default();
        let plans = "SELECT signed FROM plans WHERE digest = ?1";
        let both = "SELECT 1 FROM runs JOIN plans ON plan = digest";
        let runs = "SELECT id FROM runs";
        let fill = |memo: &mut Memo| {
            memo.keep(plans, values!["a"], &row(1));
            memo.keep(plans, values!["b"], &row(2));
            memo.keep(both, values![], &row(3));
            memo.keep(runs, values![], &row(4));
        };
        fill(&mut memo);
        assert_eq!(memo.get(plans, values!["b"]), Some(row(2)));
        assert_eq!(memo.get(plans, values!["c"]), None);
        for change in [
            "UPDATE plans SET signed = ?2 WHERE digest = ?1",
            "INSERT INTO plans (digest, signed)\n VALUES (?1, ?2)",
            "DELETE FROM plans",
        ] {
            memo.forget(change);
            assert_eq!(memo.get(plans, values!["a"]), None, "{change}");
            assert_eq!(memo.get(both, values![]), None, "{change}");
            assert_eq!(memo.get(runs, values![]), Some(row(4)), "{change}");
            fill(&mut memo);
        }
        // Its name is not the beginning of another one's.
        memo.forget("DELETE FROM plan");
        assert_eq!(memo.get(plans, values!["a"]), Some(row(1)));
        memo.forget("TRUNCATE plans");
        assert!(memo.answers.is_empty(), "of whatever is not understood");
        assert_eq!(memo.bytes, 0);
    }

    #[test]
    fn it_holds_no_more_than_it_may() {
        let mut memo = Memo::default();
        let long = vec![Row(vec![Value::Bytes(vec![0; LARGEST])])];
        memo.keep("SELECT 1", values![], &long);
        assert_eq!(memo.get("SELECT 1", values![]), None);
        let some = vec![Row(vec![Value::Bytes(vec![0; LARGEST / 2])])];
        for number in 0..2 * (MOST / LARGEST) as i64 + 2 {
            memo.keep("SELECT a FROM b", values![number], &some);
            assert!(memo.bytes <= MOST);
        }
        memo.forget("DELETE FROM b");
        assert_eq!(memo.bytes, 0);
    }
}
