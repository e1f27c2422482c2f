//! Updates that stand out, and members that are set aside.

use fedner_round::{Input, Phase, Rejection, TaskKind};
use fedner_shared::event::Event;
use fedner_shared::figures::{Aside, Cause, Figures, UpdateFigures};
use fedner_shared::plan::{DecidedBy, Guard, Plan};
use fedner_shared::refusal::Code;
use fedner_shared::state::MemberState;

use crate::driver::{Driver, NAMES, id, plan};

fn guarded(rounds: u32, quorum: usize, change: impl Fn(&mut Guard)) -> Plan {
    let mut plan = plan(rounds, quorum);
    let mut guard = Guard {
        max_norm_ratio: Some(3.0),
        min_cosine: Some(0.0),
        min_rounds: 1,
        rounds: 1,
        by: DecidedBy::Rule,
    };
    change(&mut guard);
    plan.guard = Some(guard);
    plan.check().expect("a sound plan");
    plan
}

/// What was measured of those that the newest effect is of: norm and cosine to the others.
fn measured(driver: &Driver, figures: [(f64, f64); 4]) -> Input {
    let effect = driver.effects.last().expect("a closed round");
    let of = |name: &str| {
        let place = NAMES.iter().position(|known| *known == name);
        let (norm, cosine) = figures[place.expect("one of the cohort")];
        Figures {
            norm,
            to_others: Some(cosine),
            to_last_step: None,
        }
    };
    let updates = effect.contributions.iter().map(|c| UpdateFigures {
        institution: c.institution.clone(),
        figures: of(c.institution.as_str()),
    });
    Input::Measured {
        round: effect.round,
        attempt: effect.attempt,
        updates: updates.collect(),
    }
}

const USUAL: [(f64, f64); 4] = [(1.0, 0.8), (1.1, 0.7), (0.9, 0.6), (1.0, 0.9)];
/// The last one is ten times as long.
const LONG: [(f64, f64); 4] = [(1.0, 0.8), (1.1, 0.7), (0.9, 0.6), (10.0, 0.9)];
/// The last one points elsewhere.
const FLIPPED: [(f64, f64); 4] = [(1.0, 0.8), (1.1, 0.7), (0.9, 0.6), (1.0, -0.5)];

fn train_all(driver: &mut Driver) {
    for name in NAMES {
        if driver.take(name) == Some(TaskKind::Train) {
            driver.upload(name).expect("upload");
        }
    }
}

fn counted(driver: &Driver) -> Vec<String> {
    let counted = driver.run.contributions();
    counted.map(|c| c.institution.to_string()).collect()
}

fn evaluate_all(driver: &mut Driver) {
    for name in NAMES {
        if driver.take(name) == Some(TaskKind::Evaluate) {
            driver.evaluate(name).expect("evaluation");
        }
    }
}

fn asides(driver: &Driver) -> Vec<(String, Aside)> {
    let found = driver.events.iter().filter_map(|event| {
        let Event::SetAside {
            institution, aside, ..
        } = event
        else {
            return None;
        };
        Some((institution.to_string(), aside.clone()))
    });
    found.collect()
}

#[test]
fn who_breaks_a_limit_is_not_in_the_result_and_comes_back_after_its_rounds() {
    for (figures, cause) in [(LONG, Cause::MaxNormRatio), (FLIPPED, Cause::MinCosine)] {
        let mut driver = Driver::recruited(guarded(4, 3, |guard| guard.rounds = 2));
        train_all(&mut driver);
        driver.step(measured(&driver, figures)).expect("measured");
        assert_eq!(counted(&driver), ["anna", "bert", "cora"]);
        let (who, aside) = asides(&driver).pop().expect("set aside");
        assert_eq!((who.as_str(), aside.cause), ("dora", cause));
        assert_eq!((aside.from, aside.until), (1, 2));
        // Measuring once more, as after a restart, changes nothing.
        let (before, events) = (driver.run.clone(), driver.events.len());
        driver.step(measured(&driver, USUAL)).expect("again");
        assert_eq!((&driver.run, driver.events.len()), (&before, events));
        driver.publish();
        assert_eq!(driver.take("dora"), None, "it does not evaluate either");
        evaluate_all(&mut driver);
        // The second round is without it.
        train_all(&mut driver);
        assert_eq!(driver.effects[1].contributions.len(), 3);
        driver.step(measured(&driver, USUAL)).expect("measured");
        driver.publish();
        evaluate_all(&mut driver);
        // The third one is not.
        train_all(&mut driver);
        assert_eq!(driver.effects[2].contributions.len(), 4);
        let view = driver.run.view();
        assert!(view.members.iter().all(|member| member.aside.is_none()));
    }
}

#[test]
fn without_a_guard_the_figures_are_shown_and_decide_nothing() {
    let mut driver = Driver::recruited(plan(2, 3));
    train_all(&mut driver);
    driver.step(measured(&driver, LONG)).expect("measured");
    assert_eq!(counted(&driver), NAMES);
    let view = driver.run.view();
    let norm = |name: usize| view.members[name].figures.expect("figures").norm;
    assert!((norm(0) - 1.0).abs() < 1e-12 && (norm(3) - 10.0).abs() < 1e-12);
    let told =
        |event: &&Event| matches!(event, Event::Measured { updates, .. } if updates.len() == 4);
    assert_eq!(driver.events.iter().filter(told).count(), 1);
    assert!(asides(&driver).is_empty());
}

#[test]
fn where_the_operator_decides_a_breach_is_told_and_counts() {
    let mut driver = Driver::recruited(guarded(2, 3, |guard| guard.by = DecidedBy::Operator));
    train_all(&mut driver);
    driver.step(measured(&driver, LONG)).expect("measured");
    assert_eq!(counted(&driver), NAMES);
    assert!(asides(&driver).is_empty());
    let suspected = driver.events.iter().filter_map(|event| {
        let Event::Suspected {
            institution, aside, ..
        } = event
        else {
            return None;
        };
        Some((institution.as_str(), aside.found))
    });
    let suspected: Vec<_> = suspected.collect();
    // Of an even number, the median is the mean of the middle two.
    assert_eq!(suspected, [("dora", Some(10.0 / 1.05))]);
}

#[test]
fn a_member_is_judged_after_enough_of_its_updates() {
    let mut driver = Driver::recruited(guarded(3, 3, |guard| guard.min_rounds = 2));
    train_all(&mut driver);
    driver.step(measured(&driver, LONG)).expect("measured");
    assert_eq!(counted(&driver), NAMES);
    driver.publish();
    evaluate_all(&mut driver);
    train_all(&mut driver);
    driver.step(measured(&driver, LONG)).expect("measured");
    assert_eq!(counted(&driver).len(), 3);
}

#[test]
fn with_too_few_left_the_round_is_repeated_without_those_set_aside() {
    let mut driver = Driver::recruited(guarded(1, 3, |_| {}));
    train_all(&mut driver);
    let two = [(1.0, 0.8), (1.1, 0.7), (0.9, -0.6), (1.0, -0.9)];
    driver.step(measured(&driver, two)).expect("measured");
    let repeated = |event: &Event| matches!(event, Event::RoundRepeated { reason, .. } if reason.contains("set aside"));
    assert!(driver.events.iter().any(repeated));
    // Two are left of a cohort that needs three.
    assert!(
        matches!(driver.run.phase, Phase::Failed { .. }),
        "{:?}",
        driver.run.phase
    );
}

#[test]
fn two_updates_are_not_judged() {
    let mut driver = Driver::recruited(guarded(1, 2, |_| {}));
    for name in ["anna", "dora"] {
        driver.take(name);
        driver.upload(name).expect("upload");
    }
    driver.pass(1000);
    assert_eq!(driver.run.phase, Phase::Aggregating);
    driver.step(measured(&driver, FLIPPED)).expect("measured");
    assert_eq!(counted(&driver), ["anna", "dora"]);
}

#[test]
fn the_operator_leaves_a_member_out_of_one_round_and_takes_it_back() {
    let mut driver = Driver::recruited(plan(3, 3));
    for name in NAMES {
        driver.take(name);
    }
    driver.upload("dora").expect("upload");
    let exclude = |institution: &str, round| Input::SetAside {
        institution: id(institution),
        round,
    };
    driver.step(exclude("dora", 1)).expect("the open round");
    assert_eq!(driver.run.view().members[3].state, MemberState::Aside);
    let refused = driver.upload("dora").expect_err("left out");
    assert_eq!(refused.code(), Code::UpdateUnexpected);
    // A second one would cost the quorum.
    let refused = driver.step(exclude("cora", 1)).expect_err("too few");
    assert!(matches!(
        refused,
        Rejection::Quorum {
            left: 2,
            quorum: 3,
            ..
        }
    ));
    assert_eq!(refused.code(), Code::QuorumLost);
    for name in ["anna", "bert", "cora"] {
        driver.upload(name).expect("upload");
    }
    assert_eq!(counted(&driver), ["anna", "bert", "cora"]);
    // The result of this round is under way.
    for round in [0, 1, 4] {
        let refused = driver
            .step(exclude("anna", round))
            .expect_err("no such round");
        assert!(
            matches!(
                refused,
                Rejection::Round {
                    first: 2,
                    last: 3,
                    ..
                }
            ),
            "{refused}"
        );
    }
    driver.step(exclude("bert", 3)).expect("a later round");
    driver.step(exclude("bert", 3)).expect("twice is once");
    assert_eq!(asides(&driver).len(), 2);
    driver.publish();
    evaluate_all(&mut driver);
    train_all(&mut driver);
    assert_eq!(driver.effects[1].contributions.len(), 4, "one round only");
    let back = Input::Readmitted {
        institution: id("bert"),
    };
    driver.step(back.clone()).expect("taken back");
    assert_eq!(driver.step(back).expect_err("twice").code(), Code::RunState);
    driver.publish();
    evaluate_all(&mut driver);
    train_all(&mut driver);
    assert_eq!(driver.effects[2].contributions.len(), 4);
    driver.publish();
    evaluate_all(&mut driver);
    assert_eq!(driver.run.phase, Phase::Completed);
    let refused = driver.step(exclude("anna", 3)).expect_err("ended");
    assert_eq!(refused.code(), Code::RunState);
}

#[test]
fn figures_of_another_attempt_are_refused() {
    let mut driver = Driver::recruited(plan(1, 3));
    train_all(&mut driver);
    let Input::Measured { round, updates, .. } = measured(&driver, USUAL) else {
        unreachable!("it was made a line above");
    };
    let stale = Input::Measured {
        round,
        attempt: 2,
        updates,
    };
    assert!(matches!(driver.step(stale), Err(Rejection::Stale { .. })));
}
