//! The audit passes on what the product does, and fails on each control that breaks one rule of it.

use std::collections::VecDeque;

use fedner_model::{Clip, Mechanism, Private};
use fedner_privacy::audit as attacks;
use fedner_privacy::noise::Generator;
use fedner_privacy::release::Releaser;
use fedner_shared::plan::{Plan, Unit};
use fedner_shared::sign::SecretKey;
use fedner_shared::time::Time;
use fedner_shared::update::encode;

use super::report::{AuditReport, AuditedPlan, Outcome, Part, SignedReport};
use super::trainer::{Path, Watched};
use super::*;
use crate::dp_sgd::Steps;

const CONFIDENCE: f64 = 0.99;

/// With `batch_size` units expected in a step.
fn plan(unit: &str, batch_size: usize, noise_multiplier: f64) -> Plan {
    let text = format!(
        r#"
        name = "audited"
        base = "tiny@1"
        labels = ["Disease"]
        method = "head"
        rounds = 1
        [training]
        batch_size = {batch_size}
        [cohort]
        institutions = ["st-anna", "mercy"]
        quorum = 1
        [privacy]
        unit = "{unit}"
        clip = 0.1
        noise_multiplier = {noise_multiplier}
        max_epsilon = 1000.0
        "#
    );
    Plan::parse(&text).expect("plan")
}

fn seeded(watched: &Watched<'_>, plan: &Plan, seed: u8) -> Steps {
    Steps::seeded(plan, watched.units, watched.case.dimension(), seed).expect("steps")
}

/// The product's way, with known randomness.
fn honest(watched: Watched<'_>) -> Result<(), Error> {
    let plan = watched.plan;
    let mut steps = seeded(&watched, plan, 1);
    watched.train(steps.settings(plan))
}

/// Noise of another size than the plan's.
fn noise_times(factor: f64) -> impl Fn(Watched<'_>) -> Result<(), Error> {
    move |watched| {
        let mut broken = watched.plan.clone();
        broken.privacy.noise_multiplier *= factor;
        let mut steps = seeded(&watched, &broken, 2);
        watched.train(steps.settings(&broken))
    }
}

/// The plan's training with something else in it.
fn with(change: impl Fn(Private<'_>) -> Private<'_>) -> impl Fn(Watched<'_>) -> Result<(), Error> {
    move |watched| {
        let plan = watched.plan;
        let mut steps = seeded(&watched, plan, 3);
        watched.train(change(steps.settings(plan)))
    }
}

/// Divides by how many were sampled instead of by how many were expected.
#[derive(Debug)]
struct ActualBatch<'a> {
    inner: &'a mut dyn Mechanism,
    expected: f64,
    sizes: VecDeque<usize>,
}

impl Mechanism for ActualBatch<'_> {
    fn sample(&mut self, units: usize) -> Vec<usize> {
        let sampled = self.inner.sample(units);
        self.sizes.push_back(sampled.len());
        sampled
    }

    fn choose(&mut self, windows: usize, count: usize) -> Vec<usize> {
        self.inner.choose(windows, count)
    }

    fn release(&mut self, sum: &mut [f64]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.inner.release(sum)?;
        let size = self.sizes.pop_front().ok_or("nothing was sampled")?.max(1);
        for value in sum {
            // The trainer divides by what was expected.
            *value *= self.expected / size as f64;
        }
        Ok(())
    }
}

fn actual_batch(watched: Watched<'_>) -> Result<(), Error> {
    let plan = watched.plan;
    let mut steps = seeded(&watched, plan, 4);
    let private = steps.settings(plan);
    let mut mechanism = ActualBatch {
        expected: private.expected_batch,
        inner: private.mechanism,
        sizes: VecDeque::new(),
    };
    watched.train(Private {
        mechanism: &mut mechanism,
        ..private
    })
}

/// Every unit once an epoch: which step it comes to tells nothing more.
#[derive(Debug)]
struct Shuffled<'a> {
    inner: &'a mut dyn Mechanism,
    steps_an_epoch: usize,
    step: usize,
}

impl Mechanism for Shuffled<'_> {
    fn sample(&mut self, units: usize) -> Vec<usize> {
        let (epoch, step) = (
            self.step / self.steps_an_epoch,
            self.step % self.steps_an_epoch,
        );
        self.step += 1;
        (0..units)
            .filter(|unit| (unit + epoch) % self.steps_an_epoch == step)
            .collect()
    }

    fn choose(&mut self, windows: usize, count: usize) -> Vec<usize> {
        self.inner.choose(windows, count)
    }

    fn release(&mut self, sum: &mut [f64]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.inner.release(sum)
    }
}

fn shuffled(watched: Watched<'_>) -> Result<(), Error> {
    let plan = watched.plan;
    let mut steps = seeded(&watched, plan, 5);
    let private = steps.settings(plan);
    let mut mechanism = Shuffled {
        steps_an_epoch: private.steps_an_epoch,
        inner: private.mechanism,
        step: 0,
    };
    watched.train(Private {
        mechanism: &mut mechanism,
        ..private
    })
}

/// Both parts of the attack on steps, every unit in every step.
fn every_step(unit: &str, epochs: u32, path: &Path<'_>) -> [Part; 2] {
    let parts = steps::attack_path(&plan(unit, 2, 1.0), 2, epochs, CONFIDENCE, path);
    let parts = parts.expect("attacked").parts;
    parts.try_into().expect("two parts")
}

/// The same where a unit is in a step of sixteen.
fn sampled_steps(path: &Path<'_>) -> [Part; 2] {
    let parts = steps::attack_path(&plan("sentence", 1, 0.25), 16, 500, CONFIDENCE, path);
    let parts = parts.expect("attacked").parts;
    parts.try_into().expect("two parts")
}

/// The largest part of what is claimed that a bound comes to.
fn reach(part: &Part) -> f64 {
    let parts = part
        .bounds
        .iter()
        .filter(|bound| bound.epsilon_claimed > 0.0);
    parts
        .map(|bound| bound.epsilon_lower_bound / bound.epsilon_claimed)
        .fold(0.0, f64::max)
}

#[test]
fn the_trainer_holds_its_claim_and_the_attack_is_worth_something() {
    for unit in ["person", "document", "sentence"] {
        let [direction, size] = every_step(unit, 6000, &honest);
        assert!(direction.holds() && size.holds(), "{direction:?} {size:?}");
        assert!(reach(&direction) > 0.4, "{direction:?}");
    }
    let [direction, size] = sampled_steps(&honest);
    assert!(direction.holds() && size.holds(), "{direction:?} {size:?}");
    assert!(reach(&direction) > 0.1, "{direction:?}");
}

#[test]
fn control_half_the_noise_fails() {
    let [direction, _] = every_step("person", 800, &noise_times(0.5));
    assert!(!direction.holds(), "{direction:?}");
}

#[test]
fn control_without_clipping_fails() {
    let unclipped = with(|private| Private {
        clip: Clip::threshold(f64::INFINITY),
        ..private
    });
    let [direction, _] = every_step("person", 800, &unclipped);
    assert!(!direction.holds(), "{direction:?}");
}

#[test]
fn control_the_actual_batch_as_divisor_fails() {
    let [_, size] = every_step("person", 800, &actual_batch);
    assert!(!size.holds(), "{size:?}");
}

#[test]
fn control_shuffled_batches_accounted_as_poisson_fail() {
    let [direction, _] = sampled_steps(&shuffled);
    assert!(!direction.holds(), "{direction:?}");
}

#[test]
fn control_one_unit_split_into_many_fails() {
    let split = with(|private| Private {
        unit: Unit::Sentence,
        ..private
    });
    let [direction, _] = every_step("person", 800, &split);
    assert!(!direction.holds(), "{direction:?}");
}

/// Steps of a cohort in which fewer add noise than the plan divides it among.
#[test]
fn steps_taken_together_hold_their_claim_and_too_many_shares_fail() {
    let mut plan = plan("sentence", 16, 1.0);
    (plan.privacy.cohort_units, plan.privacy.noise_shares) = (Some(64), 4);
    let attacked = |fellows: u32| {
        let path = move |watched: Watched<'_>| {
            let dimension = watched.case.dimension();
            let own = Steps::private(watched.plan, watched.units, dimension);
            let own = own.map_err(training::Error::from)?.expect("sampled");
            watched.train_with(own, fellows)
        };
        steps::attack_path(&plan, 16, 2000, CONFIDENCE, &path).expect("attacked")
    };
    let honest = attacked(3);
    assert!(honest.parts.iter().all(Part::holds), "{honest:?}");
    assert!(honest.checks.iter().all(Check::holds), "{honest:?}");
    let few = attacked(2);
    assert!(!few.checks.iter().all(Check::holds), "{few:?}");
}

#[test]
fn many_canaries_in_one_training_hold_the_claim_and_an_eighth_of_the_noise_fails() {
    let run = |noise_multiplier, path: &Path<'_>| {
        let mut plan = plan("person", 100, noise_multiplier);
        plan.training.local_epochs = 2;
        let mut coins = Generator::from_seed([6; 32]);
        one_run::attack_path(&plan, 200, 400, 0.95, &mut coins, path)
            .expect("attacked")
            .expect("sampled")
    };
    let part = run(1.0, &honest);
    assert!(part.holds() && reach(&part) > 0.1, "{part:?}");
    let control = run(4.0, &noise_times(0.125));
    assert!(!control.holds(), "{control:?}");
}

/// Updates of `privacy`, held against the claim of the plan.
fn updates(change: impl Fn(&mut fedner_shared::plan::Privacy)) -> Part {
    let plan = plan("institution", 16, 1.0);
    let mut privacy = plan.privacy.clone();
    change(&mut privacy);
    let releaser = Releaser::new(&privacy, 64).expect("releaser");
    let path = |update: &[f32]| -> Result<Vec<u8>, attacks::Error> {
        let mut bytes = Vec::new();
        encode(&releaser.release(update)?.values, &mut bytes)?;
        Ok(bytes)
    };
    update::attack_path(&plan, 64, 3000, CONFIDENCE, path).expect("attacked")
}

#[test]
fn updates_hold_their_claim_and_controls_fail() {
    // Randomness is the system's here: at this confidence one run in some thousand is unlucky.
    let plan = plan("institution", 16, 1.0);
    let attacked = update::attack(&plan, 64, 6000, 0.9999).expect("attacked");
    assert!(attacked.checks.iter().all(Check::holds), "{attacked:?}");
    let part = &attacked.parts[0];
    assert!(part.holds() && reach(part) > 0.3, "{part:?}");
    let half = updates(|privacy| privacy.noise_multiplier /= 2.0);
    assert!(!half.holds(), "{half:?}");
    // The attack's update is twice the clip; the noise stays that of the clip.
    let unclipped = updates(|privacy| {
        privacy.clip *= 2.0;
        privacy.noise_multiplier /= 2.0;
    });
    assert!(!unclipped.holds(), "{unclipped:?}");
}

/// Noise that is divided by more members than add theirs, and less is added up than is claimed.
#[test]
fn sums_of_shares_hold_their_claim_and_too_many_shares_fail() {
    let mut plan = plan("institution", 16, 1.0);
    plan.privacy.noise_shares = 3;
    let attacked = update::attack(&plan, 64, 1000, 0.9999).expect("attacked");
    assert!(attacked.checks.iter().all(Check::holds), "{attacked:?}");
    assert!(attacked.parts.iter().all(Part::holds), "{attacked:?}");
    let releaser = |shares| {
        let mut privacy = plan.privacy.clone();
        privacy.noise_shares = shares;
        Releaser::new(&privacy, 64).expect("releaser")
    };
    let holds = |shares| {
        let releaser = releaser(shares);
        let path = |update: &[f32]| attacks::canary::release_sum(&releaser, update, 3);
        let checks = update::noise_of(&plan, 64, 1000, 0.9999, path).expect("measured");
        checks.iter().all(Check::holds)
    };
    assert!(holds(3));
    assert!(!holds(4), "divided by four, and three add it");
}

/// A plan of the README: its head at ε = 8, in epochs of five steps.
const ORDINARY: (u32, usize, f64) = (5424, 1024, 2.45);

/// What the audit measures of that plan's mechanism, on any way to train.
fn inside(path: &Path<'_>) -> Vec<Check> {
    inside_of(ORDINARY, 600, path)
}

fn inside_of(
    (units, batch_size, noise_multiplier): (u32, usize, f64),
    epochs: u32,
    path: &Path<'_>,
) -> Vec<Check> {
    let plan = plan("sentence", batch_size, noise_multiplier);
    let attacked = steps::attack_path(&plan, units, epochs, CONFIDENCE, path);
    attacked.expect("attacked").checks
}

fn broken(checks: &[Check]) -> Vec<&str> {
    let broken = checks.iter().filter(|check| !check.holds());
    broken.map(|check| check.name.as_str()).collect()
}

/// The sampling of another batch than the plan's.
fn rate_times(factor: f64) -> impl Fn(Watched<'_>) -> Result<(), Error> {
    move |watched| {
        let mut broken = watched.plan.clone();
        broken.training.batch_size = (broken.training.batch_size as f64 * factor) as usize;
        let (plan, mut steps) = (watched.plan, seeded(&watched, &broken, 2));
        watched.train(steps.settings(plan))
    }
}

fn clip_times(factor: f64) -> impl Fn(Watched<'_>) -> Result<(), Error> {
    with(move |private| Private {
        clip: Clip {
            bound: private.clip.bound * factor,
            ..private.clip
        },
        ..private
    })
}

#[test]
fn an_ordinary_plan_holds_and_the_checks_say_what_they_notice() {
    // Each training has noise of its own, as in the product; which it is is known here.
    let seed = std::cell::Cell::new(20);
    let honest = |watched: Watched<'_>| {
        seed.set(seed.get() + 1);
        let plan = watched.plan;
        let mut steps = seeded(&watched, plan, seed.get());
        watched.train(steps.settings(plan))
    };
    let checks = inside(&honest);
    assert_eq!(broken(&checks), [""; 0], "{checks:?}");
    let of = |name: &str| {
        let check = checks.iter().find(|check| check.name == name);
        check.expect(name).notices
    };
    assert!(of("noise") > 0.99, "{checks:?}");
    assert!(of("rate") < 1.25, "{checks:?}");
    assert!(of("clip") < 1.01, "{checks:?}");
    for name in ["noise-steps", "noise-coordinates", "noise-restarts"] {
        assert!(of(name) < 0.05, "{checks:?}");
    }
    assert_eq!(Outcome::new(&[], &checks), Outcome::Pass);
}

#[test]
fn control_a_fifth_less_noise_is_noticed_at_an_ordinary_plan() {
    let checks = inside(&noise_times(0.8));
    assert!(broken(&checks).contains(&"noise"), "{checks:?}");
    assert_eq!(Outcome::new(&[], &checks), Outcome::Fail);
}

#[test]
fn control_a_clip_that_is_a_quarter_longer_is_noticed() {
    let checks = inside(&clip_times(1.25));
    assert!(broken(&checks).contains(&"clip"), "{checks:?}");
}

#[test]
fn control_a_rate_that_is_a_quarter_higher_is_noticed() {
    let checks = inside(&rate_times(1.25));
    assert!(broken(&checks).contains(&"rate"), "{checks:?}");
}

#[test]
fn gradients_by_an_encoder_hold_their_clip_and_a_norm_that_is_too_small_is_noticed() {
    for method in ["bitfit", "ffa-lora", "lora", "full"] {
        let mut plan = plan("sentence", 64, 2.0);
        plan.method = method.parse().expect("method");
        let sound = mechanism::clip_of_method(&plan, CONFIDENCE);
        let sound = sound.expect("measured").expect("an encoder");
        assert!(sound.holds() && sound.notices < 1.01, "{sound:?}");
        assert!(sound.found > 0.9, "the clip is reached: {sound:?}");
        // A norm that is taken for nine tenths of itself lets so much more through.
        let clip = Clip {
            bound: plan.privacy.clip / 0.9,
            ..Clip::from_privacy(&plan.privacy)
        };
        let broken = mechanism::clip_of(&plan, clip, CONFIDENCE);
        assert!(
            !broken.expect("measured").expect("an encoder").holds(),
            "{method}"
        );
    }
}

/// Each defect at each plan of the README and the benchmarks, at the default number of runs; prints the
/// table of the benchmarks.
#[test]
#[ignore = "minutes: the long suite"]
#[allow(clippy::print_stdout, reason = "prints a table of the benchmarks")]
fn planted_defects_are_noticed_at_every_ordinary_plan() {
    let plans = [
        ("head, 5,424 sentences, ε = 8", (5424, 1024, 2.45)),
        ("head, 5,424 sentences, ε = 3", (5424, 1024, 5.48)),
        ("head, 5,424 sentences, ε = 1", (5424, 1024, 14.6)),
        ("demo, 1,583 persons, ε = 7.9", (1583, 1234, 5.5)),
        ("5,000 units, batches of 256", (5000, 256, 1.1)),
    ];
    let defects: [(&str, Box<Path<'static>>); 7] = [
        ("noise x0.8", Box::new(noise_times(0.8))),
        ("noise x0.95", Box::new(noise_times(0.95))),
        ("noise x0.99", Box::new(noise_times(0.99))),
        ("clip x1.25", Box::new(clip_times(1.25))),
        ("norm x0.9", Box::new(clip_times(1.0 / 0.9))),
        ("rate x1.25", Box::new(rate_times(1.25))),
        ("noise comes again", Box::new(honest)),
    ];
    println!("| plan | defect | noticed by |\n|---|---|---|");
    for (name, setting) in plans {
        for (defect, path) in &defects {
            let checks = inside_of(setting, 4000, path);
            // Known randomness is the same in both trainings here: that alone is the last defect.
            let mut found = broken(&checks);
            if *defect != "noise comes again" {
                found.retain(|check| *check != "noise-restarts");
            }
            println!("| {name} | {defect} | {} |", found.join(", "));
            assert!(!found.is_empty(), "{name}: {defect}");
        }
    }
}

/// A training that goes on after a stop with the generator that it had begun with.
#[test]
fn control_noise_that_comes_again_after_a_restart_is_noticed() {
    let checks = inside(&honest);
    assert_eq!(broken(&checks), ["noise-restarts"], "{checks:?}");
}

fn report(parts: Vec<Part>) -> AuditReport {
    let plan = plan("person", 16, 1.0);
    let institution = "st-anna".parse().expect("name");
    AuditReport {
        plan: Some(AuditedPlan {
            name: plan.name.clone(),
            digest: plan.digest(),
            unit: Unit::Person,
            clip: 0.1,
            noise_multiplier: 1.0,
            delta: 1e-5,
            rounds: 1,
            units: Some(40),
        }),
        verdict: Outcome::new(&parts, &[]),
        parts,
        ..AuditReport::new(
            crate::SOFTWARE,
            institution,
            Time::from_millis(5),
            CONFIDENCE,
        )
    }
}

fn part(epsilon_lower_bound: f64) -> Part {
    Part {
        name: "update".to_owned(),
        trials: 40,
        bounds: vec![attacks::Verdict {
            epsilon_lower_bound,
            epsilon_claimed: 2.0,
            delta: 1e-5,
            confidence: CONFIDENCE,
        }],
        power: None,
    }
}

#[test]
fn one_refuted_bound_is_a_fail_and_nothing_held_against_a_claim_is_neither() {
    assert_eq!(report(vec![part(1.0), part(2.0)]).verdict, Outcome::Pass);
    assert_eq!(report(vec![part(1.0), part(2.1)]).verdict, Outcome::Fail);
    assert_eq!(report(vec![part(f64::NAN)]).verdict, Outcome::Fail);
    assert_eq!(report(Vec::new()).verdict, Outcome::None);
}

#[test]
fn a_kept_report_is_verified_by_its_author_and_no_edit_survives() {
    let key = SecretKey::from_seed([3; 32]);
    let report = report(vec![part(1.0)]);
    let place = tempfile::tempdir().expect("directory");
    let signed = SignedReport::new(&report, &key);
    let file = signed.keep(&report, place.path()).expect("kept");
    let folder = file.parent().and_then(|folder| folder.file_name());
    let expected = format!("plan-{}", report.plan.as_ref().expect("plan").digest);
    assert_eq!(
        folder.and_then(|name| name.to_str()),
        Some(expected.as_str())
    );
    let read = SignedReport::read(&file).expect("read");
    assert_eq!(read.verify(&key.public()).expect("signed"), report);
    assert!(
        read.verify(&SecretKey::from_seed([4; 32]).public())
            .is_err()
    );
    let text = std::fs::read_to_string(&file).expect("file");
    let edited = text.replace("\\\"pass\\\"", "\\\"fail\\\"");
    assert_ne!(edited, text);
    std::fs::write(&file, edited).expect("written");
    let edited = SignedReport::read(&file).expect("read");
    let error = edited.verify(&key.public()).expect_err("edited");
    assert_eq!(
        error.refusal().expect("refusal").code,
        Code::SignatureInvalid
    );
}

#[test]
fn what_was_planted_is_looked_for_and_other_text_is_refused() {
    let text = exposure::plant("Disease", 3, 2).expect("planted");
    let corpus = fedner_model::Corpus::parse("planted", text.as_bytes()).expect("corpus");
    assert_eq!((corpus.sentences.len(), corpus.persons()), (6, 3));
    let word = |index: usize| corpus.sentences[index].words[2].clone();
    assert!(word(0) == word(1) && word(0) != word(2) && word(0).len() == 8);
}
