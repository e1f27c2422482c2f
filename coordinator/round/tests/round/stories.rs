//! What must happen in the situations that people ask about.

use std::time::Duration;

use fedner_round::{Input, Phase, Rejection, TaskKind};
use fedner_shared::digest::Digest;
use fedner_shared::event::Event;
use fedner_shared::refusal::Code;
use fedner_shared::state::{MemberState, RunState};

use crate::driver::{Driver, NAMES, id, plan};

#[test]
fn a_run_goes_round_by_round_to_its_end() {
    let mut driver = Driver::recruited(plan(3, 2));
    for round in 1..=3 {
        assert_eq!(driver.run.round, round);
        driver.whole_round();
        assert_eq!(driver.effects.len(), round as usize);
    }
    assert_eq!(driver.run.phase, Phase::Completed);
    let sequences: Vec<u64> = driver
        .effects
        .iter()
        .map(|effect| effect.sequence)
        .collect();
    assert_eq!(sequences, [1, 2, 3]);
    assert!(driver.run.next_deadline().is_none());
}

#[test]
fn versions_that_are_not_evaluated_are_gone_on_from_at_once() {
    let mut text = plan(3, 2);
    text.cohort.evaluate_every = 2;
    let mut driver = Driver::recruited(text);
    for round in 1..=3 {
        assert_eq!(driver.run.round, round);
        if round == 1 {
            for name in NAMES {
                driver.take(name);
                driver.upload(name).expect("upload");
            }
            driver.publish();
        } else {
            driver.whole_round();
        }
    }
    assert_eq!(driver.run.phase, Phase::Completed);
    let finished = |event: &&Event| matches!(event, Event::RoundFinished { .. });
    assert_eq!(driver.events.iter().filter(finished).count(), 3);
    let evaluated = |event: &&Event| matches!(event, Event::Evaluated { round: 1, .. });
    assert_eq!(driver.events.iter().filter(evaluated).count(), 0);
}

#[test]
fn the_first_round_waits_for_the_whole_cohort_but_not_for_ever() {
    let mut driver = Driver::started(plan(1, 2));
    for name in ["anna", "bert", "cora"] {
        driver.join(name);
    }
    assert_eq!(driver.run.state(), RunState::Recruiting);
    assert_eq!(driver.run.explain().from, [id("dora")]);
    for _ in 0..4 {
        driver.pass(25);
        for name in ["anna", "bert", "cora"] {
            driver.seen(name);
        }
    }
    assert_eq!(driver.run.state(), RunState::Collecting);
    assert!(driver.run.assignment(&id("dora")).is_none());
    assert_eq!(driver.take("anna"), Some(TaskKind::Train));
}

#[test]
fn without_a_quorum_recruiting_is_repeated_and_then_given_up() {
    let mut driver = Driver::started(plan(1, 2));
    driver.join("anna");
    driver.pass(100);
    assert_eq!(
        (driver.run.state(), driver.run.attempt),
        (RunState::Recruiting, 2)
    );
    assert!(matches!(
        driver.events.last(),
        Some(Event::RoundRepeated { attempt: 1, .. })
    ));
    driver.pass(100);
    assert!(
        matches!(driver.run.phase, Phase::Failed { .. }),
        "{:?}",
        driver.run.phase
    );
}

#[test]
fn collecting_closes_at_the_deadline_with_a_quorum() {
    let mut driver = Driver::recruited(plan(1, 2));
    for name in ["anna", "bert"] {
        driver.take(name);
        driver.upload(name).expect("upload");
    }
    driver.take("cora");
    driver.take("dora");
    // Both stay in touch, so that only the deadline ends the waiting.
    for _ in 0..50 {
        driver.pass(20);
        if driver.run.state() == RunState::Collecting {
            driver.seen("cora");
            driver.seen("dora");
        }
    }
    assert_eq!(driver.run.state(), RunState::Aggregating);
    let names: Vec<_> = driver.effects[0]
        .contributions
        .iter()
        .map(|c| c.institution.clone())
        .collect();
    assert_eq!(names, [id("anna"), id("bert")]);
    let late = driver.upload("cora").expect_err("too late");
    assert_eq!(late.code(), Code::RoundStale);
}

#[test]
fn a_silent_institution_is_waited_for_only_until_it_counts_as_away() {
    let mut driver = Driver::recruited(plan(2, 3));
    driver.take("dora");
    for name in ["anna", "bert", "cora"] {
        driver.take(name);
        driver.upload(name).expect("upload");
    }
    let (deadline, reason) = driver.run.next_deadline().expect("deadline");
    assert!(reason.contains("away"), "{reason}");
    assert_eq!(deadline.as_millis(), 30_000);
    driver.pass(30);
    assert_eq!(driver.run.state(), RunState::Aggregating);
    driver.publish();
    // It is not asked to evaluate, nor waited for in the next round.
    for name in ["anna", "bert", "cora"] {
        driver.seen(name);
    }
    assert!(driver.run.assignment(&id("dora")).is_none());
}

#[test]
fn a_silent_institution_that_the_quorum_needs_may_come_back_until_the_deadline() {
    let mut driver = Driver::recruited(plan(1, 4));
    for name in NAMES {
        driver.take(name);
    }
    for name in ["anna", "bert", "cora"] {
        driver.upload(name).expect("upload");
    }
    driver.pass(500);
    assert_eq!(driver.run.state(), RunState::Collecting);
    assert_eq!(
        driver.take("dora"),
        Some(TaskKind::Train),
        "the same assignment again"
    );
    assert!(
        driver
            .events
            .iter()
            .any(|e| matches!(e, Event::CameBack { .. }))
    );
    driver.upload("dora").expect("upload");
    assert_eq!(driver.run.state(), RunState::Aggregating);
}

#[test]
fn too_few_updates_repeat_the_round_at_once_and_only_so_often() {
    let mut driver = Driver::recruited(plan(1, 3));
    for attempt in 1..=2 {
        assert_eq!(
            (driver.run.state(), driver.run.attempt),
            (RunState::Collecting, attempt)
        );
        for name in ["anna", "bert"] {
            driver.take(name);
            driver
                .decline(name, TaskKind::Train, Code::NotFinite)
                .expect("decline");
        }
    }
    assert!(
        matches!(driver.run.phase, Phase::Failed { .. }),
        "{:?}",
        driver.run.phase
    );
    assert!(driver.effects.is_empty());
}

#[test]
fn who_has_spent_its_budget_is_not_asked_again() {
    let mut driver = Driver::recruited(plan(2, 2));
    driver.take("anna");
    driver
        .decline("anna", TaskKind::Train, Code::BudgetSpent)
        .expect("decline");
    assert_eq!(
        driver.run.members[&id("anna")].left,
        Some(Code::BudgetSpent)
    );
    for name in ["bert", "cora", "dora"] {
        driver.take(name);
        driver.upload(name).expect("upload");
    }
    driver.publish();
    for name in ["bert", "cora", "dora"] {
        driver.take(name);
        driver.evaluate(name).expect("evaluation");
    }
    assert_eq!(
        (driver.run.state(), driver.run.round),
        (RunState::Collecting, 2)
    );
    assert!(driver.take("anna").is_none());
    // The consent it gave before, repeated with every check-in, does not bring it back.
    let old = Digest::of(b"whatever");
    assert_ne!(
        driver.run.members[&id("anna")]
            .consent
            .as_ref()
            .expect("consent")
            .statement,
        old
    );
}

#[test]
fn what_a_policy_forbids_for_good_is_not_asked_again_and_an_hour_is() {
    for (code, left) in [
        (Code::UnitForbidden, true),
        (Code::TooFewUnits, true),
        (Code::ResourcesLacking, true),
        (Code::OperatorForbidden, true),
        (Code::OutsideHours, false),
        (Code::ReleaseRefused, false),
    ] {
        let mut driver = Driver::recruited(plan(2, 2));
        driver.take("anna");
        driver
            .decline("anna", TaskKind::Train, code)
            .expect("decline");
        let expected = left.then_some(code);
        assert_eq!(driver.run.members[&id("anna")].left, expected, "{code}");
    }
}

type Change = Box<dyn Fn(&mut fedner_shared::statement::UpdateReceipt)>;

#[test]
fn what_does_not_fit_the_round_is_refused_and_changes_nothing() {
    let mut driver = Driver::recruited(plan(2, 4));
    driver.take("anna");
    let good = driver.receipt("anna");
    let other = Digest::of(b"other");
    let cases: Vec<(Code, Change)> = vec![
        (Code::UpdateBase, Box::new(move |r| r.base = other)),
        (Code::UpdateShape, Box::new(move |r| r.manifest = other)),
        (Code::UpdateWeight, Box::new(|r| r.weight = 101)),
        (Code::UpdateWeight, Box::new(|r| r.weight = 1_000_000)),
        (Code::ConsentInvalid, Box::new(move |r| r.plan = other)),
        (Code::RoundStale, Box::new(|r| r.round = 2)),
        (Code::RoundStale, Box::new(|r| r.attempt = 2)),
        (Code::NotInCohort, Box::new(|r| r.institution = id("eve"))),
    ];
    for (code, change) in cases {
        let mut update = good.clone();
        change(&mut update);
        let before = driver.run.clone();
        let rejection = driver
            .step(Input::Uploaded {
                receipt: other,
                update,
            })
            .expect_err("refused");
        assert_eq!(rejection.code(), code, "{rejection}");
        assert_eq!(driver.run, before);
    }
    driver.upload("anna").expect("the good one");
    assert_eq!(
        driver.upload("anna").expect_err("again").code(),
        Code::UpdateRepeated
    );
}

#[test]
fn consents_are_checked_and_their_weight_is_fixed() {
    let mut driver = Driver::started(plan(1, 2));
    driver.seen("anna");
    let too_many = driver.consent("anna", 501);
    assert_eq!(
        driver.step(too_many).expect_err("501").code(),
        Code::ExamplesOutOfRange
    );
    let none = driver.consent("anna", 0);
    assert_eq!(
        driver.step(none).expect_err("0").code(),
        Code::ExamplesOutOfRange
    );
    let stranger = driver.consent("eve", 10);
    assert_eq!(
        driver.step(stranger).expect_err("eve").code(),
        Code::NotInCohort
    );
    driver.join("anna");
    let changed = driver.consent("anna", 7);
    assert_eq!(
        driver.step(changed).expect_err("7").code(),
        Code::UpdateWeight
    );
    // Nobody works without a consent.
    assert!(driver.run.awaits_consent(&id("bert")) && !driver.run.awaits_consent(&id("anna")));
    assert!(matches!(
        driver.upload("bert"),
        Err(Rejection::NoConsent { .. })
    ));
}

/// Its program does not know a key of the plan, and gives way to a newer one.
#[test]
fn a_plan_that_could_not_be_read_is_shown_again_and_then_agreed_to() {
    for (code, again) in [
        (Code::PlanTooNew, true),
        (Code::PlanSignature, true),
        (Code::PolicyForbids, false),
    ] {
        let mut driver = Driver::started(plan(1, 2));
        assert!(driver.run.is_shown_to(&id("bert")));
        driver.seen("bert");
        driver
            .decline("bert", TaskKind::Train, code)
            .expect("declined");
        assert_eq!(driver.run.members[&id("bert")].left, Some(code));
        assert!(!driver.run.awaits_consent(&id("bert")), "not waited for");
        assert_eq!(driver.run.is_shown_to(&id("bert")), again, "{code}");
        driver.join("bert");
        assert_eq!(driver.run.members[&id("bert")].left, None);
        assert!(!driver.run.is_shown_to(&id("bert")), "it has agreed");
    }
}

#[test]
fn a_revoked_institution_is_not_counted_and_not_waited_for() {
    let mut driver = Driver::recruited(plan(1, 3));
    for name in ["anna", "bert", "cora"] {
        driver.take(name);
        driver.upload(name).expect("upload");
    }
    let institution = id("anna");
    driver
        .step(Input::Excluded {
            institution,
            code: Code::InstitutionRevoked,
        })
        .expect("excluded");
    assert_eq!(driver.run.state(), RunState::Collecting);
    driver.take("dora");
    driver.upload("dora").expect("upload");
    let names: Vec<_> = driver.effects[0]
        .contributions
        .iter()
        .map(|c| c.institution.as_str())
        .collect();
    assert_eq!(names, ["bert", "cora", "dora"]);
}

#[test]
fn a_pause_stops_the_clock_and_keeps_what_arrives() {
    let mut driver = Driver::recruited(plan(1, 2));
    driver.take("anna");
    driver.step(Input::Pause).expect("pause");
    assert!(driver.run.next_deadline().is_none());
    driver.upload("anna").expect("an update under way is kept");
    driver.pass(100_000);
    assert_eq!(driver.run.state(), RunState::Paused);
    assert!(driver.take("bert").is_none());
    driver.step(Input::Resume).expect("resume");
    assert_eq!(driver.run.state(), RunState::Collecting);
    assert_eq!(driver.take("bert"), Some(TaskKind::Train));
    driver.step(Input::Cancel).expect("cancel");
    assert_eq!(
        driver.step(Input::Cancel).expect_err("twice").code(),
        Code::RunState
    );
}

#[test]
fn after_a_restart_of_the_coordinator_nobody_is_blamed_for_its_absence() {
    let mut driver = Driver::recruited(plan(1, 2));
    for name in NAMES {
        driver.take(name);
    }
    driver.now = driver.now + std::time::Duration::from_mins(5);
    driver.step(Input::Restarted).expect("restarted");
    driver.pass(1);
    assert!(
        !driver
            .events
            .iter()
            .any(|e| matches!(e, Event::WentAway { .. }))
    );
    assert_eq!(driver.run.state(), RunState::Collecting);
}

#[test]
fn evaluations_are_of_the_version_and_its_labels() {
    let mut driver = Driver::recruited(plan(1, 2));
    for name in NAMES {
        driver.take(name);
        driver.upload(name).expect("upload");
    }
    driver.publish();
    driver.take("anna");
    let mut evaluation = driver.evaluation("anna");
    evaluation.version = Digest::of(b"other");
    assert_eq!(
        driver
            .step(Input::Evaluated { evaluation })
            .expect_err("version")
            .code(),
        Code::EvaluationInvalid
    );
    let mut evaluation = driver.evaluation("anna");
    let counts = evaluation.scores.by_type["Disease"];
    evaluation.scores.by_type.insert("Mr Smith".into(), counts);
    assert_eq!(
        driver
            .step(Input::Evaluated { evaluation })
            .expect_err("label")
            .code(),
        Code::EvaluationInvalid
    );
    driver.evaluate("anna").expect("evaluation");
    // Not sharing an evaluation is no reason to leave the run.
    driver.take("bert");
    driver
        .decline("bert", TaskKind::Evaluate, Code::PolicyForbids)
        .expect("decline");
    assert_eq!(driver.run.members[&id("bert")].left, None);
    driver.pass(50);
    assert_eq!(driver.run.phase, Phase::Completed);
}

/// Rounds in which training takes `seconds` for everybody.
fn rounds_of(driver: &mut Driver, rounds: u32, seconds: u64) {
    for _ in 0..rounds {
        for name in NAMES {
            assert_eq!(driver.take(name), Some(TaskKind::Train), "{name}");
        }
        driver.pass(seconds);
        for name in NAMES {
            driver.upload(name).expect("upload");
        }
        driver.publish();
        for name in NAMES {
            driver.take(name);
            driver.evaluate(name).expect("evaluation");
        }
    }
}

#[test]
fn who_takes_far_longer_than_ever_is_not_waited_for_once_the_quorum_is_in() {
    let mut driver = Driver::recruited(plan(5, 3));
    rounds_of(&mut driver, 2, 20);
    for name in NAMES {
        driver.take(name);
    }
    let began = driver.now;
    let expected = driver.run.explain().expected;
    assert_eq!(expected, Some(began + Duration::from_secs(20)));
    driver.pass(20);
    for name in ["anna", "bert"] {
        driver.upload(name).expect("upload");
    }
    // Twice the usual time and the slack have passed, but the quorum still needs somebody.
    for _ in 0..3 {
        driver.pass(20);
        driver.seen("cora");
        driver.seen("dora");
    }
    assert_eq!(driver.run.state(), RunState::Collecting);
    let view = driver.run.view();
    assert!(
        view.members
            .iter()
            .any(|member| member.state == MemberState::Late)
    );
    driver.upload("cora").expect("upload");
    assert_eq!(
        driver.run.state(),
        RunState::Aggregating,
        "dora is not waited for"
    );
    assert!(matches!(
        driver.upload("dora"),
        Err(Rejection::Stale { .. })
    ));
    // Who was late takes part in the next round as ever.
    driver.publish();
    assert_eq!(driver.take("dora"), Some(TaskKind::Evaluate));
}

#[test]
fn a_pace_is_learnt_from_earlier_runs_and_never_while_the_coordinator_was_away() {
    let mut first = Driver::recruited(plan(5, 3));
    rounds_of(&mut first, 2, 20);
    let mut later = Driver::recruited(plan(5, 3));
    later.run.adopt_durations(&first.run);
    let usual = |driver: &Driver| driver.run.members[&id("anna")].longest_training();
    assert_eq!(usual(&later), Some(Duration::from_secs(20)));
    later.take("anna");
    later.step(Input::Restarted).expect("restarted");
    assert_eq!(later.run.members[&id("anna")].late_from(), None);
    let mut other = plan(5, 3);
    other.training.local_epochs = 9;
    let mut other = Driver::recruited(other);
    other.run.adopt_durations(&first.run);
    assert_eq!(usual(&other), None, "another training takes another time");
}

#[test]
fn with_enough_updates_a_round_closes_at_once() {
    let mut text = plan(1, 2);
    text.cohort.enough = Some(3);
    text.check().expect("a sound plan");
    let mut driver = Driver::recruited(text);
    for name in NAMES {
        driver.take(name);
    }
    for name in ["anna", "bert"] {
        driver.upload(name).expect("upload");
    }
    assert_eq!(driver.run.state(), RunState::Collecting);
    assert!(driver.run.explain().then.contains("at once with 3"));
    driver.upload("cora").expect("upload");
    assert_eq!(driver.run.state(), RunState::Aggregating);
    assert!(matches!(
        driver.upload("dora"),
        Err(Rejection::Stale { .. })
    ));
    let mut wrong = plan(1, 2);
    wrong.cohort.enough = Some(1);
    assert!(wrong.check().is_err(), "fewer than the quorum");
}

#[test]
fn the_end_is_reckoned_from_the_last_rounds() {
    let mut driver = Driver::recruited(plan(5, 3));
    assert_eq!(driver.run.explain().finish, None);
    rounds_of(&mut driver, 2, 20);
    let began = driver.run.attempt_began;
    let three_more = began + Duration::from_mins(1);
    assert_eq!(driver.run.explain().finish, Some(three_more));
    driver.step(Input::Pause).expect("paused");
    assert_eq!(driver.run.explain().finish, None);
}
