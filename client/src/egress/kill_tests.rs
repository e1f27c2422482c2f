//! kill -9 of a process that releases, at any moment, never leaves the ledger short.
//!
//! The process is this test program again, running [`releasing_process`] alone: it releases update
//! after update, and "sends" each by adding its digest to a file before the coordinator's answer
//! is recorded. Whatever that file names must be paid for in the ledger as it stands afterwards.
//!
//! `FEDNER_KILLS` sets how many times; the long suite is
//! `FEDNER_KILLS=1000 cargo test --workspace --lib kill_never`.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use fedner_privacy::ledger::Stage;
use fedner_shared::statement::UpdateReceipt;

use super::*;

const DIRECTORY: &str = "FEDNER_KILL_DIRECTORY";
const KILLS: usize = 40;
/// Between the first release and the kill, at most.
const LIFE_US: u64 = 60_000;

fn wire(bench: &Bench) -> PathBuf {
    bench.place.path().join("wire")
}

#[test]
#[ignore = "only as the process that the other test kills"]
fn releasing_process() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let bench = Bench::at(PathBuf::from(directory));
    let mut wire = OpenOptions::new()
        .create(true)
        .append(true)
        .open(wire(&bench))
        .expect("wire");
    for round in 1.. {
        let released = bench.release(round, &[0.01; 15], NOW).expect("released");
        writeln!(wire, "{}", released.blob()).expect("sent");
        let receipt = released.receipt().digest();
        bench
            .place
            .open()
            .mark_taken(&receipt, NOW)
            .expect("confirmed");
    }
}

#[test]
fn kill_never_leaves_the_ledger_short() {
    let kills = std::env::var("FEDNER_KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok());
    let kills: usize = kills.unwrap_or(KILLS);
    let (mut left, mut debits, mut unconfirmed) = (0, 0, 0);
    let mut bench = Bench::unlimited();
    for kill in 0..kills {
        // A ledger grows with the releases before it; a new one keeps each start short.
        if kill % 25 == 24 {
            bench = Bench::unlimited();
        }
        release_and_kill(&bench);
        let (sent, paid, confirmed) = assert_paid(&bench);
        left += sent;
        debits += paid;
        unconfirmed += paid - confirmed;
    }
    assert!(left > 0 && debits >= left, "{left} left, {debits} debits");
    assert!(
        unconfirmed > 0 || kills < KILLS,
        "every kill came between two releases"
    );
}

fn release_and_kill(bench: &Bench) {
    let mut process = Command::new(std::env::current_exe().expect("program"))
        .args([
            "--exact",
            "egress::tests::kill_tests::releasing_process",
            "--ignored",
        ])
        .env(DIRECTORY, bench.place.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("process");
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("randomness");
    let begun = fs::metadata(wire(bench)).map_or(0, |file| file.len());
    // A few kills come before the first release, most after it.
    let waits = u64::from_le_bytes(random) % 8 > 0;
    for _ in 0..2000 {
        let now = fs::metadata(wire(bench)).map_or(0, |file| file.len());
        if now > begun || !waits {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_micros(
        u64::from_le_bytes(random) / 8 % LIFE_US,
    ));
    process.kill().expect("SIGKILL");
    process.wait().expect("ended");
}

/// How many updates left, how many debits the ledger has, and how many confirmations.
fn assert_paid(bench: &Bench) -> (usize, usize, usize) {
    let store = bench.place.open();
    let ledger = store.ledger().expect("the chain is whole");
    let receipts = store.receipts().expect("receipts");
    let sent = fs::read_to_string(wire(bench)).unwrap_or_default();
    // The last line may have been cut in the middle: then it did not leave whole.
    let sent: BTreeSet<&str> = sent.lines().filter(|line| line.len() == 64).collect();
    for blob in &sent {
        let receipt = receipts
            .iter()
            .find(|receipt| {
                receipt
                    .blob
                    .is_some_and(|found| found.to_string() == **blob)
            })
            .unwrap_or_else(|| panic!("{blob} left without a receipt"));
        let update: UpdateReceipt = receipt.signed.peek().expect("receipt");
        let debit = ledger
            .entries()
            .iter()
            .find(|entry| Some(entry.digest()) == update.ledger_head);
        let stage = debit.map(|entry| entry.stage);
        assert_eq!(stage, Some(Stage::Debited), "{blob} left without a debit");
    }
    let account = account(&identity().institution, bench.plan.privacy.unit);
    let [paid, confirmed] =
        [Stage::Debited, Stage::Confirmed].map(|stage| ledger.count(&account, stage));
    assert!(paid >= sent.len(), "{} left, {paid} paid", sent.len());
    let least = ledger
        .entries()
        .first()
        .and_then(|entry| entry.debit.cost.rho());
    let spent = ledger.rho(&account, None);
    assert!(
        spent >= least.unwrap_or(0.0) * paid as f64 * (1.0 - 1e-9),
        "{spent}"
    );
    (sent.len(), paid, confirmed)
}

impl Bench {
    fn unlimited() -> Self {
        let bench = Self::unlimited_at(Place::new());
        bench.consent();
        bench
    }

    /// In the directory of another process, which has made everything.
    fn at(path: PathBuf) -> Self {
        Self::unlimited_at(Place::from_path(path))
    }

    fn unlimited_at(place: Place) -> Self {
        let mut plan = plan("institution");
        plan.privacy.max_epsilon = 1e9;
        let policy = Policy {
            max_epsilon_run: 1e9,
            max_epsilon_total: 1e9,
            ..Policy::default()
        };
        Self {
            place,
            plan,
            policy,
        }
    }
}
