//! The coordinator and the clients in simulated time, over a simulated network, on machines that
//! fail.
//!
//! | real | simulated |
//! |---|---|
//! | engine, run, store (SQLite), intake, aggregation, registry, gRPC services | the thread the engine runs on |
//! | the client's daemon, session, store, consent, ledger, egress gate, transfers | training and evaluation |
//! | tonic, hyper and HTTP/2 on both sides | TCP ([turmoil](https://docs.rs/turmoil)); TLS, for which the certificate is sent ahead |
//! | files of uploads and downloads under way | objects of the coordinator, in memory |
//! | noise and rounding, from the operating system | clocks, jitter, disk errors, power |
//!
//! A scenario is a setting and a list of operations ([`op`]), made up from a seed and shrunk by
//! proptest. After each operation a naive model ([`model`]) follows the events and looks at what
//! is on the disks. Work that blocks is done in place and every choice comes from the seed; only the
//! noise, whose generator nothing may replace, is drawn afresh, and histories therefore name digests
//! in the order of their appearance. One seed nearly always gives one history. Not always: something
//! below the coordinator and the client can still move a message by a tick of 100 ms, more often on
//! a busy machine, and what is close together may then change places.
//!
//! `FEDNER_SIM_SEEDS=10000 cargo test -p fedner-tests --test sim -- --nocapture` runs as many
//! seeds as asked, `FEDNER_SIM_SEED=17` runs one and shows its history.

mod campaign;
mod duplicate;
mod forge;
mod hosts;
mod liar;
mod logs;
mod machine;
mod model;
mod naive;
mod network;
mod objects;
mod op;
mod outsider;
mod place;
mod plans;
mod prepared;
mod trainer;
mod world;

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fedner_shared::plan::Strategy;

/// Seeds of an ordinary `cargo test`.
const SEEDS: u64 = 200;

/// Held by each test: two simulations beside each other in one process still share something that
/// moves messages by a tick, so that a history is its seed's only where it runs alone.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[test]
fn federations_keep_their_promises_whatever_happens() {
    let _alone = alone();
    if let Some(seed) = variable("FEDNER_SIM_SEED") {
        let scenario = campaign::scenario_of(seed);
        say(&format!("{scenario:#?}"));
        let report = campaign::run(&scenario).expect("the seed passes");
        say(&report.log.join("\n"));
        return;
    }
    let seeds = variable("FEDNER_SIM_SEEDS").unwrap_or(SEEDS);
    let first = variable("FEDNER_SIM_FIRST").unwrap_or(0);
    let summary = campaign::run_seeds(first..first + seeds);
    say(&format!("{summary:#?}"));
    assert!(
        summary.failures.is_empty(),
        "{}",
        summary.failures.join("\n\n")
    );
    assert_eq!(summary.seeds, seeds);
    assert!(
        summary.published > 0,
        "no federation ever published anything"
    );
}

/// While a run recruits, each consent wakes whoever waits: two that took turns would never end.
#[test]
fn two_consents_to_one_plan_in_one_check_in_are_refused() {
    let _alone = alone();
    let setting = op::Setting {
        sites: 2,
        quorum: 2,
        rounds: 1,
        noise: true,
        poor: false,
        shy: false,
        training: 5,
        strategy: Strategy::FedAvg,
        optimizer: None,
        guarded: false,
    };
    let scenario = op::Scenario {
        seed: 1,
        setting,
        ops: vec![
            op::Op::Wait { seconds: 30 },
            op::Op::Partition { site: 1 },
            op::Op::SecondRun,
            op::Op::TwoConsents { site: 0 },
        ],
    };
    let report = campaign::run(&scenario).expect("passes");
    let said = |text: &str| report.log.iter().any(|line| line.contains(text));
    let refused = said("two consents of anna: Err(Refused(ConsentInvalid))");
    assert!(refused, "{:#?}", report.log);
    assert_eq!(report.published, 2, "{:#?}", report.log);
}

/// The history of events only grows, and whoever was shown it can tell.
#[test]
fn a_coordinator_that_rewrites_forks_or_truncates_its_history_is_found_out_by_every_member() {
    let _alone = alone();
    let (outcome, errors) = logs::errors_of(|| liar::every_member_notices(0..4));
    outcome.expect("noticed");
    let told = errors.iter().any(|line| line.contains("history-rewritten"));
    assert!(told, "{errors:?}");
}
