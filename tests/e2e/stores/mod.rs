//! The state in SQLite and in PostgreSQL: the same conduct on both, and on a server that goes away.

mod older;
mod script;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fedner_coordinator::config::Paths;
use fedner_coordinator::store::{Error, Place, Store, Taken, Terms, Tx};
use fedner_shared::digest::Digest;
use fedner_shared::event::Event;
use fedner_tests::postgres::Postgres;
use fedner_tests::proxy::Proxy;
use fedner_tests::s3::S3;
use fedner_tests::skip::skipped;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::crash::{Federation, undisturbed};
use crate::setting::{MINUTES, PROTECTED, Setting, plan, refused};
use script::{NAMES, ensure_eq, inconsistent, time, told, version, write};

/// A server's database, asked by the password that its owner has.
fn place(folder: &Path, address: &str, database: &str) -> Result<Place> {
    let url = Postgres::url(address, database);
    let environment = [(
        "PGPASSWORD".to_owned(),
        fedner_tests::postgres::PASSWORD.to_owned(),
    )];
    Ok(Place::at(
        &Paths::new(folder),
        Some(&url),
        &environment.into_iter().collect(),
    )?)
}

/// What fails leaves nothing behind, and a transaction sees what it wrote.
fn is_all_or_nothing(store: &mut Store) -> Result<()> {
    let before = store.read(|tx| tx.last_sequence())?;
    let failed: Result<(), Error> = store.transact("in vain", |tx| {
        tx.append_event(time(1), None, Event::RunStarted)?;
        ensure_eq(tx.last_sequence()?, before + 1)?;
        Err(inconsistent("on purpose"))
    });
    ensure!(failed.is_err());
    let twice: Result<(), Error> = store.transact("twice", |tx| {
        tx.append_event(time(1), None, Event::RunStarted)?;
        tx.put_version(&version(1).map_err(inconsistent)?).map(drop)
    });
    ensure!(twice.is_err(), "a version is made once");
    ensure!(
        store.read(|tx| tx.last_sequence())? == before,
        "something stayed"
    );
    let orphan: Result<(), Error> = store.transact("orphan", |tx| {
        tx.put_alias(
            &"stray".parse().map_err(inconsistent)?,
            Digest::of(b"nobody"),
        )
    });
    ensure!(orphan.is_err(), "a reference to nothing");
    Ok(())
}

/// What is written into both is told by both.
fn go_on_alike(one: &mut Store, other: &mut Store) -> Result<()> {
    for store in [&mut *one, &mut *other] {
        store.transact("one more", |tx| {
            tx.put_ledger_head(&NAMES[0].parse().map_err(inconsistent)?, Digest::of(b"new"))?;
            tx.put_version(&version(4).map_err(inconsistent)?)?;
            tx.append_event(time(9), None, Event::RunStarted)
        })?;
    }
    pretty(&told(one)?, &told(other)?)
}

#[test]
fn the_same_is_kept_and_told_by_both_engines_and_moves_between_them() -> Result<()> {
    let Some(programs) = Postgres::programs() else {
        return skipped("the store on PostgreSQL", Postgres::NEEDED);
    };
    let folder = tempfile::tempdir()?;
    let server = Postgres::start(&programs)?;
    for name in ["first", "second", "third"] {
        server.create(name)?;
    }
    let at = |database: &str| place(folder.path(), &server.address(), database);
    let file = folder.path().join("a.sqlite");
    let mut sqlite = Store::open(&file)?;
    let mut postgres = Store::open_at(&at("first")?)?;
    write(&mut sqlite)?;
    write(&mut postgres)?;
    let wanted = told(&mut sqlite)?;
    pretty(&wanted, &told(&mut postgres)?)?;
    for store in [&mut sqlite, &mut postgres] {
        is_all_or_nothing(store)?;
        store.check_pages()?;
    }
    // From file to server, from server to file, and both go on alike.
    drop((sqlite, postgres));
    let mut moved = Store::bring_back(&file, &at("second")?)?;
    pretty(&wanted, &told(&mut moved)?)?;
    let again = Store::bring_back(&file, &at("second")?);
    ensure!(
        matches!(again, Err(Error::Taken)),
        "written over another federation"
    );
    drop(moved);
    let back = folder.path().join("b.sqlite");
    Store::back_up(&at("first")?, &back)?;
    let mut back = Store::open(&back)?;
    pretty(&wanted, &told(&mut back)?)?;
    back.check_pages()?;
    let mut moved = Store::open_at(&at("second")?)?;
    go_on_alike(&mut back, &mut moved)?;
    // A database that a program of another release left is brought up to date on its way.
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded");
    for release in fs::read_dir(recorded)? {
        let old = folder.path().join("old.sqlite");
        fs::copy(release?.path().join("coordinator/state.sqlite"), &old)?;
        let mut moved = Store::bring_back(&old, &at("third")?)?;
        let events = moved.read(|tx| tx.verify_chain())?;
        ensure!(events == Store::open(&old)?.read(|tx| tx.verify_chain())?);
        server.query("third", "DROP SCHEMA public CASCADE; CREATE SCHEMA public")?;
    }
    Ok(())
}

fn pretty(wanted: &str, found: &str) -> Result<()> {
    let different = wanted.lines().zip(found.lines()).find(|(a, b)| a != b);
    ensure!(wanted == found, "{different:#?}");
    Ok(())
}

/// Two events, which stand together or not at all.
fn append(store: &mut Store, number: i64) -> Result<(), Error> {
    store.transact("append", |tx: &Tx<'_>| {
        let before = tx.last_sequence()?;
        tx.append_event(time(number), None, Event::RunStarted)?;
        tx.append_event(
            time(number),
            None,
            Event::RunFailed {
                reason: "x".repeat(200),
            },
        )?;
        ensure_eq(tx.last_sequence()?, before + 2)
    })
}

#[test]
fn a_connection_that_breaks_anywhere_loses_and_doubles_no_commit() -> Result<()> {
    let Some(programs) = Postgres::programs() else {
        return skipped("a store whose connection breaks", Postgres::NEEDED);
    };
    let folder = tempfile::tempdir()?;
    let mut server = Postgres::start(&programs)?;
    server.create("north")?;
    let proxy = Arc::new(Proxy::start(&server.address())?);
    let mut store = Store::open_at(&place(folder.path(), &proxy.address(), "north")?)?;
    append(&mut store, 0)?;
    let over = Arc::new(AtomicBool::new(false));
    let (wire, ended) = (proxy.clone(), over.clone());
    let mending = thread::spawn(move || {
        let mut mended = 0;
        while !ended.load(Ordering::SeqCst) {
            if wire.is_cut() {
                wire.mend();
                mended += 1;
            }
            thread::sleep(Duration::from_millis(5));
        }
        mended
    });
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let count = 80;
    for number in 1..=count {
        // Anywhere in what one transaction says, or in what it is answered.
        let lane = if random.random() {
            proxy.up()
        } else {
            proxy.down()
        };
        lane.cut_after(random.random_range(1..1500));
        append(&mut store, number)?;
        ensure!(store.read(|tx| tx.last_sequence())? == 2 * number as u64 + 2);
    }
    // The server itself dies, and comes back.
    server.kill()?;
    thread::scope(|scope| {
        let appended = scope.spawn(|| append(&mut store, count + 1));
        thread::sleep(Duration::from_millis(500));
        server.resume()?;
        appended.join().map_err(|_| anyhow::anyhow!("a panic"))??;
        Ok::<_, anyhow::Error>(())
    })?;
    over.store(true, Ordering::SeqCst);
    let mended = mending.join().map_err(|_| anyhow::anyhow!("a panic"))?;
    ensure!(mended > 20, "{mended} breaks");
    let events = store.read(|tx| tx.verify_chain())?;
    ensure!(events == 2 * (count as u64 + 2), "{events} events");
    Ok(())
}

#[test]
fn a_leader_learns_within_a_lease_that_its_database_is_away() -> Result<()> {
    let Some(programs) = Postgres::programs() else {
        return skipped("a leader whose database is away", Postgres::NEEDED);
    };
    let folder = tempfile::tempdir()?;
    let server = Postgres::start(&programs)?;
    server.create("north")?;
    let wire = Proxy::start(&server.address())?;
    let terms = Terms {
        length: Duration::from_secs(2),
        ..Terms::default()
    };
    let place = place(folder.path(), &wire.address(), "north")?;
    let Taken::Ours(mut store) = Store::take_at(&place, &terms)? else {
        bail!("nobody else is there");
    };
    append(&mut store, 1)?;
    store.confirm()?;
    wire.cut();
    // While the lease holds nobody can have written: what is in memory is true.
    store.confirm()?;
    thread::sleep(2 * terms.length);
    let began = Instant::now();
    let away = store.confirm().expect_err("it cannot be renewed");
    let code = away.code().context("a code")?;
    ensure!(code.as_str() == "store-unreachable", "{away}");
    ensure!(began.elapsed() < Duration::from_secs(10), "it took long");
    ensure!(!store.is_lost(), "nobody else has taken it");
    wire.mend();
    store.confirm()?;
    Ok(append(&mut store, 2)?)
}

#[test]
fn a_second_coordinator_waits_for_the_first_and_then_the_first_is_refused() -> Result<()> {
    let Some(programs) = Postgres::programs() else {
        return skipped("two coordinators with one store", Postgres::NEEDED);
    };
    let folder = tempfile::tempdir()?;
    let server = Postgres::start(&programs)?;
    server.create("north")?;
    let far = Proxy::start(&server.address())?;
    let place_by = |address: &str| place(folder.path(), address, "north");
    let place = place_by(&server.address())?;
    let mut first = Store::open_at(&place_by(&far.address())?)?;
    append(&mut first, 1)?;
    let mut looking = Store::look_at(&place)?;
    let held = Store::open_at(&place).expect_err("the first one lives");
    ensure!(
        held.code()
            .is_some_and(|code| code.as_str() == "store-taken"),
        "{held}"
    );
    append(&mut first, 2)?;
    let newest = |store: &mut Store| store.read(|tx| tx.last_sequence());
    ensure!(newest(&mut first)? == 4);
    // Asked again, it is told from memory while the lease holds.
    far.stall();
    ensure!(newest(&mut first)? == 4);
    far.mend();
    // Thought dead, and back again.
    far.cut();
    let mut second = Store::open_at(&place)?;
    far.mend();
    let stale = newest(&mut first).expect_err("another may have written");
    ensure!(
        stale
            .code()
            .is_some_and(|code| code.as_str() == "store-taken"),
        "{stale}"
    );
    let refused = append(&mut first, 3).expect_err("another writes");
    ensure!(
        refused
            .code()
            .is_some_and(|code| code.as_str() == "store-taken"),
        "{refused}"
    );
    ensure!(first.is_lost() && !second.is_lost());
    ensure!(append(&mut looking, 4).is_err(), "who looks does not write");

    // One that stands still in the middle holds nobody up for long, and what it wrote is not written.
    let began = Instant::now();
    let mut third = thread::scope(|scope| {
        let still = scope.spawn(|| {
            second.transact("stands still", |tx| {
                tx.append_event(time(5), None, Event::RunStarted)?;
                thread::sleep(Duration::from_secs(8));
                Ok::<_, Error>(())
            })
        });
        thread::sleep(Duration::from_millis(500));
        let mut third = Store::open_at(&place)?;
        append(&mut third, 6)?;
        let refused = still.join().map_err(|_| anyhow::anyhow!("a panic"))?;
        let refused = refused.expect_err("another writes");
        ensure!(
            refused
                .code()
                .is_some_and(|code| code.as_str() == "store-taken"),
            "{refused}"
        );
        Ok::<_, anyhow::Error>(third)
    })?;
    ensure!(
        began.elapsed() < Duration::from_secs(30),
        "it held the other up"
    );
    ensure!(
        third.read(|tx| tx.verify_chain())? == 6,
        "two events of three commits"
    );
    ensure!(looking.read(|tx| tx.verify_chain())? == 6);
    Ok(())
}

#[test]
fn deaths_of_coordinator_and_database_change_nothing_on_postgresql_and_s3() -> Result<()> {
    let (Some(programs), Some(python)) = (Postgres::programs(), S3::python()) else {
        let needed = format!("{}; {}", Postgres::NEEDED, S3::NEEDED);
        return skipped("a federation on PostgreSQL and S3", &needed);
    };
    let folder = tempfile::tempdir()?;
    let mut server = Postgres::start(&programs)?;
    server.create("north")?;
    let objects = S3::start(&python, &folder.path().join("log"))?;
    let engines = Postgres::engines(&server.address(), "north").and(S3::engines(objects.address()));
    let mut federation = Federation::start_in(Setting::with_model_on(engines)?, &[], &[])?;
    let directory = federation.setting.cluster.coordinator_directory();
    ensure!(
        !directory.join("state.sqlite").exists(),
        "nothing lies in the directory"
    );
    let run = federation.create_run()?;
    let began = Instant::now();
    let mut done = 0;
    let weights = federation.finish(&run, |federation| {
        // One death of each comes at once, so that no machine is too fast for them.
        let due = done < 2 || began.elapsed() > Duration::from_millis(700 * done);
        if !due || done == 4 {
            return Ok(());
        }
        done += 1;
        if done % 2 == 1 {
            return federation.setting.cluster.kill_coordinator();
        }
        server.kill()?;
        thread::sleep(Duration::from_millis(300));
        server.resume()
    })?;
    ensure!(done > 1, "{done} deaths");
    ensure!(weights == undisturbed()?.weights, "the weights differ");
    Ok(())
}

#[test]
fn a_federation_moves_to_postgresql_and_back_in_the_middle_of_a_run() -> Result<()> {
    let Some(programs) = Postgres::programs() else {
        return skipped("a move to PostgreSQL", Postgres::NEEDED);
    };
    let server = Postgres::start(&programs)?;
    server.create("north")?;
    let mut engines = Postgres::engines(&server.address(), "north");
    engines.init.clear();
    let mut setting = Setting::with_model_on(engines)?;
    setting.start_institutions(2, 8)?;
    let cohort = "away_after_s = 600\nrelease_after_s = 1";
    let run = setting.start_run(&plan(2, 2, 6, "full", cohort, PROTECTED))?;
    let directory = setting.cluster.coordinator_directory();
    let line = format!(
        "store_url = \"{}\"\n",
        Postgres::url(&server.address(), "north")
    );
    for (round, place) in [(2, line.as_str()), (4, "")] {
        setting.wait_until(&run, MINUTES, |view| view["round"].as_u64() >= Some(round))?;
        setting
            .cluster
            .coordinate_quietly(&["run", "pause", &run])?;
        // What was under way comes to its end, and no other round begins.
        let mut published = setting.published()?;
        loop {
            thread::sleep(Duration::from_secs(2));
            let now = setting.published()?;
            if now == published {
                break;
            }
            published = now;
        }
        let backup = setting.path(&format!("backup-{round}"));
        let to = backup.to_str().context("path")?;
        setting.cluster.coordinate(&["backup", "--to", to])?;
        setting.cluster.kill_coordinator()?;
        let config = backup.join("coordinator.toml");
        let text = fs::read_to_string(&config)?;
        let others: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with("store_url"))
            .collect();
        fs::write(&config, format!("{place}{}\n", others.join("\n")))?;
        fs::remove_dir_all(&directory)?;
        setting.cluster.coordinate(&["restore", "--from", to])?;
        ensure!(directory.join("state.sqlite").exists() == place.is_empty());
        setting.cluster.start_coordinator()?;
        // What has been published by then stays as it is.
        ensure!(setting.published()?.starts_with(&published));
        setting
            .cluster
            .coordinate_quietly(&["run", "resume", &run])?;
    }
    setting.wait_for_state(&run, "completed", 2 * MINUTES)?;
    ensure!(setting.published()?.len() == 6);
    setting.assert_replays()
}

#[test]
fn a_database_that_cannot_be_used_is_told_apart_by_its_code() -> Result<()> {
    let Some(programs) = Postgres::programs() else {
        return skipped("a database that cannot be used", Postgres::NEEDED);
    };
    let server = Postgres::start(&programs)?;
    server.create("north")?;
    let setting = Setting::with_model_on(Postgres::engines(&server.address(), "north"))?;
    let config = setting
        .cluster
        .coordinator_directory()
        .join("coordinator.toml");
    let text = fs::read_to_string(&config)?;
    let verify = |from: &str, to: &str, word: Option<&str>| -> Result<String> {
        fs::write(&config, text.replace(from, to))?;
        let mut command: Command = setting.cluster.coordinator_command(&["verify"])?;
        if let Some(word) = word {
            command.env("PGPASSWORD", word);
        }
        let said = refused(command)?;
        ensure!(!said.contains(fedner_tests::postgres::PASSWORD), "{said}");
        Ok(said)
    };
    let contains = |said: String, code: &str| {
        ensure!(said.contains(code), "{said}");
        Ok(())
    };
    contains(verify("", "", Some("wrong"))?, "store-forbidden")?;
    contains(verify("/north", "/south", None)?, "store-unknown")?;
    contains(
        verify(&server.address(), "127.0.0.1:1", None)?,
        "store-unreachable",
    )?;
    let with_word = format!("fedner:{}@", fedner_tests::postgres::PASSWORD);
    contains(verify("fedner@", &with_word, None)?, "config-invalid")?;
    fs::write(&config, &text)?;
    // A second federation finds no room in the first one's database.
    let mut command = Command::new(&fedner_tests::binaries::binaries()?.coordinator);
    command
        .env("PGPASSWORD", fedner_tests::postgres::PASSWORD)
        .arg("--dir")
        .arg(setting.path("second"))
        .args(["init", "--name", "second", "--address", "127.0.0.1:1"])
        .args(["--store-url", &Postgres::url(&server.address(), "north")]);
    contains(refused(command)?, "already-exists")
}
