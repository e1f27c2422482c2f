//! Runs that wait for a time of their plan.

use fedner_round::{Input, Phase, TaskKind};
use fedner_shared::plan::{Plan, Schedule};
use fedner_shared::state::RunState;
use fedner_shared::time::Time;

use crate::driver::{Driver, NAMES, id, plan};

const HOUR: u64 = 3600;

/// Each hour at a quarter past.
fn hourly(rounds: u32, together: u32) -> Plan {
    let mut plan = plan(rounds, 4);
    plan.schedule = Some(Schedule {
        times: "15 * * * *".to_owned(),
        zone: "UTC".to_owned(),
        rounds: together,
        evaluations: 1,
    });
    plan.check().expect("plan");
    plan
}

fn until(driver: &Driver) -> Option<Time> {
    if let Phase::Scheduled { until } = driver.run.phase {
        Some(until)
    } else {
        None
    }
}

fn at(seconds: u64) -> Time {
    Time::from_millis(seconds as i64 * 1000)
}

/// Everybody is seen at the present instant.
fn all_seen(driver: &mut Driver) {
    for name in NAMES {
        driver.seen(name);
    }
}

#[test]
fn rounds_begin_at_the_times_of_the_schedule_and_follow_each_other_in_between() {
    let mut driver = Driver::started(hourly(3, 2));
    assert_eq!(until(&driver), Some(at(900)));
    assert_eq!(driver.run.view().next_start, Some(at(900)));
    assert!(driver.run.explain().then.contains("round 1 of 3"));
    assert_eq!(driver.run.next_deadline().map(|(at, _)| at), Some(at(900)));
    // Consents come before the time does, and nobody is asked to work.
    for name in NAMES {
        assert!(driver.run.awaits_consent(&id(name)));
        driver.join(name);
        assert_eq!(driver.take(name), None);
    }
    driver.pass(899);
    assert_eq!(driver.run.state(), RunState::Scheduled);
    driver.pass(1);
    assert_eq!(driver.run.state(), RunState::Recruiting);
    all_seen(&mut driver);
    driver.whole_round();
    assert_eq!(
        (driver.run.round, driver.run.state()),
        (2, RunState::Collecting)
    );
    driver.whole_round();
    assert_eq!(until(&driver), Some(at(HOUR + 900)));
    assert_eq!(driver.run.first_open_round(), 3);
    // A time that passed unused counts when it can be used.
    driver.step(Input::Pause).expect("paused");
    assert_eq!(driver.run.view().next_start, None);
    driver.pass(5 * HOUR);
    driver.step(Input::Resume).expect("resumed");
    all_seen(&mut driver);
    driver.whole_round();
    assert_eq!(driver.run.phase, Phase::Completed);
}

#[test]
fn a_clock_that_is_set_decides_by_what_it_shows() {
    let mut driver = Driver::recruited({
        let mut plan = hourly(2, 1);
        plan.schedule = None;
        plan
    });
    driver.run.plan.schedule = hourly(2, 1).schedule;
    driver.whole_round();
    let first = until(&driver).expect("waits");
    // Set back by a day: the next quarter past comes within an hour again, not in a day.
    let before = driver.now;
    driver.now = Time::from_millis(before.as_millis() + 24 * 3_600_000);
    driver
        .step(Input::Jumped {
            millis: 24 * 3_600_000,
        })
        .expect("jumped");
    assert_eq!(until(&driver), None, "its time has come");
    let mut other = Driver::recruited(plan(2, 4));
    other.run.plan.schedule = hourly(2, 1).schedule;
    other.whole_round();
    assert_eq!(until(&other), Some(first));
    other.now = Time::from_millis(before.as_millis() - 24 * 3_600_000);
    other.step(Input::Restarted).expect("restarted");
    let again = until(&other).expect("waits");
    assert!(again < first && again > other.now);
    assert!(again.as_millis() - other.now.as_millis() <= 3_600_000);
}

#[test]
fn a_base_is_scored_again_and_again() {
    let mut plan = hourly(3, 1);
    plan.rounds = 0;
    if let Some(schedule) = &mut plan.schedule {
        schedule.evaluations = 3;
    }
    plan.check().expect("plan");
    let mut driver = Driver::started(plan);
    for name in NAMES {
        driver.join(name);
    }
    for number in 0..3u64 {
        assert_eq!(until(&driver), Some(at(number * HOUR + 900)));
        let wait = number * HOUR + 900 - driver.now.as_millis() as u64 / 1000;
        driver.pass(wait);
        all_seen(&mut driver);
        assert_eq!(u64::from(driver.run.round), number);
        for name in NAMES {
            assert_eq!(driver.take(name), Some(TaskKind::Evaluate), "{name}");
            driver.evaluate(name).expect("counts");
        }
    }
    assert_eq!(driver.run.phase, Phase::Completed);
}
