//! The steps of a secure aggregation, as the core counts them.

use fedner_round::{Input, Phase, Rejection, TaskKind};
use fedner_shared::digest::Digest;
use fedner_shared::event::Event;
use fedner_shared::plan::Plan;
use fedner_shared::refusal::Code;
use fedner_shared::secure::{AttemptId, SecureStep};
use fedner_shared::statement::Masked;
use proptest::prelude::*;

use crate::driver::{Driver, NAMES, id, plan};

fn masked() -> Plan {
    let mut plan = plan(2, 3);
    plan.cohort.weighting = fedner_shared::plan::Weighting::Equal;
    let table = serde_json::json!({ "colluding": 0, "step_timeout_s": 60 });
    plan.secure_aggregation = serde_json::from_value(table).expect("a table");
    plan.check().expect("a plan");
    plan
}

fn statement(driver: &Driver, name: &str, step: SecureStep) -> Input {
    let of = driver.run.attempt_id();
    Input::Agreed {
        institution: id(name),
        statement: Digest::of(format!("{name} {step} {}", of.number).as_bytes()),
        of,
        step,
    }
}

fn agree(driver: &mut Driver, name: &str, step: SecureStep) -> Result<(), Rejection> {
    driver.step(statement(driver, name, step))
}

fn all_agree(driver: &mut Driver, step: SecureStep) {
    for name in NAMES {
        assert_eq!(driver.take(name), Some(TaskKind::Agree(step)), "{name}");
        agree(driver, name, step).expect("taken");
    }
}

fn upload(driver: &mut Driver, name: &str) -> Result<(), Rejection> {
    let mut update = driver.receipt(name);
    update.masked = Some(Masked {
        roster: Digest::of(b"roster"),
        dealt: Digest::of(b"dealt"),
    });
    driver.step(Input::Uploaded {
        receipt: Digest::of_json(&update),
        update,
    })
}

fn collecting() -> Driver {
    let mut driver = Driver::recruited(masked());
    all_agree(&mut driver, SecureStep::Keys);
    all_agree(&mut driver, SecureStep::Shares);
    assert!(matches!(driver.run.phase, Phase::Collecting { .. }));
    driver
}

fn repeated(driver: &Driver) -> bool {
    matches!(
        driver.events.last(),
        Some(Event::RoundStarted { attempt: 2, .. })
    ) || driver
        .events
        .iter()
        .any(|event| matches!(event, Event::RoundRepeated { .. }))
}

#[test]
fn a_round_goes_through_all_steps_to_its_sum() {
    let mut driver = collecting();
    for name in NAMES {
        assert_eq!(driver.take(name), Some(TaskKind::Train));
        upload(&mut driver, name).expect("taken");
    }
    // Three of four are enough in the last steps.
    for step in [SecureStep::Consistency, SecureStep::Unmasking] {
        for name in &NAMES[..3] {
            assert_eq!(driver.take(name), Some(TaskKind::Agree(step)));
            agree(&mut driver, name, step).expect("taken");
        }
    }
    assert_eq!(driver.run.phase, Phase::Aggregating);
    let effect = driver.effects.last().expect("an effect");
    assert_eq!(effect.contributions.len(), 4);
    // Nothing is measured of masked updates.
    assert_eq!(driver.run.measured, Some((1, 1)));
    driver.publish();
    assert!(matches!(driver.run.phase, Phase::Evaluating { .. }));
}

#[test]
fn an_update_without_masks_is_refused_and_so_is_one_with_masks_in_an_open_plan() {
    let mut driver = collecting();
    driver.take("anna");
    let refused = driver.upload("anna").expect_err("bare");
    assert_eq!(refused.code(), Code::SecureStep);
    let mut open = Driver::recruited(plan(1, 3));
    open.take("anna");
    let refused = upload(&mut open, "anna").expect_err("masked");
    assert_eq!(refused.code(), Code::SecureStep);
}

#[test]
fn statements_of_another_step_attempt_or_member_are_refused_and_repeated_ones_are_no_news() {
    let mut driver = Driver::recruited(masked());
    agree(&mut driver, "anna", SecureStep::Keys).expect("taken");
    let events = driver.events.len();
    agree(&mut driver, "anna", SecureStep::Keys).expect("the same again");
    assert_eq!(driver.events.len(), events);
    let code = |outcome: Result<(), Rejection>| outcome.expect_err("refused").code();
    assert_eq!(
        code(agree(&mut driver, "bert", SecureStep::Shares)),
        Code::RoundStale
    );
    let mut other = |change: fn(&mut AttemptId)| {
        let mut of = driver.run.attempt_id();
        change(&mut of);
        code(driver.step(Input::Agreed {
            institution: id("bert"),
            of,
            step: SecureStep::Keys,
            statement: Digest::of(b"other"),
        }))
    };
    assert_eq!(other(|of| of.number += 1), Code::SecureStep);
    assert_eq!(other(|of| of.base = Digest::of(b"x")), Code::SecureStep);
    assert_eq!(other(|of| of.attempt += 1), Code::RoundStale);
    // Other keys of one who sent some.
    let second = Input::Agreed {
        institution: id("anna"),
        of: driver.run.attempt_id(),
        step: SecureStep::Keys,
        statement: Digest::of(b"second"),
    };
    assert_eq!(code(driver.step(second)), Code::UpdateUnexpected);
}

#[test]
fn who_deals_no_shares_is_not_asked_to_train() {
    let mut driver = Driver::recruited(masked());
    all_agree(&mut driver, SecureStep::Keys);
    for name in &NAMES[..3] {
        agree(&mut driver, name, SecureStep::Shares).expect("taken");
    }
    driver
        .decline("dora", TaskKind::Train, Code::RosterRefused)
        .expect("declined");
    assert!(matches!(driver.run.phase, Phase::Collecting { .. }));
    assert_eq!(driver.take("dora"), None);
    assert_eq!(driver.take("anna"), Some(TaskKind::Train));
}

#[test]
fn with_too_few_in_a_step_the_round_is_repeated_with_other_keys() {
    let mut driver = Driver::recruited(masked());
    let first = driver.run.attempt_id();
    for name in &NAMES[..2] {
        agree(&mut driver, name, SecureStep::Keys).expect("taken");
    }
    driver.pass(20);
    for name in NAMES {
        driver.seen(name);
    }
    driver.pass(41);
    assert!(repeated(&driver));
    for name in NAMES {
        driver.seen(name);
    }
    let second = driver.run.attempt_id();
    assert_eq!((second.attempt, second.number), (2, first.number + 1));
    // A run that is tried again has the same attempts, and other numbers.
    driver.pass(20);
    for name in NAMES {
        driver.seen(name);
    }
    driver.pass(41);
    assert!(matches!(driver.run.phase, Phase::Failed { .. }));
    driver.step(Input::Retry).expect("again");
    for name in NAMES {
        driver.join_again(name);
    }
    let third = driver.run.attempt_id();
    assert_eq!((third.attempt, third.number), (1, first.number + 2));
}

#[test]
fn one_that_is_put_out_of_a_settled_sum_ends_the_attempt() {
    let mut driver = collecting();
    for name in NAMES {
        driver.take(name);
        upload(&mut driver, name).expect("taken");
    }
    driver
        .step(Input::Excluded {
            institution: id("dora"),
            code: Code::InstitutionRevoked,
        })
        .expect("put out");
    assert!(repeated(&driver));
    assert!(driver.effects.is_empty());
}

#[test]
fn a_member_of_a_sum_takes_up_nothing_else_until_it_is_unmasked() {
    let driver = collecting();
    assert!(driver.run.holds(&id("anna")));
    let other = Driver::recruited(plan(1, 3));
    let runs = [&other.run, &driver.run];
    let next = fedner_round::Run::next_of(runs.into_iter(), &id("anna"));
    assert_eq!(
        next.map(|run| &run.plan_digest),
        Some(&driver.run.plan_digest)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever comes in whatever order, a sum is over a set of at least the quorum, and enough of it have signed and
    /// unmasked that very set.
    #[test]
    fn no_sum_is_made_of_too_few(
        moves in prop::collection::vec((0usize..4, 0u8..9), 1..120),
    ) {
        let mut driver = Driver::recruited(masked());
        for (who, what) in moves {
            let name = NAMES[who];
            let _ = match what {
                0 => agree(&mut driver, name, SecureStep::Keys),
                1 => agree(&mut driver, name, SecureStep::Shares),
                2 => agree(&mut driver, name, SecureStep::Consistency),
                3 => agree(&mut driver, name, SecureStep::Unmasking),
                4 => {
                    driver.take(name);
                    upload(&mut driver, name)
                }
                5 => driver.decline(name, TaskKind::Train, Code::NotDone),
                6 => {
                    driver.pass(17);
                    Ok(())
                }
                7 => driver.step(Input::Restarted),
                _ => driver.step(Input::SetAside {
                    institution: id(name),
                    round: driver.run.round,
                }),
            };
            driver.seen(name);
            prop_assert_eq!(driver.run.violation(), None);
            if driver.run.phase == Phase::Aggregating {
                let agreement = driver.run.agreement.clone().expect("an agreement");
                let effect = driver.effects.last().expect("an effect");
                let counted = effect.contributions.iter().map(|one| &one.institution);
                prop_assert!(counted.eq(&agreement.members));
                prop_assert!(agreement.members.len() >= 3);
                for answers in [&agreement.sets, &agreement.unmaskings] {
                    prop_assert!(answers.len() >= 3);
                    prop_assert!(answers.keys().all(|name| agreement.members.contains(name)));
                }
                prop_assert!(agreement.members.iter().all(|name| agreement.shares.contains_key(name)));
                driver.publish();
                for name in NAMES {
                    let _ = driver.evaluate(name);
                }
            }
        }
    }
}
