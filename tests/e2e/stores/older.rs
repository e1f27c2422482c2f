//! Databases as programs of each older schema left them, brought up to date on both engines.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fedner_coordinator::store::{Place, Store};
use fedner_tests::postgres::Postgres;
use fedner_tests::skip::skipped;
use rusqlite::Connection;

use super::script::{told, write};
use super::{go_on_alike, is_all_or_nothing, place, pretty};

/// What has been released is never changed; so this copy of it stays as it is too.
const RELEASED: &str = include_str!("../../fixtures/sqlite-schemas.sql");

/// What each version adds to the one before.
fn steps() -> Vec<&'static str> {
    let sections = RELEASED.split("-- version ").skip(1);
    let sql = sections.filter_map(|section| section.split_once('\n'));
    sql.map(|(_, sql)| sql).collect()
}

/// An empty database of that schema.
fn empty(path: &Path, version: usize) -> Result<Connection> {
    let connection = Connection::open(path)?;
    for step in &steps()[..version] {
        connection.execute_batch(step)?;
    }
    connection.pragma_update(None, "user_version", version as i64)?;
    Ok(connection)
}

/// Of the tables of `of`, the names; of a table, the columns.
fn names(connection: &Connection, sql: &str, of: &str) -> Result<Vec<String>> {
    let mut asked = connection.prepare(sql)?;
    let names = asked.query_map([of], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

/// A database of that schema with whatever of `whole` it has room for.
fn filled(path: &Path, version: usize, whole: &Path) -> Result<()> {
    let connection = empty(path, version)?;
    let whole = whole.to_str().context("a path")?;
    connection.execute("ATTACH ?1 AS whole", [whole])?;
    let tables = names(
        &connection,
        "SELECT name FROM main.sqlite_master WHERE type = ?1 ORDER BY rowid",
        "table",
    )?;
    for table in tables {
        let columns = "SELECT name FROM pragma_table_info(?1, 'main')";
        let columns = names(&connection, columns, &table)?.join(", ");
        connection.execute_batch(&format!(
            "INSERT INTO main.{table} ({columns}) SELECT {columns} FROM whole.{table} ORDER BY rowid"
        ))?;
    }
    if version == 1 {
        // Members had no rows of their own.
        connection.execute_batch(
            "UPDATE runs SET snapshot = json_set(snapshot, '$.members', json((
                 SELECT json_group_object(institution, json(member)) FROM whole.members WHERE run = runs.id
             )))",
        )?;
    }
    Ok(())
}

/// What is told of that which every schema holds.
fn lasting(told: &str) -> Vec<&str> {
    let kinds = [
        "runs: ",
        "outbox: ",
        "events: ",
        "digests: ",
        "chain: ",
        "statements: ",
        "versions: ",
    ];
    let lasts = |line: &&str| kinds.iter().any(|kind| line.starts_with(kind));
    told.lines().filter(lasts).collect()
}

fn tables(path: &Path) -> Result<Vec<String>> {
    let connection = Connection::open(path)?;
    let sql = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND ?1 = '' ORDER BY name";
    names(&connection, sql, "")
}

#[test]
fn both_engines_keep_and_tell_the_same_from_each_older_schema() -> Result<()> {
    let Some(programs) = Postgres::programs() else {
        return skipped("older schemas on PostgreSQL", Postgres::NEEDED);
    };
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name);
    let server = Postgres::start(&programs)?;
    let whole = file("whole.sqlite");
    let mut present = Store::open(&whole)?;
    write(&mut present)?;
    let wanted = told(&mut present)?;
    drop(present);
    let newest = steps().len();
    for version in 1..=newest {
        // One that has what a program of then wrote.
        let old = file(&format!("{version}.sqlite"));
        filled(&old, version, &whole)?;
        let (mut sqlite, mut postgres) = both(&server, &old, &format!("filled{version}"))?;
        let kept = told(&mut sqlite)?;
        pretty(&kept, &told(&mut postgres)?)?;
        ensure!(
            lasting(&kept) == lasting(&wanted),
            "version {version} lost something"
        );
        ensure!(lasting(&kept).len() > 8, "little is compared");
        ensure!(version < newest || kept == wanted, "the newest holds all");
        go_on_alike(&mut sqlite, &mut postgres)?;

        // An empty one, in which the whole script is written.
        let old = file(&format!("empty-{version}.sqlite"));
        drop(empty(&old, version)?);
        let (mut sqlite, mut postgres) = both(&server, &old, &format!("empty{version}"))?;
        for store in [&mut sqlite, &mut postgres] {
            write(store)?;
            pretty(&wanted, &told(store)?)?;
            is_all_or_nothing(store)?;
            store.check_pages()?;
        }
    }
    // The steps that were released are those that the program still takes.
    let made = file(&format!("empty-{newest}.sqlite"));
    ensure!(
        tables(&made)? == tables(&whole)?,
        "a released step was changed"
    );
    Ok(())
}

/// The old database brought up to date where it is, and in a database of the server.
fn both(server: &Postgres, old: &Path, database: &str) -> Result<(Store, Store)> {
    let folder = old.parent().context("a folder")?;
    let copy = old.with_extension("copy");
    fs::copy(old, &copy)?;
    server.create(database)?;
    let to: Place = place(folder, &server.address(), database)?;
    let postgres = Store::bring_back(&copy, &to)?;
    Ok((Store::open(old)?, postgres))
}
