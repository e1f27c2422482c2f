//! A run with a clock that only moves when told to.

use std::time::Duration;

use fedner_round::{Created, Effect, Input, Rejection, Run, TaskKind};
use fedner_shared::digest::Digest;
use fedner_shared::event::Event;
use fedner_shared::id::InstitutionId;
use fedner_shared::plan::Plan;
use fedner_shared::refusal::Code;
use fedner_shared::score::{Counts, Scores};
use fedner_shared::statement::{Consent, EvaluationReceipt, UpdateReceipt};
use fedner_shared::time::Time;

pub(crate) const NAMES: [&str; 4] = ["anna", "bert", "cora", "dora"];

pub(crate) fn plan(rounds: u32, quorum: usize) -> Plan {
    Plan::parse(&format!(
        r#"
        name = "test"
        base = "tiny@1"
        labels = ["Disease"]
        method = "head"
        rounds = {rounds}
        [cohort]
        institutions = ["anna", "bert", "cora", "dora"]
        quorum = {quorum}
        recruit_timeout_s = 100
        train_timeout_s = 1000
        evaluate_timeout_s = 50
        away_after_s = 30
        max_attempts = 2
        max_examples = 500
        weighting = "examples"
        [privacy]
        unit = "none"
    "#
    ))
    .expect("plan")
}

pub(crate) struct Driver {
    pub(crate) run: Run,
    pub(crate) now: Time,
    pub(crate) events: Vec<Event>,
    pub(crate) effects: Vec<Effect>,
}

pub(crate) fn id(name: &str) -> InstitutionId {
    name.parse().expect("name")
}

impl Driver {
    pub(crate) fn new(plan: Plan) -> Self {
        let now = Time::from_millis(0);
        let created = Created {
            id: "test.1".parse().expect("id"),
            plan_digest: plan.digest(),
            plan,
            manifest: Digest::of(b"manifest"),
            dimension: 3,
            base: Digest::of(b"base"),
        };
        let transition = Run::create(now, created);
        Self {
            run: transition.run,
            now,
            events: transition.events,
            effects: Vec::new(),
        }
    }

    pub(crate) fn step(&mut self, input: Input) -> Result<(), Rejection> {
        let transition = self.run.step(self.now, input)?;
        // What is made durable must be what is in memory.
        let json = serde_json::to_string(&transition.run).expect("json");
        assert_eq!(
            serde_json::from_str::<Run>(&json).expect("snapshot"),
            transition.run
        );
        self.run = transition.run;
        self.events.extend(transition.events);
        self.effects.extend(transition.effects);
        Ok(())
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.step(Input::Tick).expect("time may always pass");
    }

    pub(crate) fn seen(&mut self, name: &str) {
        self.step(Input::Seen {
            institution: id(name),
        })
        .expect("seen");
    }

    pub(crate) fn consent(&self, name: &str, examples: u32) -> Input {
        let consent = Consent {
            plan: self.run.plan_digest,
            institution: id(name),
            examples,
            held_out: None,
            annotation: None,
            policy: Digest::of(b"policy"),
            at: self.now,
            expires: self.now + Duration::from_secs(1_000_000),
        };
        Input::Joined {
            statement: Digest::of_json(&consent),
            consent,
        }
    }

    /// Checks in and agrees.
    pub(crate) fn join(&mut self, name: &str) {
        self.seen(name);
        self.step(self.consent(name, 100)).expect("joined");
    }

    /// Checks in with the consent that it gave, or a new one.
    pub(crate) fn join_again(&mut self, name: &str) {
        self.seen(name);
        if self.run.members[&id(name)].consent.is_none() {
            self.step(self.consent(name, 100)).expect("joined");
        }
    }

    /// Checks in and fetches what there is to do.
    pub(crate) fn take(&mut self, name: &str) -> Option<TaskKind> {
        self.seen(name);
        let assignment = self.run.assignment(&id(name))?;
        self.step(Input::Taken {
            institution: id(name),
        })
        .expect("taken");
        Some(assignment.task)
    }

    pub(crate) fn receipt(&self, name: &str) -> UpdateReceipt {
        let examples = self.run.members[&id(name)]
            .consent
            .as_ref()
            .map_or(0, |c| c.examples);
        UpdateReceipt {
            run: self.run.id.clone(),
            plan: self.run.plan_digest,
            round: self.run.round,
            attempt: self.run.attempt,
            institution: id(name),
            base: self.run.version,
            manifest: self.run.manifest,
            weight: self.run.plan.weight(&id(name), examples),
            blob: Digest::of(format!("{name} {} {}", self.run.round, self.run.attempt).as_bytes()),
            bytes: 10,
            masked: None,
            sigma: 0.0,
            epsilon_after: None,
            epsilon_alone: None,
            ledger_head: None,
            at: self.now,
        }
    }

    pub(crate) fn upload(&mut self, name: &str) -> Result<(), Rejection> {
        let update = self.receipt(name);
        self.step(Input::Uploaded {
            receipt: Digest::of_json(&update),
            update,
        })
    }

    pub(crate) fn decline(
        &mut self,
        name: &str,
        task: TaskKind,
        code: Code,
    ) -> Result<(), Rejection> {
        let (round, attempt) = (self.run.round, self.run.attempt);
        let reason = "test".to_owned();
        self.step(Input::Declined {
            institution: id(name),
            task,
            round,
            attempt,
            code,
            reason,
            again: None,
        })
    }

    pub(crate) fn evaluation(&self, name: &str) -> EvaluationReceipt {
        let counts = Counts {
            true_positives: 3,
            false_positives: 1,
            false_negatives: 1,
        };
        EvaluationReceipt {
            run: self.run.id.clone(),
            plan: self.run.plan_digest,
            round: self.run.round,
            institution: id(name),
            version: self.run.version,
            scores: Scores {
                by_type: [("Disease".to_owned(), counts)].into(),
            },
            noise: None,
            at: self.now,
        }
    }

    /// Sends counts of a hundred entities, of which so many were found and nothing was imagined.
    pub(crate) fn find(&mut self, name: &str, found: u64) -> Result<(), Rejection> {
        self.count(name, found, 0, 100_u64.saturating_sub(found))
    }

    /// Sends counts of the one type.
    pub(crate) fn count(
        &mut self,
        name: &str,
        true_positives: u64,
        false_positives: u64,
        false_negatives: u64,
    ) -> Result<(), Rejection> {
        let mut evaluation = self.evaluation(name);
        let counts = Counts {
            true_positives,
            false_positives,
            false_negatives,
        };
        evaluation.scores.by_type = [("Disease".to_owned(), counts)].into();
        self.step(Input::Evaluated { evaluation })
    }

    pub(crate) fn evaluate(&mut self, name: &str) -> Result<(), Rejection> {
        let evaluation = self.evaluation(name);
        self.step(Input::Evaluated { evaluation })
    }

    /// Carries out the newest effect.
    pub(crate) fn publish(&mut self) {
        let effect = self.effects.last().expect("an effect").clone();
        let number = self.effects.len();
        let name = format!("test@{number}").parse().expect("name");
        let version = Digest::of(format!("version {number}").as_bytes());
        let (round, attempt) = (effect.round, effect.attempt);
        self.step(Input::Published {
            round,
            attempt,
            name,
            version,
            weights: version,
        })
        .expect("published");
    }

    /// Trains and publishes one round; then the version waits for its evaluations.
    pub(crate) fn until_evaluation(&mut self) {
        for name in NAMES {
            assert_eq!(self.take(name), Some(TaskKind::Train), "{name}");
            self.upload(name).expect("upload");
        }
        self.publish();
        for name in NAMES {
            assert_eq!(self.take(name), Some(TaskKind::Evaluate), "{name}");
        }
    }

    /// A whole round in which everybody does their part.
    pub(crate) fn whole_round(&mut self) {
        self.until_evaluation();
        for name in NAMES {
            self.evaluate(name).expect("evaluation");
        }
    }

    pub(crate) fn started(plan: Plan) -> Self {
        let mut driver = Self::new(plan);
        driver.step(Input::Start).expect("start");
        driver
    }

    pub(crate) fn recruited(plan: Plan) -> Self {
        let mut driver = Self::started(plan);
        for name in NAMES {
            driver.join(name);
        }
        driver
    }
}
