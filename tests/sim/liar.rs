//! A coordinator that changes what it once said, and honest members that notice.
//!
//! Whoever runs the coordinator holds its database and computes a sound chain of whatever it likes. What it cannot
//! do is take back the heads that members were shown.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fedner_shared::digest::Digest;
use fedner_shared::event::Entry;
use fedner_shared::history::Head;
use fedner_shared::time::Time;
use rusqlite::{Connection, params};

use crate::op::{Op, Scenario, Setting};
use crate::plans::SITES;
use crate::world::World;

/// How the past is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// All of it, from the first event on.
    Rewrite,
    /// The last events are others, as many as before.
    Fork,
    /// The last events are gone.
    Truncate,
    /// Nothing: a restart alone.
    Nothing,
}

/// Runs a federation into its second round, has the coordinator change its past, and returns for each site
/// whether it noticed.
pub(crate) fn run(lie: Lie, seed: u64) -> Result<Vec<bool>> {
    let setting = Setting {
        noise: false,
        ..Setting::plain(3, 2, 4)
    };
    // Networks as they are; nobody is kept away for good.
    let ops = vec![
        Op::Slow {
            site: seed as usize % 3,
            millis: 900,
        },
        Op::Wait { seconds: 20 },
        Op::Lossy {
            site: (seed as usize + 1) % 3,
            percent: 10,
        },
        Op::Wait { seconds: 20 },
    ];
    let mut world = World::new(&Scenario {
        seed,
        setting,
        ops: ops.clone(),
    })?;
    world.begin()?;
    for op in ops {
        world.apply(op)?;
    }
    world.apply(Op::Crash {
        machine: 0,
        power: false,
    })?;
    // Whoever was shown anything: of the others a new coordinator is as good as the old one.
    let shown = world.sites(|store| {
        let newest = store.history()?.newest.context("a head")?;
        Ok(newest.peek::<Head>()?.size)
    })?;
    let least = shown.iter().copied().min().context("a site")?;
    tell(lie, &world.coordinator_database(), least)?;
    world.apply(Op::Restart { machine: 0 })?;
    for site in 0..SITES.len().min(3) {
        world.apply(Op::Heal { site })?;
    }
    world.pass(Duration::from_mins(2))?;
    world.sites(|store| Ok(!store.history()?.contradictions.is_empty()))
}

/// Changes the database. Every member was shown at least the first `shown` events.
fn tell(lie: Lie, database: &Path, shown: u64) -> Result<()> {
    let connection = Connection::open(database)?;
    let from = match lie {
        Lie::Nothing => return Ok(()),
        Lie::Rewrite => 1,
        Lie::Fork | Lie::Truncate => shown.saturating_sub(1).max(1),
    };
    if lie == Lie::Truncate {
        connection.execute("DELETE FROM events WHERE sequence >= ?1", [from as i64])?;
        return Ok(());
    }
    let mut previous = match from {
        1 => Digest::from_bytes([0; 32]),
        _ => digest_of(&connection, from - 1)?,
    };
    for mut entry in entries(&connection, from)? {
        entry.time = Time::from_millis(entry.time.as_millis() + 1);
        entry.previous = previous;
        previous = entry.digest();
        connection.execute(
            "UPDATE events SET entry = ?2, digest = ?3 WHERE sequence = ?1",
            params![
                entry.sequence as i64,
                serde_json::to_string(&entry)?,
                previous.to_string()
            ],
        )?;
    }
    Ok(())
}

fn entries(connection: &Connection, from: u64) -> Result<Vec<Entry>> {
    let sql = "SELECT entry FROM events WHERE sequence >= ?1 ORDER BY sequence";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([from as i64], |row| row.get::<_, String>(0))?;
    rows.map(|row| Ok(serde_json::from_str(&row?)?)).collect()
}

fn digest_of(connection: &Connection, sequence: u64) -> Result<Digest> {
    let sql = "SELECT digest FROM events WHERE sequence = ?1";
    let text: String = connection.query_row(sql, [sequence as i64], |row| row.get(0))?;
    Ok(text.parse()?)
}

/// Every member notices every lie, whatever its network is like, and nobody complains of an honest restart.
pub(crate) fn every_member_notices(seeds: std::ops::Range<u64>) -> Result<()> {
    for seed in seeds {
        for lie in [Lie::Rewrite, Lie::Fork, Lie::Truncate, Lie::Nothing] {
            let noticed = run(lie, seed).with_context(|| format!("{lie:?}, seed {seed}"))?;
            let expected = lie != Lie::Nothing;
            ensure!(
                noticed.iter().all(|noticed| *noticed == expected),
                "{lie:?}, seed {seed}: noticed by {noticed:?}"
            );
        }
    }
    Ok(())
}
