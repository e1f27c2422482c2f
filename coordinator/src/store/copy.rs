//! The whole state, from one engine to another.

use super::sql::{Value, values};
use super::{Error, Store, Tx};

/// Rows that are held in memory at a time.
const PAGE: i64 = 1000;

/// A table, and what says the order of its rows.
struct Table {
    name: &'static str,
    columns: &'static [&'static str],
    order: &'static str,
}

const fn table(name: &'static str, columns: &'static [&'static str], order: &'static str) -> Table {
    Table {
        name,
        columns,
        order,
    }
}

/// Each after those that its rows refer to. `rowid` says in which order rows came, and goes with them.
const TABLES: [Table; 20] = [
    table(
        "institutions",
        &["name", "state", "signing_key", "enrolled_ms", "expires_ms"],
        "name",
    ),
    table(
        "certificates",
        &[
            "serial",
            "institution",
            "expires_ms",
            "revoked",
            "authority",
        ],
        "serial",
    ),
    table(
        "invites",
        &[
            "rowid",
            "secret_hash",
            "institution",
            "expires_ms",
            "used_ms",
            "reenrol",
            "voided_ms",
            "used_by",
        ],
        "rowid",
    ),
    table("plans", &["digest", "signed"], "digest"),
    table("runs", &["id", "number", "plan", "snapshot"], "number"),
    table(
        "members",
        &["run", "institution", "member"],
        "run, institution",
    ),
    table(
        "outbox",
        &["run", "round", "sequence", "effect"],
        "run, round, sequence",
    ),
    table(
        "events",
        &["sequence", "run", "digest", "entry"],
        "sequence",
    ),
    table(
        "statements",
        &["rowid", "digest", "kind", "author", "author_key", "signed"],
        "rowid",
    ),
    table(
        "versions",
        &["rowid", "digest", "model", "number", "record"],
        "rowid",
    ),
    table("aliases", &["alias", "version"], "alias"),
    table(
        "scores",
        &["version", "institution", "scores"],
        "version, institution",
    ),
    table("audit_reports", &["rowid", "version", "report"], "rowid"),
    table("exports", &["version", "weights"], "version"),
    table(
        "histories_seen",
        &["institution", "size", "author_key", "signed"],
        "institution",
    ),
    table(
        "successions",
        &["number", "institution", "digest", "signed"],
        "number",
    ),
    table(
        "people",
        &["role", "name", "issued_ms", "expires_ms", "revoked_ms"],
        "role, name",
    ),
    table("ledger_heads", &["rowid", "institution", "head"], "rowid"),
    table(
        "presence",
        &["institution", "seen_ms", "software"],
        "institution",
    ),
    table("pruned", &["version", "what"], "version"),
];

/// Copies everything, as it is at one instant, into tables that are empty; all of it or nothing.
pub(super) fn copy(from: &mut Store, to: &mut Store) -> Result<(), Error> {
    from.read(|from| {
        to.transact("copy everything", |to| {
            for table in &TABLES {
                table.copy(from, to)?;
            }
            Ok(())
        })
    })
}

impl Table {
    fn copy(&self, from: &Tx<'_>, to: &Tx<'_>) -> Result<(), Error> {
        let Self {
            name,
            columns,
            order,
        } = self;
        let places: Vec<String> = (1..=columns.len()).map(|n| format!("?{n}")).collect();
        let columns = columns.join(", ");
        let take = format!("SELECT {columns} FROM {name} ORDER BY {order} LIMIT ?1 OFFSET ?2");
        let put = format!(
            "INSERT INTO {name} ({columns}) VALUES ({})",
            places.join(", ")
        );
        let mut done = 0;
        loop {
            let page: Vec<Vec<Value>> =
                from.list("copy from", &take, values![PAGE, done], |row| {
                    Ok(row.0.clone())
                })?;
            for row in &page {
                to.write("copy to", &put, row)?;
            }
            done += page.len() as i64;
            if (page.len() as i64) < PAGE {
                return Ok(());
            }
        }
    }
}
