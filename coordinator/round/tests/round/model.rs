//! Random histories beside a naive model: the model knows only who sent what in the open attempt.

use std::collections::BTreeMap;
use std::time::Duration;

use fedner_round::{Input, Later, Phase, TaskKind};
use fedner_shared::digest::Digest;
use fedner_shared::event::{Event, Judgement};
use fedner_shared::figures::{Cause, Figures, UpdateFigures};
use fedner_shared::id::InstitutionId;
use fedner_shared::plan::{DecidedBy, Gate, Guard, OnRegression, Schedule, Score};
use fedner_shared::refusal::Code;
use fedner_shared::time::Time;
use proptest::prelude::*;

use crate::driver::{Driver, NAMES, id, plan};

#[derive(Debug, Clone)]
enum Op {
    Join(usize),
    Take(usize),
    Upload(usize),
    /// An update made for another round, base or weight.
    Malformed(usize, u8),
    Decline(usize, bool),
    /// Cannot work now.
    PutOff(usize),
    /// Works from so many seconds on, or at once.
    Announce(usize, Option<u64>),
    /// The clock is set, by so many seconds.
    Jump(i64),
    /// Finds so many of a hundred entities.
    Evaluate(usize, u64),
    Publish,
    Exclude(usize),
    /// Left out of this round or one of the next.
    SetAside(usize, u32),
    Readmit(usize),
    /// Measures, with one update ten times as long as the others.
    Measure(usize),
    Pause,
    Resume,
    Restarted,
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0..NAMES.len();
    prop_oneof![
        3 => who.clone().prop_map(Op::Join),
        6 => who.clone().prop_map(Op::Take),
        6 => who.clone().prop_map(Op::Upload),
        2 => (who.clone(), any::<u8>()).prop_map(|(who, kind)| Op::Malformed(who, kind)),
        1 => (who.clone(), any::<bool>()).prop_map(|(who, for_good)| Op::Decline(who, for_good)),
        2 => who.clone().prop_map(Op::PutOff),
        1 => (who.clone(), prop::option::of(1..5000u64)).prop_map(|(who, from)| Op::Announce(who, from)),
        1 => (-100_000i64..100_000).prop_map(Op::Jump),
        8 => (who.clone(), 0..=100u64).prop_map(|(who, found)| Op::Evaluate(who, found)),
        4 => Just(Op::Publish),
        1 => who.clone().prop_map(Op::Exclude),
        2 => (who.clone(), 0..3u32).prop_map(|(who, ahead)| Op::SetAside(who, ahead)),
        1 => who.clone().prop_map(Op::Readmit),
        4 => who.prop_map(Op::Measure),
        1 => Just(Op::Pause),
        2 => Just(Op::Resume),
        1 => Just(Op::Restarted),
        3 => prop_oneof![1..20u64, 20..200u64, 200..2000u64].prop_map(Op::Pass),
    ]
}

/// What each of them declares.
const DECLARED: [u32; NAMES.len()] = [10, 40, 90, 500];

fn declared(name: &InstitutionId) -> u32 {
    let place = NAMES.iter().position(|known| *known == name.as_str());
    DECLARED[place.expect("one of the cohort")]
}

/// The weights of a round: none more than half of all, which is twice an equal share of four.
fn shared_out(declared: &[u32]) -> Vec<u32> {
    let mut weights = declared.to_vec();
    while let Some(largest) = weights.iter().copied().max() {
        if 2 * largest <= weights.iter().sum() {
            return weights;
        }
        if largest == 1 {
            break;
        }
        for weight in &mut weights {
            *weight = (*weight).min(largest - 1);
        }
    }
    vec![1; declared.len()]
}

/// Who sent what since the attempt began.
#[derive(Default)]
struct Model {
    open: BTreeMap<InstitutionId, Digest>,
    /// Events and effects already looked at.
    events: usize,
    effects: usize,
    counted: BTreeMap<(InstitutionId, u32, u32), Digest>,
    /// What the next round must start from, and the last version that passed the gate.
    stands: Option<Digest>,
    champion: Option<Digest>,
    /// F1 of the open version, and of the champion, of each institution.
    figures: BTreeMap<InstitutionId, f64>,
    best: BTreeMap<InstitutionId, f64>,
}

impl Model {
    /// The gate in a few lines: the median of each one's own gain.
    fn judge(&mut self, event: &Event, driver: &Driver) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else is judged")]
        match event {
            Event::VersionPublished { digest, .. } => {
                self.stands = Some(*digest);
                self.figures.clear();
            }
            Event::Evaluated {
                institution, f1, ..
            } => {
                self.figures.insert(institution.clone(), *f1);
            }
            Event::Left {
                institution,
                code: Code::InstitutionRevoked,
                ..
            } => {
                self.figures.remove(institution);
            }
            Event::Judged {
                version,
                judgement,
                champion,
                ..
            } => {
                let gate = driver.run.plan.gate.as_ref().expect("a gate");
                let mut gains: Vec<f64> = Vec::new();
                for (name, now) in &self.figures {
                    gains.extend(self.best.get(name).map(|before| now - before));
                }
                gains.sort_by(f64::total_cmp);
                let enough = |n: usize| n >= gate.min_institutions;
                let middle = |n: usize| f64::midpoint(gains[n / 2], gains[(n - 1) / 2]);
                let expected = match gains.len() {
                    _ if !enough(self.figures.len()) => Judgement::Unjudged,
                    _ if self.champion.is_none() => Judgement::Passed,
                    n if !enough(n) => Judgement::Unjudged,
                    n if middle(n) < gate.min_gain => Judgement::Regressed,
                    _ => Judgement::Passed,
                };
                assert_eq!(
                    *judgement, expected,
                    "{:?} of {:?}",
                    self.figures, self.best
                );
                assert_eq!(self.stands, Some(*version), "another version was judged");
                match judgement {
                    Judgement::Passed => {
                        self.champion = Some(*version);
                        self.best = self.figures.clone();
                    }
                    Judgement::Regressed if gate.on_regression == OnRegression::RollBack => {
                        self.stands = self.champion;
                    }
                    Judgement::Regressed | Judgement::Unjudged => {}
                }
                if let Some(expected) = self.champion {
                    assert_eq!(*champion, expected);
                }
            }
            Event::RunCompleted { version } => assert_eq!(Some(*version), self.stands),
            _ => {}
        }
    }

    fn look(&mut self, driver: &Driver) {
        for event in &driver.events[self.events..] {
            self.judge(event, driver);
            if let Event::RoundStarted { base, .. } = event {
                self.open.clear();
                let expected = self.stands.unwrap_or(*base);
                assert_eq!(*base, expected, "a round starts from another version");
                if driver.run.plan.only_evaluates() {
                    self.stands = Some(*base);
                }
            } else if let Event::UpdateAccepted {
                institution,
                update,
                ..
            } = event
            {
                let before = self.open.insert(institution.clone(), *update);
                assert_eq!(
                    before, None,
                    "{institution} was counted twice in one attempt"
                );
            } else if let Event::Left {
                institution,
                code: Code::InstitutionRevoked,
                ..
            } = event
            {
                self.open.remove(institution);
            } else if let Event::SetAside {
                round,
                institution,
                aside,
            } = event
                && aside.holds_in(*round)
                && aside.cause == Cause::Operator
            {
                self.open.remove(institution);
            }
        }
        self.events = driver.events.len();
        for effect in &driver.effects[self.effects..] {
            assert!(
                effect.contributions.len() >= driver.run.plan.cohort.quorum,
                "a sum without its quorum"
            );
            for contribution in &effect.contributions {
                let sent = self.open.get(&contribution.institution);
                assert_eq!(
                    sent,
                    Some(&contribution.update),
                    "a sum of something that was not sent"
                );
                let key = (
                    contribution.institution.clone(),
                    effect.round,
                    effect.attempt,
                );
                assert_eq!(
                    self.counted.insert(key, contribution.update),
                    None,
                    "one round was summed twice"
                );
            }
            let declared = effect
                .contributions
                .iter()
                .map(|c| declared(&c.institution));
            let expected = shared_out(&declared.collect::<Vec<_>>());
            let found = effect.contributions.iter().map(|c| c.weight);
            assert_eq!(found.collect::<Vec<_>>(), expected);
            assert_eq!(
                effect.contributions.len(),
                self.open.len(),
                "an update was left out"
            );
        }
        self.effects = driver.effects.len();
    }
}

fn apply(driver: &mut Driver, op: &Op) {
    let before = driver.run.clone();
    let outcome = match op {
        Op::Join(who) => {
            driver.seen(NAMES[*who]);
            let consent = driver.consent(NAMES[*who], DECLARED[*who]);
            let seen = driver.run.clone();
            return refused_changes_nothing(driver, consent, seen);
        }
        Op::Take(who) => {
            driver.take(NAMES[*who]);
            return;
        }
        Op::Upload(who) => driver.upload(NAMES[*who]),
        Op::Malformed(who, kind) => {
            let mut update = driver.receipt(NAMES[*who]);
            match kind % 4 {
                0 => update.base = Digest::of(b"other"),
                1 => update.round += 1,
                2 => update.weight += 1,
                _ => update.attempt += 1,
            }
            let outcome = driver.step(Input::Uploaded {
                receipt: Digest::of_json(&update),
                update,
            });
            assert!(outcome.is_err(), "a malformed update was accepted");
            outcome
        }
        Op::Decline(who, for_good) => {
            let code = if *for_good {
                Code::BudgetSpent
            } else {
                Code::NotFinite
            };
            let task = if matches!(driver.run.phase, Phase::Evaluating { .. }) {
                TaskKind::Evaluate
            } else {
                TaskKind::Train
            };
            driver.decline(NAMES[*who], task, code)
        }
        Op::PutOff(who) => {
            let task = if matches!(driver.run.phase, Phase::Evaluating { .. }) {
                TaskKind::Evaluate
            } else {
                TaskKind::Train
            };
            driver.decline(NAMES[*who], task, Code::DataUnavailable)
        }
        Op::Announce(who, seconds) => {
            let later = seconds.map(|seconds| Later {
                from: driver.now + Duration::from_secs(seconds),
                code: Code::OutsideHours,
            });
            let institution = id(NAMES[*who]);
            driver.step(Input::Announced { institution, later })
        }
        Op::Jump(seconds) => {
            let millis = seconds * 1000;
            driver.now = Time::from_millis(driver.now.as_millis() + millis);
            driver.step(Input::Jumped { millis })
        }
        Op::Evaluate(who, found) => driver.find(NAMES[*who], *found),
        Op::Publish => {
            if driver.run.phase == Phase::Aggregating {
                driver.publish();
            }
            return;
        }
        Op::Exclude(who) => {
            let institution = id(NAMES[*who]);
            driver.step(Input::Excluded {
                institution,
                code: Code::InstitutionRevoked,
            })
        }
        Op::SetAside(who, ahead) => {
            let round = driver.run.round + ahead;
            let institution = id(NAMES[*who]);
            driver.step(Input::SetAside { institution, round })
        }
        Op::Readmit(who) => {
            let institution = id(NAMES[*who]);
            driver.step(Input::Readmitted { institution })
        }
        Op::Measure(who) => {
            if driver.run.phase != Phase::Aggregating {
                return;
            }
            let long = id(NAMES[*who]);
            let updates = driver.run.contributions().map(|c| UpdateFigures {
                institution: c.institution.clone(),
                figures: Figures {
                    norm: if c.institution == long { 10.0 } else { 1.0 },
                    to_others: None,
                    to_last_step: None,
                },
            });
            let (round, attempt) = (driver.run.round, driver.run.attempt);
            driver.step(Input::Measured {
                round,
                attempt,
                updates: updates.collect(),
            })
        }
        Op::Pause => driver.step(Input::Pause),
        Op::Resume => driver.step(Input::Resume),
        Op::Restarted => driver.step(Input::Restarted),
        Op::Pass(seconds) => {
            driver.pass(*seconds);
            return;
        }
    };
    if outcome.is_err() {
        assert_eq!(driver.run, before, "a refused peer changed something");
    }
}

fn refused_changes_nothing(driver: &mut Driver, input: Input, before: fedner_round::Run) {
    if driver.step(input).is_err() {
        assert_eq!(driver.run, before, "a refused peer changed something");
    }
}

/// With nobody answering any more, the deadlines alone lead to an end. The model looks at every step: a
/// later round forgets what an earlier one was sent.
fn comes_to_an_end(driver: &mut Driver, model: &mut Model) {
    let _ = driver.step(Input::Resume);
    for _ in 0..200 {
        model.look(driver);
        if driver.run.phase.is_end() {
            return;
        }
        if driver.run.phase == Phase::Aggregating {
            driver.publish();
            continue;
        }
        let (deadline, _) = driver
            .run
            .next_deadline()
            .expect("a run that waits knows until when");
        assert!(!driver.run.explain().awaits.is_empty());
        driver.now = driver.now.max(deadline);
        driver.step(Input::Tick).expect("tick");
    }
    panic!("the run neither ends nor moves: {:?}", driver.run.phase);
}

fn gate() -> impl Strategy<Value = Option<Gate>> {
    let gate = (-0.3f64..0.3, 1usize..=4, any::<bool>());
    let gate = gate.prop_map(|(min_gain, min_institutions, roll_back)| Gate {
        min_gain,
        max_type_loss: None,
        min_institutions,
        score: Score::Median,
        on_regression: if roll_back {
            OnRegression::RollBack
        } else {
            OnRegression::Keep
        },
    });
    prop::option::weighted(0.7, gate)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_history_keeps_the_promises(quorum in 1usize..=4, rounds in 0u32..4, gate in gate(), guarded: bool, scheduled: bool, ops in prop::collection::vec(op(), 0..120)) {
        let mut plan = plan(rounds, quorum);
        plan.gate = gate.filter(|_| rounds > 0);
        plan.guard = (guarded && quorum < 4 && rounds > 0).then_some(Guard {
            max_norm_ratio: Some(3.0),
            min_cosine: None,
            min_rounds: 1,
            rounds: 2,
            by: DecidedBy::Rule,
        });
        plan.schedule = scheduled.then(|| Schedule {
            times: "*/5 * * * *".to_owned(),
            zone: "UTC".to_owned(),
            rounds: 1,
            evaluations: if rounds == 0 { 2 } else { 1 },
        });
        let mut driver = Driver::started(plan);
        let mut model = Model::default();
        for op in &ops {
            apply(&mut driver, op);
            model.look(&driver);
            prop_assert!(driver.run.members.len() == NAMES.len());
            prop_assert!(driver.run.attempt <= driver.run.plan.cohort.max_attempts);
        }
        comes_to_an_end(&mut driver, &mut model);
        model.look(&driver);
        let count = |wanted: fn(&Event) -> bool| driver.events.iter().filter(|e| wanted(e)).count();
        let published = count(|e| matches!(e, Event::VersionPublished { .. }));
        // A closed round without a version is one that the guard left too few updates of.
        let dropped = count(|e| {
            let Event::RoundRepeated { reason, .. } = e else {
                return matches!(e, Event::RunFailed { reason } if reason.contains("set aside"));
            };
            reason.contains("set aside")
        });
        prop_assert_eq!(published + dropped, driver.effects.len());
        if driver.run.phase == Phase::Completed {
            prop_assert_eq!(published, rounds as usize);
            let evaluated = driver.run.members.values().filter(|m| m.scores.is_some()).count();
            prop_assert!(rounds > 0 || evaluated >= quorum);
        }
    }
}
