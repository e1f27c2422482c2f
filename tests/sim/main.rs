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
//! A scenario is a setting and a list of operations ([`op`]), mishaps of institutions among them ([`mishap`]), made up from a seed and shrunk by
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
mod lying;
mod machine;
mod mishap;
mod model;
mod naive;
mod network;
mod objects;
mod op;
mod outsider;
mod place;
mod plans;
mod prepared;
mod secure;
mod trainer;
mod world;

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

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
        summary.published > summary.unmasked && summary.unmasked > 0,
        "no federation ever published anything, or none a sum of masked updates"
    );
}

/// Two institutions and a plan of `rounds` rounds with noise.
fn two_sites(rounds: u32) -> op::Setting {
    op::Setting::plain(2, 2, rounds)
}

/// While a run recruits, each consent wakes whoever waits: two that took turns would never end.
#[test]
fn two_consents_to_one_plan_in_one_check_in_are_refused() {
    let _alone = alone();
    let setting = two_sites(1);
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

/// Real agents answer once in an attempt, whatever the coordinator's database says afterwards.
#[test]
fn a_coordinator_that_goes_back_on_a_masked_attempt_gets_no_second_answer() {
    use world::masked_liar::{Lie, tell};
    let _alone = alone();
    for (seed, lie) in (0..3).flat_map(|seed| Lie::ALL.map(|lie| (seed, lie))) {
        let outcome = tell(lie, seed).expect("nothing is revealed");
        let text = format!("{lie:?}, seed {seed}: {outcome:?}");
        assert_eq!(outcome.refused > 0, lie != Lie::Nothing, "{text}");
        // The next attempt has fresh masks.
        assert_eq!(outcome.published, 2, "{text}");
    }
}

/// Beside the first program a copy of its directory gets no work, so that nothing is paid for twice.
#[test]
fn a_copy_of_a_directory_spends_nothing_while_the_first_one_works() {
    let _alone = alone();
    let setting = two_sites(3);
    let scenario = op::Scenario {
        seed: 1,
        setting,
        ops: Vec::new(),
    };
    let mut world = world::World::new(&scenario).expect("a world");
    world.begin().expect("begins");
    let mut apply = |op| world.apply(op).expect("applied");
    apply(op::Op::Clone { site: 0 });
    for _ in 0..10 {
        apply(op::Op::Wait { seconds: 4 });
    }
    let spent = world.spent(0).expect("ledgers");
    assert!(
        spent[0] >= 6,
        "three updates, paid for and confirmed: {spent:?}"
    );
    assert!(spent[1] <= 1, "what the first had begun: {spent:?}");
    // Nor does it take the first one's place once that is off: it knows less than was spent.
    world
        .apply(op::Op::Crash {
            machine: 1,
            power: false,
        })
        .expect("applied");
    world.apply(op::Op::SecondRun).expect("applied");
    world
        .pass(std::time::Duration::from_mins(2))
        .expect("passes");
    let alone = world.spent(0).expect("ledgers");
    assert_eq!(alone[0], spent[0], "it is off");
    assert_eq!(alone[1], spent[1], "it is an old copy");
}

/// Updates that are ready and paid for while the coordinator is suspended are taken when it goes on.
#[test]
fn a_coordinator_that_was_suspended_or_whose_clock_was_set_costs_nobody_an_attempt() {
    let _alone = alone();
    let suspended = op::Op::Sleep {
        machine: 0,
        seconds: 290,
    };
    let ahead = op::Op::ClockJump {
        machine: 0,
        seconds: 3600,
    };
    for fault in [suspended, ahead] {
        let setting = op::Setting {
            training: 7,
            ..op::Setting::plain(3, 3, 2)
        };
        let ops = vec![op::Op::Wait { seconds: 3 }, fault];
        let scenario = op::Scenario {
            seed: 1,
            setting,
            ops,
        };
        let report = campaign::run(&scenario).expect("passes");
        let said = |text: &str| report.log.iter().any(|line| line.contains(text));
        assert!(!said("round_repeated"), "{:#?}", report.log);
        assert_eq!(report.published, 2, "{:#?}", report.log);
    }
}

/// `FEDNER_SOAK=full` lets 20 institutions work for a year.
#[test]
fn a_federation_works_for_months_and_its_directories_stay_as_small_as_they_were() {
    let _alone = alone();
    let full = std::env::var("FEDNER_SOAK").is_ok_and(|soak| soak == "full");
    let (sites, days) = if full { (20, 366) } else { (3, 120) };
    let (year, errors) = logs::errors_of(|| world::soak(sites, days));
    let year = year.expect("nothing that should not be was refused");
    say(&format!("{year:#?}"));
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(year.runs, days.div_ceil(7));
    assert_eq!(year.published, 2 * year.runs as usize);
    // Each certificate holds for 90 days, and gives way in the last 30.
    assert!(year.renewed >= sites * (days as usize / 90), "{year:?}");
    assert!(year.pruned >= days as usize / 40, "{year:?}");
    let last = year.months.last().expect("months");
    // The versions that are kept, and those of a run since, each with its updates.
    let most = 6 * (sites + 2) + 10;
    let small = |month: &world::Sizes| month.objects <= most && month.files < 50_000;
    assert!(year.months.iter().all(small), "{year:#?}");
    // The write-ahead log stays at some megabytes; receipts and ledger grow with what was released.
    let most = 8_000_000 + 40_000 * u64::from(year.runs);
    assert!(last.database <= most, "{year:#?}");
}
