//! Institutions that cannot work now, and clocks that jump.

use std::time::Duration;

use fedner_round::{Input, Later, Phase, TaskKind};
use fedner_shared::event::Event;
use fedner_shared::refusal::Code;
use fedner_shared::state::{MemberState, RunState};
use fedner_shared::time::Time;

use crate::driver::{Driver, NAMES, id, plan};

fn after(driver: &Driver, seconds: u64) -> Time {
    driver.now + Duration::from_secs(seconds)
}

fn later(driver: &mut Driver, name: &str, from: Option<Time>, code: Code) {
    let later = from.map(|from| Later { from, code });
    driver
        .step(Input::Announced {
            institution: id(name),
            later,
        })
        .expect("announced");
}

fn until(driver: &Driver) -> Time {
    driver.run.phase.until().expect("a phase that waits")
}

#[test]
fn what_can_be_mended_leaves_the_attempt_open_and_is_asked_again() {
    let mut driver = Driver::recruited(plan(1, 4));
    for name in NAMES {
        driver.take(name);
    }
    let began = driver.events.len();
    driver
        .decline("anna", TaskKind::Train, Code::DataUnavailable)
        .expect("declined");
    for name in ["bert", "cora", "dora"] {
        driver.upload(name).expect("upload");
    }
    assert_eq!(
        (driver.run.state(), driver.run.attempt),
        (RunState::Collecting, 1)
    );
    let view = driver.run.view();
    let anna = &view.members[0];
    assert_eq!(anna.state, MemberState::PutOff);
    assert_eq!(anna.refused.as_deref(), Some("data-unavailable"));
    let explained = driver.run.explain();
    assert_eq!(explained.from, [id("anna")]);
    assert!(
        explained.awaits.contains("data-unavailable"),
        "{explained:?}"
    );
    // Not at once, and not seldom.
    assert!(driver.run.assignment(&id("anna")).is_none());
    let mut asked = 0;
    for _ in 0..10 {
        let (instant, _) = driver.run.next_deadline().expect("a deadline");
        driver.now = driver.now.max(instant);
        driver.seen("anna");
        driver.step(Input::Tick).expect("tick");
        if driver.take("anna").is_some() {
            asked += 1;
            driver
                .decline("anna", TaskKind::Train, Code::DataUnavailable)
                .expect("declined again");
        }
    }
    assert!(asked >= 5, "asked {asked} times");
    let told = driver.events[began..].iter();
    let told = told.filter(|event| matches!(event, Event::Declined { .. }));
    assert_eq!(told.count(), 1, "the same reason again is no news");
    // It is mended.
    let (instant, _) = driver.run.next_deadline().expect("a deadline");
    driver.now = driver.now.max(instant);
    driver.seen("anna");
    assert_eq!(driver.take("anna"), Some(TaskKind::Train));
    driver.upload("anna").expect("upload");
    assert_eq!(driver.run.phase, Phase::Aggregating);
    assert_eq!(driver.run.view().members[0].refused, None);
}

#[test]
fn nobody_waits_for_one_that_cannot_work_once_the_quorum_is_in() {
    let mut driver = Driver::recruited(plan(1, 3));
    for name in NAMES {
        driver.take(name);
    }
    driver
        .decline("anna", TaskKind::Train, Code::DeviceUnknown)
        .expect("declined");
    for name in ["bert", "cora", "dora"] {
        driver.upload(name).expect("upload");
    }
    assert_eq!(driver.run.phase, Phase::Aggregating);
}

#[test]
fn an_attempt_is_used_at_its_deadline_and_the_failure_names_who_and_why() {
    let mut driver = Driver::recruited(plan(1, 4));
    for attempt in 1..=2 {
        assert_eq!(driver.run.attempt, attempt);
        for name in NAMES {
            driver.join_again(name);
        }
        for name in ["bert", "cora", "dora"] {
            driver.take(name);
            driver.upload(name).expect("upload");
        }
        driver.take("anna");
        driver
            .decline("anna", TaskKind::Train, Code::DataUnavailable)
            .expect("declined");
        assert_eq!(driver.run.state(), RunState::Collecting);
        driver.now = until(&driver);
        driver.step(Input::Tick).expect("tick");
    }
    let Phase::Failed { reason } = &driver.run.phase else {
        panic!("{:?}", driver.run.phase);
    };
    assert!(reason.contains("anna: data-unavailable"), "{reason}");
    assert!(!reason.contains("bert"), "{reason}");
}

#[test]
fn hours_that_are_announced_move_the_deadline_to_when_the_quorum_can_work() {
    let mut driver = Driver::started(plan(1, 2));
    for name in ["anna", "bert"] {
        driver.join(name);
    }
    let (early, late) = (after(&driver, 5_000), after(&driver, 9_000));
    later(&mut driver, "anna", Some(early), Code::OutsideHours);
    later(&mut driver, "bert", Some(late), Code::InstitutionPaused);
    driver.pass(99);
    for name in ["anna", "bert"] {
        driver.seen(name);
    }
    driver.pass(1);
    assert_eq!(driver.run.state(), RunState::Collecting);
    assert!(driver.run.assignment(&id("anna")).is_none());
    assert_eq!(until(&driver), late + Duration::from_secs(1000));
    assert!(driver.run.explain().awaits.contains("outside-hours"));
    // Night falls for the first of them.
    driver.now = early;
    driver.seen("anna");
    driver.step(Input::Tick).expect("tick");
    assert_eq!(driver.take("anna"), Some(TaskKind::Train));
    driver.upload("anna").expect("upload");
    assert_eq!(driver.run.state(), RunState::Collecting);
    // The other one is there sooner than it said.
    driver.seen("bert");
    later(&mut driver, "bert", None, Code::OutsideHours);
    assert_eq!(driver.take("bert"), Some(TaskKind::Train));
    driver.upload("bert").expect("upload");
    assert_eq!(driver.run.phase, Phase::Aggregating);
}

#[test]
fn a_failed_run_goes_on_with_its_round_and_only_then() {
    let mut driver = Driver::recruited(plan(2, 4));
    driver.whole_round();
    let version = driver.run.version;
    assert!(driver.step(Input::Retry).is_err(), "it is under way");
    for _ in 0..2 {
        driver.pass(5_000);
    }
    assert_eq!(driver.run.state(), RunState::Failed);
    driver.step(Input::Retry).expect("retried");
    assert_eq!(driver.events.last(), Some(&Event::RunRetried { round: 2 }));
    let place = (driver.run.state(), driver.run.round, driver.run.attempt);
    assert_eq!(place, (RunState::Recruiting, 2, 1));
    assert_eq!(driver.run.version, version);
    for name in NAMES {
        driver.join_again(name);
    }
    driver.whole_round();
    assert_eq!(driver.run.phase, Phase::Completed);
}

#[test]
fn who_was_put_out_stays_out_of_a_run_that_is_retried_and_others_are_asked_anew() {
    let mut driver = Driver::recruited(plan(1, 2));
    driver
        .step(Input::Excluded {
            institution: id("anna"),
            code: Code::InstitutionRevoked,
        })
        .expect("excluded");
    driver.take("bert");
    driver
        .decline("bert", TaskKind::Train, Code::BudgetSpent)
        .expect("declined");
    assert_eq!(
        driver.run.members[&id("bert")].left,
        Some(Code::BudgetSpent)
    );
    driver.pass(5_000);
    driver.pass(5_000);
    assert_eq!(driver.run.state(), RunState::Failed);
    driver.step(Input::Retry).expect("retried");
    assert_eq!(
        driver.run.members[&id("anna")].left,
        Some(Code::InstitutionRevoked)
    );
    assert_eq!(driver.run.members[&id("bert")].left, None);
}

#[test]
fn a_clock_that_jumps_moves_deadlines_either_way() {
    let mut driver = Driver::recruited(plan(1, 4));
    for name in NAMES {
        driver.take(name);
    }
    let (deadline, week) = (until(&driver), 7 * 24 * 3_600_000_i64);
    driver.now = driver.now + Duration::from_millis(week as u64);
    driver.step(Input::Jumped { millis: week }).expect("jumped");
    for name in NAMES {
        assert_eq!(driver.run.members[&id(name)].last_seen, Some(driver.now));
        driver.upload(name).expect("nobody is late");
    }
    assert_eq!(driver.run.phase, Phase::Aggregating);

    let mut back = Driver::recruited(plan(1, 4));
    back.now = Time::from_millis(-week);
    back.step(Input::Jumped { millis: -week }).expect("jumped");
    let moved = Time::from_millis(deadline.as_millis() - week);
    assert_eq!(until(&back), moved, "it does not wait for a week");
}

#[test]
fn a_clock_that_was_set_back_while_nobody_looked_holds_no_run_up() {
    let mut driver = Driver::recruited(plan(1, 4));
    let (began, deadline) = (driver.run.attempt_began, until(&driver));
    let whole = deadline.since(began);
    // The program was down when the clock went back by three weeks: nothing tells it of a jump.
    driver.now = Time::from_millis(began.as_millis() - 21 * 24 * 3_600_000);
    driver.step(Input::Restarted).expect("restarted");
    assert_eq!(
        until(&driver),
        driver.now + whole,
        "it does not wait for weeks"
    );
    assert_eq!(driver.run.attempt_began, driver.now);
}

#[test]
fn without_the_jump_being_noticed_everybody_would_be_late() {
    let mut driver = Driver::recruited(plan(1, 4));
    for name in NAMES {
        driver.take(name);
    }
    driver.pass(7 * 24 * 3600);
    assert!(driver.upload("anna").is_err());
}

#[test]
fn one_that_begins_again_and_again_is_not_waited_for() {
    let mut driver = Driver::recruited(plan(1, 3));
    for name in NAMES {
        driver.take(name);
    }
    for name in ["bert", "cora", "dora"] {
        driver.upload(name).expect("upload");
    }
    for begun in 2..=4 {
        assert_eq!(driver.take("anna"), Some(TaskKind::Train), "{begun}");
        assert_eq!(driver.run.state(), RunState::Collecting);
    }
    driver.take("anna");
    assert_eq!(driver.run.phase, Phase::Aggregating);
}
