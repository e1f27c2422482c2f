//! Runs that train nothing.

use fedner_round::{Phase, TaskKind};
use fedner_shared::event::Event;
use fedner_shared::refusal::Code;
use fedner_shared::state::RunState;

use crate::driver::{Driver, NAMES, plan};

#[test]
fn a_run_without_rounds_scores_its_base_and_ends() {
    let mut driver = Driver::recruited(plan(0, 3));
    let base = driver.run.version;
    for name in NAMES {
        assert_eq!(driver.take(name), Some(TaskKind::Evaluate), "{name}");
        assert!(driver.upload(name).is_err(), "{name} sent an update");
        driver.evaluate(name).expect("counts");
    }
    assert_eq!(driver.run.phase, Phase::Completed);
    assert_eq!((driver.run.version, driver.run.round), (base, 0));
    assert!(driver.effects.is_empty());
    let finished = driver
        .events
        .iter()
        .any(|event| matches!(event, Event::RoundFinished { f1: Some(_), .. }));
    assert!(finished);
    assert!(driver.run.explain().awaits.contains("scored"));
}

#[test]
fn an_evaluation_that_too_few_take_part_in_is_tried_again_and_then_given_up() {
    let mut driver = Driver::recruited(plan(0, 3));
    for attempt in 1..=2 {
        assert_eq!(driver.run.attempt, attempt);
        for name in ["anna", "bert"] {
            assert_eq!(driver.take(name), Some(TaskKind::Evaluate), "{name}");
            driver.evaluate(name).expect("counts");
        }
        assert!(driver.run.explain().then.contains("at least 3"));
        driver.pass(50);
        for name in NAMES {
            driver.seen(name);
        }
        driver.pass(1);
    }
    let Phase::Failed { reason } = &driver.run.phase else {
        panic!("{:?}", driver.run.phase);
    };
    assert!(reason.contains("2 evaluations arrived"), "{reason}");
}

#[test]
fn who_cannot_evaluate_now_is_asked_again_while_the_quorum_lacks_it() {
    let mut driver = Driver::recruited(plan(0, 4));
    for name in ["anna", "bert", "cora"] {
        driver.take(name);
        driver.evaluate(name).expect("counts");
    }
    driver.take("dora");
    driver
        .decline("dora", TaskKind::Evaluate, Code::DataUnavailable)
        .expect("declined");
    assert_eq!(
        (driver.run.state(), driver.run.attempt),
        (RunState::Evaluating, 1)
    );
    driver.pass(5);
    assert_eq!(driver.take("dora"), Some(TaskKind::Evaluate));
    driver.evaluate("dora").expect("counts");
    assert_eq!(driver.run.phase, Phase::Completed);
}
