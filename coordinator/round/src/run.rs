//! A run: its state, and how each input changes it.

use std::collections::BTreeMap;

use fedner_shared::digest::Digest;
use fedner_shared::event::Event;
use fedner_shared::id::{InstitutionId, RunId};
use fedner_shared::plan::Plan;
use fedner_shared::refusal::Code;
use fedner_shared::statement::{Consent, EvaluationReceipt, UpdateReceipt};
use fedner_shared::time::Time;
use serde::{Deserialize, Serialize};

use crate::effect::{Assignment, Contribution, Task, Transition};
use crate::input::Input;
use crate::member::{Granted, Member, Work};
use crate::phase::Phase;
use crate::rejection::Rejection;
use crate::settle::Settling;

/// What is fixed when a run is created.
#[derive(Debug, Clone, PartialEq)]
pub struct Created {
    pub id: RunId,
    pub plan: Plan,
    /// The digest of the plan as the operator signed it.
    pub plan_digest: Digest,
    /// The digest of the manifest of trainable tensors.
    pub manifest: Digest,
    /// d, the number of trainable weights.
    pub dimension: u64,
    /// The version to begin with, its head fitting the plan's labels.
    pub base: Digest,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub id: RunId,
    pub plan: Plan,
    pub plan_digest: Digest,
    pub manifest: Digest,
    pub dimension: u64,
    /// The newest version: what is trained on, or evaluated.
    pub version: Digest,
    pub phase: Phase,
    /// 1 to `plan.rounds`; 0 before the start.
    pub round: u32,
    /// 1 to `cohort.max_attempts`.
    pub attempt: u32,
    pub attempt_began: Time,
    pub paused: Option<Time>,
    pub members: BTreeMap<InstitutionId, Member>,
    /// How many effects the run has had.
    pub effects: u64,
}

type Step<T = ()> = Result<T, Rejection>;

impl Run {
    /// A run that waits for its start.
    pub fn new(now: Time, created: Created) -> Transition {
        let Created {
            id,
            plan,
            plan_digest,
            manifest,
            dimension,
            base,
        } = created;
        let cohort = plan.cohort.institutions.iter();
        let members = cohort
            .map(|name| (name.clone(), Member::default()))
            .collect();
        let events = vec![Event::RunCreated {
            plan: plan_digest,
            base,
            rounds: plan.rounds,
        }];
        let run = Self {
            id,
            plan,
            plan_digest,
            manifest,
            dimension,
            version: base,
            phase: Phase::Created,
            round: 0,
            attempt: 0,
            attempt_began: now,
            paused: None,
            members,
            effects: 0,
        };
        Transition {
            run,
            events,
            effects: Vec::new(),
        }
    }

    /// The run after `input`, with what happened and what is to be done. A rejected input leaves
    /// the run as it is.
    pub fn step(&self, now: Time, input: Input) -> Step<Transition> {
        let mut settling = Settling::new(self.clone(), now);
        settling.apply(input)?;
        settling.settle();
        Ok(settling.finish())
    }

    /// What `institution` is to do now.
    pub fn assignment(&self, institution: &InstitutionId) -> Option<Assignment> {
        let member = self.members.get(institution)?;
        if self.paused.is_some() || !member.work.is_pending() {
            return None;
        }
        let task = self.task()?;
        Some(Assignment {
            task,
            round: self.round,
            attempt: self.attempt,
            version: self.version,
        })
    }

    /// Whether the plan is still to be shown to `institution`, or its consent still awaited.
    pub fn awaits_consent(&self, institution: &InstitutionId) -> bool {
        let under_way = !self.phase.is_end() && self.phase != Phase::Created;
        let member = self.members.get(institution);
        under_way && member.is_some_and(|member| member.consent.is_none() && member.left.is_none())
    }

    /// Whether `institution` has fetched an assignment of this run that it has not answered.
    pub fn occupies(&self, institution: &InstitutionId) -> bool {
        let working = self
            .members
            .get(institution)
            .is_some_and(|m| m.work == Work::Working);
        working && self.task().is_some()
    }

    /// Whether what `institution` works on is still of use.
    pub fn wants(&self, institution: &InstitutionId, round: u32, attempt: u32) -> bool {
        (round, attempt) == (self.round, self.attempt)
            && self.task().is_some()
            && self
                .members
                .get(institution)
                .is_some_and(|member| member.work.is_pending())
    }

    /// Whether the update that a receipt announces would be accepted.
    pub fn check_update(&self, now: Time, update: &UpdateReceipt) -> Step {
        self.check_consent(now, &update.institution)?;
        if !matches!(self.phase, Phase::Collecting { .. }) && update.round == self.round {
            // Closed a moment ago: too late, which differs from never having been asked.
            return Err(self.stale(update.round, update.attempt));
        }
        self.check_current(Task::Train, update.round, update.attempt)?;
        if update.plan != self.plan_digest {
            return Err(Rejection::OtherPlan {
                expected: self.plan_digest,
                found: update.plan,
            });
        }
        if update.base != self.version {
            return Err(Rejection::Base {
                expected: self.version,
                found: update.base,
            });
        }
        if update.manifest != self.manifest {
            return Err(Rejection::Manifest {
                expected: self.manifest,
                found: update.manifest,
            });
        }
        let member = self.member(&update.institution)?;
        let examples = member
            .consent
            .as_ref()
            .map_or(0, |granted| granted.examples);
        let expected = self.plan.weight(examples);
        if update.weight != expected {
            let (institution, found) = (update.institution.clone(), update.weight);
            return Err(Rejection::Weight {
                institution,
                expected,
                found,
            });
        }
        match &member.work {
            Work::Assigned | Work::Working => Ok(()),
            Work::Uploaded { contribution } => Err(Rejection::Repeated {
                institution: update.institution.clone(),
                round: self.round,
                present: contribution.update,
                found: update.blob,
            }),
            Work::None | Work::Evaluated { .. } | Work::Declined { .. } => {
                Err(self.unexpected(&update.institution))
            }
        }
    }

    fn task(&self) -> Option<Task> {
        match self.phase {
            Phase::Collecting { .. } => Some(Task::Train),
            Phase::Evaluating { .. } => Some(Task::Evaluate),
            Phase::Created
            | Phase::Recruiting { .. }
            | Phase::Aggregating
            | Phase::Completed
            | Phase::Failed { .. }
            | Phase::Cancelled => None,
        }
    }

    fn member(&self, institution: &InstitutionId) -> Step<&Member> {
        self.members
            .get(institution)
            .ok_or_else(|| Rejection::NotInCohort {
                run: self.id.clone(),
                institution: institution.clone(),
            })
    }

    fn check_consent(&self, now: Time, institution: &InstitutionId) -> Step {
        if self.member(institution)?.is_ready(now) {
            return Ok(());
        }
        Err(Rejection::NoConsent {
            run: self.id.clone(),
            institution: institution.clone(),
        })
    }

    fn check_current(&self, task: Task, round: u32, attempt: u32) -> Step {
        if self.task() == Some(task) && (round, attempt) == (self.round, self.attempt) {
            return Ok(());
        }
        if self.phase.is_end() || self.phase == Phase::Created {
            return Err(self.wrong_state("a run under way"));
        }
        Err(self.stale(round, attempt))
    }

    fn stale(&self, found_round: u32, found_attempt: u32) -> Rejection {
        let (round, attempt) = (self.round, self.attempt);
        Rejection::Stale {
            round,
            attempt,
            found_round,
            found_attempt,
        }
    }

    fn unexpected(&self, institution: &InstitutionId) -> Rejection {
        Rejection::Unexpected {
            institution: institution.clone(),
            round: self.round,
        }
    }

    fn wrong_state(&self, expected: &'static str) -> Rejection {
        let found = if self.paused.is_some() {
            "paused"
        } else {
            self.phase.name()
        };
        Rejection::State {
            run: self.id.clone(),
            expected,
            found,
        }
    }
}

/// How each input changes the run, before it is looked whether that lets the run move on.
impl Settling {
    fn apply(&mut self, input: Input) -> Step {
        match input {
            Input::Start => self.start(),
            Input::Pause => self.pause(),
            Input::Resume => self.resume(),
            Input::Cancel => self.cancel(),
            Input::Seen { institution } => self.seen(&institution),
            Input::Joined { consent, statement } => self.joined(consent, statement),
            Input::Taken { institution } => self.taken(&institution),
            Input::Declined {
                institution,
                task,
                round,
                attempt,
                code,
                reason,
            } => self.declined(institution, task, (round, attempt), code, reason),
            Input::Uploaded { update, receipt } => self.uploaded(update, receipt),
            Input::Evaluated { evaluation } => self.evaluated(evaluation),
            Input::Excluded { institution, code } => self.excluded(institution, code),
            Input::Published {
                round,
                attempt,
                name,
                version,
                weights,
            } => {
                if self.run.phase != Phase::Aggregating
                    || (round, attempt) != (self.run.round, self.run.attempt)
                {
                    return Err(self.run.stale(round, attempt));
                }
                let seconds = self.now.since(self.run.attempt_began).as_secs_f64();
                self.events.push(Event::VersionPublished {
                    round,
                    attempt,
                    version: name,
                    digest: version,
                    weights,
                    seconds,
                });
                self.evaluate(version);
                Ok(())
            }
            Input::Restarted => {
                let now = self.now;
                for member in self
                    .run
                    .members
                    .values_mut()
                    .filter(|m| m.last_seen.is_some())
                {
                    member.last_seen = Some(now);
                }
                Ok(())
            }
            Input::Tick => Ok(()),
        }
    }

    fn start(&mut self) -> Step {
        if self.run.phase != Phase::Created {
            return Err(self.run.wrong_state("created"));
        }
        self.events.push(Event::RunStarted);
        self.recruit(1, 1);
        Ok(())
    }

    fn pause(&mut self) -> Step {
        if self.run.phase.is_end() || self.run.phase == Phase::Created || self.run.paused.is_some()
        {
            return Err(self.run.wrong_state("a run under way"));
        }
        self.run.paused = Some(self.now);
        self.events.push(Event::RunPaused);
        Ok(())
    }

    fn resume(&mut self) -> Step {
        let Some(since) = self.run.paused.take() else {
            return Err(self.run.wrong_state("paused"));
        };
        if let Some(until) = self.run.phase.until_mut() {
            *until = *until + self.now.since(since);
        }
        self.events.push(Event::RunResumed);
        Ok(())
    }

    fn cancel(&mut self) -> Step {
        if self.run.phase.is_end() {
            return Err(self.run.wrong_state("a run that has not ended"));
        }
        self.run.phase = Phase::Cancelled;
        self.run.paused = None;
        self.events.push(Event::RunCancelled);
        Ok(())
    }

    fn seen(&mut self, institution: &InstitutionId) -> Step {
        self.run.member(institution)?;
        let (round, attempt, now) = (self.run.round, self.run.attempt, self.now);
        if let Some(member) = self.run.members.get_mut(institution) {
            member.last_seen = Some(now);
            if std::mem::take(&mut member.away) {
                let institution = institution.clone();
                self.events.push(Event::CameBack {
                    round,
                    attempt,
                    institution,
                });
            }
        }
        Ok(())
    }

    fn joined(&mut self, consent: Consent, statement: Digest) -> Step {
        let institution = consent.institution.clone();
        let member = self.run.member(&institution)?;
        if consent.plan != self.run.plan_digest {
            return Err(Rejection::OtherPlan {
                expected: self.run.plan_digest,
                found: consent.plan,
            });
        }
        if self.run.phase.is_end() {
            return Err(self.run.wrong_state("a run that has not ended"));
        }
        // Every check-in repeats the consents in force; an old one does not undo a departure.
        if member
            .consent
            .as_ref()
            .is_some_and(|granted| granted.statement == statement)
        {
            return Ok(());
        }
        let largest = self.run.plan.cohort.max_examples;
        if consent.examples == 0 || consent.examples > largest {
            return Err(Rejection::Examples {
                institution,
                found: consent.examples,
                largest,
            });
        }
        if consent.expires <= self.now {
            return Err(Rejection::NoConsent {
                run: self.run.id.clone(),
                institution,
            });
        }
        let examples = consent.examples;
        let granted = Granted {
            examples,
            statement,
            expires: consent.expires,
        };
        if let Some(member) = self.run.members.get_mut(&institution) {
            // The weight is fixed for the run: a renewed consent may extend it, not change it.
            if let Some(before) = &member.consent
                && before.examples != examples
            {
                return Err(Rejection::Weight {
                    institution,
                    expected: before.examples,
                    found: examples,
                });
            }
            member.consent = Some(granted);
            member.left = None;
        }
        self.events.push(Event::Joined {
            institution,
            examples,
            consent: statement,
        });
        Ok(())
    }

    fn taken(&mut self, institution: &InstitutionId) -> Step {
        if self.run.assignment(institution).is_none() {
            return Err(self.run.unexpected(institution));
        }
        let (round, attempt) = (self.run.round, self.run.attempt);
        if let Some(member) = self.run.members.get_mut(institution)
            && member.work == Work::Assigned
        {
            member.work = Work::Working;
            let institution = institution.clone();
            self.events.push(Event::AssignmentTaken {
                round,
                attempt,
                institution,
            });
        }
        Ok(())
    }

    fn declined(
        &mut self,
        institution: InstitutionId,
        task: Task,
        (round, attempt): (u32, u32),
        code: Code,
        reason: String,
    ) -> Step {
        // Saying no to the plan itself needs no assignment.
        let present = self.run.member(&institution)?;
        if present.consent.is_none() && task == Task::Train && !self.run.phase.is_end() {
            return self.excluded_because(institution, code, reason);
        }
        self.run.check_current(task, round, attempt)?;
        if !present.work.is_pending() {
            return Err(self.run.unexpected(&institution));
        }
        if let Some(member) = self.run.members.get_mut(&institution) {
            member.work = Work::Declined { code };
        }
        let event = Event::Declined {
            round,
            attempt,
            institution: institution.clone(),
            code,
            reason: reason.clone(),
        };
        self.events.push(event);
        // Some reasons hold for every later round too; asking again would only repeat them.
        let for_good = matches!(
            code,
            Code::BudgetSpent | Code::PolicyForbids | Code::ConsentMissing
        );
        if for_good && task == Task::Train {
            return self.excluded_because(institution, code, reason);
        }
        Ok(())
    }

    fn uploaded(&mut self, update: UpdateReceipt, receipt: Digest) -> Step {
        self.run.check_update(self.now, &update)?;
        let (round, attempt, epsilon) = (update.round, update.attempt, update.epsilon_after);
        let contribution = Contribution {
            institution: update.institution.clone(),
            weight: update.weight,
            update: update.blob,
            receipt,
            epsilon,
        };
        if let Some(member) = self.run.members.get_mut(&update.institution) {
            member.work = Work::Uploaded { contribution };
            member.epsilon = epsilon.or(member.epsilon);
        }
        let (institution, bytes) = (update.institution, update.bytes);
        self.events.push(Event::UpdateAccepted {
            round,
            attempt,
            institution,
            update: update.blob,
            bytes,
            epsilon,
        });
        Ok(())
    }

    fn evaluated(&mut self, evaluation: EvaluationReceipt) -> Step {
        let EvaluationReceipt {
            institution,
            round,
            version,
            scores,
            ..
        } = evaluation;
        let work = &self.run.member(&institution)?.work;
        self.run
            .check_current(Task::Evaluate, round, self.run.attempt)?;
        if version != self.run.version {
            return Err(Rejection::Version {
                expected: self.run.version,
                found: version,
            });
        }
        if !work.is_pending() {
            return Err(self.run.unexpected(&institution));
        }
        if let Some(found) = scores
            .by_type
            .keys()
            .find(|label| !self.run.plan.labels.contains(label))
        {
            return Err(Rejection::Label {
                expected: self.run.plan.labels.clone(),
                found: found.clone(),
            });
        }
        let total = scores.total();
        if let Some(member) = self.run.members.get_mut(&institution) {
            member.work = Work::Evaluated { scores };
        }
        let (f1, precision, recall, support) = (
            total.f1(),
            total.precision(),
            total.recall(),
            total.support(),
        );
        self.events.push(Event::Evaluated {
            round,
            institution,
            f1,
            precision,
            recall,
            support,
        });
        Ok(())
    }

    fn excluded(&mut self, institution: InstitutionId, code: Code) -> Step {
        self.run.member(&institution)?;
        if self.run.phase.is_end() {
            return Ok(());
        }
        // What an excluded institution has sent in an open round is not counted.
        if let Some(member) = self.run.members.get_mut(&institution)
            && matches!(
                self.run.phase,
                Phase::Collecting { .. } | Phase::Evaluating { .. }
            )
        {
            member.work = Work::None;
        }
        self.excluded_because(institution, code, code.as_str().to_owned())
    }

    fn excluded_because(&mut self, institution: InstitutionId, code: Code, reason: String) -> Step {
        if let Some(member) = self.run.members.get_mut(&institution)
            && member.left.is_none()
        {
            member.left = Some(code);
            self.events.push(Event::Left {
                institution,
                code,
                reason,
            });
        }
        Ok(())
    }
}
