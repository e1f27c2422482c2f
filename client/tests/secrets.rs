//! Secrets that were let go leave no byte in the directory.

use std::fs;
use std::path::Path;

use fedner_client::state::{SecureAttempt, Store};
use fedner_shared::digest::Digest;
use fedner_shared::secure::{AttemptId, Told};
use fedner_shared::sign::SecretKey;
use rusqlite::Connection;

const FILE: &str = "state.sqlite";

fn secret(number: u64) -> Digest {
    Digest::of(format!("secret {number}").as_bytes())
}

fn attempt(number: u64) -> SecureAttempt {
    let of = AttemptId {
        run: "run-1".parse().expect("name"),
        plan: Digest::of(b"plan"),
        round: number as u32,
        attempt: 1,
        base: Digest::of(b"base"),
        number,
    };
    let mut attempt = SecureAttempt::new(of, *secret(number).as_bytes());
    // As large as what is told of an attempt: on pages of its own.
    let key = SecretKey::from_seed([number as u8; 32]).public();
    let name = |n: usize| format!("institution-{n}").parse().expect("name");
    attempt.told = Some(Told {
        signers: (0..100 * number as usize).map(|n| (name(n), key)).collect(),
        ..Told::default()
    });
    attempt
}

/// In which files the secret lies, as it is written there.
fn found(place: &Path, number: u64) -> Vec<String> {
    let text = secret(number).to_string();
    let mut files = Vec::new();
    for entry in fs::read_dir(place).expect("directory") {
        let path = entry.expect("entry").path();
        let bytes = fs::read(&path).expect("a file");
        if bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
        {
            files.push(path.display().to_string());
        }
    }
    files
}

const NOWHERE: Vec<String> = Vec::new();

#[test]
fn no_byte_of_a_secret_stays_once_it_is_let_go() {
    let place = tempfile::tempdir().expect("directory");
    let place = place.path();
    let store = Store::open(&place.join(FILE)).expect("store");
    // Somebody else has the database open all the time, as commands do.
    let beside = Store::open(&place.join(FILE)).expect("store");
    store.save_secure_attempt(&attempt(3)).expect("saved");
    assert_ne!(found(place, 3), NOWHERE);
    store.save_secure_attempt(&attempt(4)).expect("saved");
    assert_eq!(found(place, 3), NOWHERE);
    assert_ne!(found(place, 4), NOWHERE);
    store.save_secure_attempt(&attempt(5)).expect("saved");
    store.forget_secure_attempts(&[]).expect("forgotten");
    for number in [3, 4, 5] {
        assert_eq!(found(place, number), NOWHERE);
    }
    assert_eq!(beside.secure_attempt("run-1").expect("read"), None);
}

#[test]
fn a_reader_or_a_death_puts_it_off_and_no_more() {
    let place = tempfile::tempdir().expect("directory");
    let place = place.path();
    let store = Store::open(&place.join(FILE)).expect("store");
    store.save_secure_attempt(&attempt(1)).expect("saved");
    let reader = Connection::open(place.join(FILE)).expect("database");
    reader.execute_batch("BEGIN").expect("begun");
    let sql = "SELECT count(*) FROM notes";
    let count: i64 = reader.query_row(sql, [], |row| row.get(0)).expect("read");
    assert!(count > 0);
    store
        .forget_secure_attempts(&[])
        .expect("nobody is waited for");
    assert_ne!(found(place, 1), NOWHERE, "somebody reads it");
    reader.execute_batch("COMMIT").expect("ended");
    // The program that let it go has died, and another one looks after it without anything to let go.
    let other = Store::open(&place.join(FILE)).expect("store");
    other.forget_secure_attempts(&[]).expect("forgotten");
    assert_eq!(found(place, 1), NOWHERE);
}

/// The search finds what SQLite leaves behind by itself.
#[test]
fn without_overwriting_a_secret_stays() {
    let place = tempfile::tempdir().expect("directory");
    let file = place.path().join(FILE);
    let store = Store::open(&file).expect("store");
    store.save_secure_attempt(&attempt(1)).expect("saved");
    let plain = Connection::open(&file).expect("database");
    plain.execute("DELETE FROM notes", []).expect("deleted");
    let emptied = "PRAGMA wal_checkpoint(TRUNCATE)";
    let busy: i64 = plain
        .query_row(emptied, [], |row| row.get(0))
        .expect("emptied");
    assert_eq!(busy, 0);
    assert_ne!(found(place.path(), 1), NOWHERE);
}
