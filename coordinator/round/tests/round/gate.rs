//! Counts that lie, and the gate that judges versions by them.

use fedner_round::{Input, Phase, Rejection};
use fedner_shared::digest::Digest;
use fedner_shared::event::{Event, Judgement};
use fedner_shared::plan::{Gate, OnRegression, Plan, Score};
use fedner_shared::refusal::Code;
use fedner_shared::score::{Counts, Scores};

use crate::driver::{Driver, NAMES, id, plan};

const HONEST: [&str; 3] = ["anna", "bert", "cora"];

fn gated(rounds: u32, change: impl Fn(&mut Gate)) -> Plan {
    let mut plan = plan(rounds, 4);
    let mut gate = Gate {
        min_gain: -0.02,
        max_type_loss: None,
        min_institutions: 3,
        score: Score::Median,
        on_regression: OnRegression::RollBack,
    };
    change(&mut gate);
    plan.gate = Some(gate);
    plan.check().expect("a sound plan");
    plan
}

fn version(number: usize) -> Digest {
    Digest::of(format!("version {number}").as_bytes())
}

/// A round in which each finds so many of its hundred entities.
fn round(driver: &mut Driver, found: [u64; 4]) {
    driver.until_evaluation();
    for (name, found) in NAMES.into_iter().zip(found) {
        driver.find(name, found).expect("counts");
    }
}

fn judged(driver: &Driver) -> Vec<(Judgement, String)> {
    let judged = |event: &Event| {
        let Event::Judged {
            judgement, reason, ..
        } = event
        else {
            return None;
        };
        Some((*judgement, reason.clone()))
    };
    driver.events.iter().filter_map(judged).collect()
}

fn judgements(driver: &Driver) -> Vec<Judgement> {
    judged(driver).into_iter().map(|(j, _)| j).collect()
}

/// The newest figures of a round: pooled, and the median.
fn figures(driver: &Driver) -> (f64, f64) {
    let figures = |event: &Event| {
        let Event::RoundFinished { f1, median_f1, .. } = event else {
            return None;
        };
        Some(((*f1)?, (*median_f1)?))
    };
    let mut found = driver.events.iter().filter_map(figures);
    found.next_back().expect("figures")
}

#[test]
fn a_version_that_loses_is_rolled_back_and_the_next_one_starts_from_the_champion() {
    let mut driver = Driver::recruited(gated(3, |_| {}));
    round(&mut driver, [50, 60, 70, 80]);
    round(&mut driver, [10, 10, 10, 10]);
    let standing = driver.run.standing.clone().expect("a standing");
    assert_eq!((standing.champion, standing.round), (version(1), 1));
    assert_eq!(driver.run.version, version(1));
    let explained = driver.run.explain().gate.expect("words");
    assert!(
        explained.contains("round 2 failed") && explained.contains("min_gain"),
        "{explained}"
    );
    round(&mut driver, [51, 61, 71, 81]);
    assert_eq!(driver.effects[2].base, version(1), "from the champion");
    assert_eq!(
        judgements(&driver),
        [Judgement::Passed, Judgement::Regressed, Judgement::Passed]
    );
    assert_eq!(driver.run.view().champion, Some(version(3)));
    assert_eq!(driver.run.phase, Phase::Completed);
}

#[test]
fn a_run_whose_last_version_is_rolled_back_ends_with_the_champion() {
    let mut driver = Driver::recruited(gated(2, |_| {}));
    round(&mut driver, [50, 60, 70, 80]);
    round(&mut driver, [10, 10, 10, 10]);
    let champion = version(1);
    let last = driver.events.last();
    assert_eq!(last, Some(&Event::RunCompleted { version: champion }));
}

#[test]
fn with_keep_the_alias_stands_and_training_goes_on() {
    let mut driver = Driver::recruited(gated(3, |g| g.on_regression = OnRegression::Keep));
    round(&mut driver, [50, 60, 70, 80]);
    round(&mut driver, [10, 10, 10, 10]);
    assert_eq!(driver.run.version, version(2));
    assert_eq!(driver.run.view().champion, Some(version(1)));
    // Better than the one before, but not than the champion.
    round(&mut driver, [20, 20, 20, 20]);
    assert_eq!(driver.run.view().champion, Some(version(1)));
    assert_eq!(driver.effects[2].base, version(2));
}

#[test]
fn too_few_evaluators_move_no_alias_and_throw_no_training_away() {
    let mut driver = Driver::recruited(gated(2, |_| {}));
    round(&mut driver, [50, 60, 70, 80]);
    driver.until_evaluation();
    for name in ["anna", "bert"] {
        driver.find(name, 99).expect("counts");
    }
    driver.pass(50);
    let (judgement, reason) = judged(&driver).pop().expect("judged");
    assert_eq!(judgement, Judgement::Unjudged, "{reason}");
    assert!(reason.contains("2 institutions"), "{reason}");
    assert_eq!(driver.run.view().champion, Some(version(1)));
    assert_eq!(driver.run.version, version(2));
}

/// The honest ones get worse, and one claims all that its declaration allows.
fn regression_with_a_liar(score: Score) -> Driver {
    let mut driver = Driver::recruited(gated(2, |gate| gate.score = score));
    round(&mut driver, [60, 60, 60, 60]);
    driver.until_evaluation();
    for name in HONEST {
        driver.find(name, 10).expect("counts");
    }
    let most = driver.run.plan.most_entities(100, None);
    driver.count("dora", most, 0, 0).expect("within its bound");
    driver
}

#[test]
fn one_liar_does_not_move_the_median_past_the_gate() {
    let driver = regression_with_a_liar(Score::Median);
    assert_eq!(
        judgements(&driver),
        [Judgement::Passed, Judgement::Regressed]
    );
    let honest = 20.0 / 110.0;
    let (_, median) = figures(&driver);
    assert!((median - honest).abs() < 1e-12, "{median}");
}

#[test]
fn one_liar_moves_the_pooled_figure_within_its_bound() {
    let driver = regression_with_a_liar(Score::Pooled);
    assert_eq!(judgements(&driver), [Judgement::Passed, Judgement::Passed]);
    let (pooled, _) = figures(&driver);
    assert!(pooled > 0.9, "the control failed to lie: {pooled}");
}

#[test]
fn one_liar_cannot_have_a_good_version_set_aside() {
    for (score, expected) in [
        (Score::Median, Judgement::Passed),
        (Score::Pooled, Judgement::Regressed),
    ] {
        let mut driver = Driver::recruited(gated(2, |gate| gate.score = score));
        round(&mut driver, [60, 60, 60, 60]);
        driver.until_evaluation();
        for name in HONEST {
            driver.find(name, 70).expect("counts");
        }
        let most = driver.run.plan.most_entities(100, None);
        driver.count("dora", 0, most, most).expect("counts");
        assert_eq!(judgements(&driver)[1], expected, "{score:?}");
    }
}

#[test]
fn a_loss_on_one_type_is_seen_though_the_whole_gains() {
    for (most, expected) in [(Some(0.1), Judgement::Regressed), (None, Judgement::Passed)] {
        let mut plan = gated(2, |gate| gate.max_type_loss = most);
        plan.labels = vec!["Disease".to_owned(), "Drug".to_owned()];
        let mut driver = Driver::recruited(plan);
        for (disease, drug) in [(500, 50), (900, 10)] {
            driver.until_evaluation();
            for name in NAMES {
                let mut evaluation = driver.evaluation(name);
                let counts = |found, all| Counts {
                    true_positives: found,
                    false_positives: 0,
                    false_negatives: all - found,
                };
                let by_type = [
                    ("Disease".to_owned(), counts(disease, 1000)),
                    ("Drug".to_owned(), counts(drug, 100)),
                ];
                evaluation.scores = Scores {
                    by_type: by_type.into(),
                };
                driver
                    .step(Input::Evaluated { evaluation })
                    .expect("counts");
            }
        }
        let (judgement, reason) = judged(&driver).pop().expect("judged");
        assert_eq!(judgement, expected, "{reason}");
        assert_eq!(reason.contains("Drug"), most.is_some(), "{reason}");
    }
}

#[test]
fn without_a_gate_every_version_goes_on_and_nothing_is_judged() {
    let mut driver = Driver::recruited(plan(2, 4));
    round(&mut driver, [50, 60, 70, 80]);
    round(&mut driver, [10, 10, 10, 10]);
    assert!(judged(&driver).is_empty() && driver.run.standing.is_none());
    assert_eq!(driver.run.version, version(2));
    let view = driver.run.view();
    let each: Vec<_> = view.members.iter().filter_map(|member| member.f1).collect();
    assert_eq!(each.len(), 4, "each has its own figure");
    assert_eq!((view.f1, view.median_f1), (view.f1, Some(each[0])));
}

#[test]
fn counts_beyond_what_was_declared_are_refused_and_change_nothing() {
    let mut driver = Driver::recruited(plan(1, 4));
    driver.until_evaluation();
    let most = driver.run.plan.most_entities(100, None);
    assert_eq!(most, 100 * 256);
    let before = driver.run.clone();
    for (tp, fp, fns) in [
        (most + 1, 0, 0),
        (0, most + 1, 0),
        (0, 0, most + 1),
        (most, 0, 1),
        (1 << 63, 0, 0),
        (u64::MAX, u64::MAX, u64::MAX),
        (1_000_000_000_000_000, 0, 0),
    ] {
        let refused = driver.count("anna", tp, fp, fns).expect_err("refused");
        assert_eq!(refused.code(), Code::EvaluationRange, "{refused}");
        assert_eq!(driver.run, before);
    }
    driver.count("anna", most, 0, 0).expect("just within");
}

#[test]
fn an_evaluation_for_another_plan_is_refused() {
    let mut driver = Driver::recruited(plan(1, 4));
    driver.until_evaluation();
    let mut evaluation = driver.evaluation("anna");
    evaluation.plan = Digest::of(b"another");
    let refused = driver.step(Input::Evaluated { evaluation });
    let refused = refused.expect_err("refused");
    assert!(matches!(refused, Rejection::EvaluationPlan { .. }));
    assert_eq!(refused.code(), Code::EvaluationInvalid);
    driver.evaluate("anna").expect("of the run's plan");
}

#[test]
fn declared_held_out_sentences_bound_the_counts() {
    let declared = |sentences: u32| {
        let mut driver = Driver::started(plan(1, 4));
        for name in NAMES {
            driver.seen(name);
            let Input::Joined { mut consent, .. } = driver.consent(name, 100) else {
                panic!("a consent");
            };
            consent.held_out = Some(sentences);
            let statement = Digest::of_json(&consent);
            driver.step(Input::Joined { consent, statement })?;
        }
        Ok::<_, Rejection>(driver)
    };
    let mut driver = declared(2).expect("joined");
    driver.until_evaluation();
    assert!(
        driver.run.members[&id("anna")]
            .consent
            .as_ref()
            .is_some_and(|c| c.held_out == Some(2))
    );
    let refused = driver
        .count("anna", 513, 0, 0)
        .expect_err("2 · 256 at most");
    assert_eq!(refused.code(), Code::EvaluationRange);
    driver.count("anna", 512, 0, 0).expect("as many as can be");
    for wrong in [0, 501] {
        let refused = declared(wrong).err().expect("refused");
        assert_eq!(refused.code(), Code::ExamplesOutOfRange, "{wrong}");
    }
}

#[test]
fn who_annotates_no_type_of_the_plan_neither_judges_nor_moves_the_median() {
    let mut driver = Driver::recruited(gated(2, |gate| gate.on_regression = OnRegression::Keep));
    let nothing = |driver: &mut Driver| {
        for name in ["cora", "dora"] {
            let mut evaluation = driver.evaluation(name);
            evaluation.scores = Scores::default();
            driver
                .step(Input::Evaluated { evaluation })
                .expect("counts");
        }
    };
    for found in [80, 40] {
        driver.until_evaluation();
        for name in ["anna", "bert"] {
            driver.find(name, found).expect("counts");
        }
        nothing(&mut driver);
    }
    // Two of four have counted: fewer than the three that the gate asks for.
    assert_eq!(judgements(&driver), [Judgement::Unjudged; 2]);
    let (pooled, median) = figures(&driver);
    assert!(
        (pooled - median).abs() < 1e-12 && median > 0.3,
        "{pooled} {median}"
    );
}
