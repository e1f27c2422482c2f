//! A run: its state, and what may be asked of it.

use std::time::Duration;

use fedner_shared::digest::Digest;
use fedner_shared::id::{InstitutionId, RunId};
use fedner_shared::plan::{Plan, Rows};
use fedner_shared::refusal::Code;
use fedner_shared::score::Scores;
use fedner_shared::serde_helpers::is_default;
use fedner_shared::statement::{Annotation, UpdateReceipt};
use fedner_shared::time::Time;
use serde::{Deserialize, Serialize};

use crate::agreement::Agreement;
use crate::member::{Member, Work};
use crate::members::Members;
use crate::phase::Phase;
use crate::rejection::Rejection;
use crate::standing::Standing;
use crate::task::{Assignment, Contribution, TaskKind};
use crate::weights::capped;

/// A plan being carried out.
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
    /// From `plan.first_round()` to `plan.last_round()`; 0 before the start.
    pub round: u32,
    /// 1 to `cohort.max_attempts`.
    pub attempt: u32,
    pub attempt_began: Time,
    pub paused: Option<Time>,
    /// Left out where they are kept by themselves.
    #[serde(default)]
    pub members: Members,
    /// How many effects the run has had.
    pub effects: u64,
    /// How long the last rounds took, in milliseconds, the newest last.
    #[serde(default, rename = "paces")]
    pub round_durations: Vec<u64>,
    /// What the plan's gate has decided; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
    /// The newest round and attempt whose updates were measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<(u32, u32)>,
    /// What members of a secure aggregation have said in this attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<Agreement>,
    /// How often keys for a secure aggregation were asked for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub agreements: u64,
}

/// Rounds by which the end of the run is reckoned.
const REMEMBERED_ROUNDS: usize = 5;

pub(crate) type Step<T = ()> = Result<T, Rejection>;

impl Run {
    /// Adopts how long institutions took in an earlier run that trained the same weights.
    pub fn adopt_durations(&mut self, earlier: &Self) {
        let alike = |run: &Self| (run.manifest, run.plan.training.clone());
        if alike(self) != alike(earlier) {
            return;
        }
        let known = |member: &Member| !member.trainings.is_empty();
        for (name, before) in earlier.members.iter().filter(|(_, m)| known(m)) {
            if let Some(member) = self.members.get_mut(name) {
                member.trainings.clone_from(&before.trainings);
            }
        }
    }

    pub(crate) fn remember_round(&mut self, round: Duration) {
        self.round_durations.push(round.as_millis() as u64);
        let surplus = self.round_durations.len().saturating_sub(REMEMBERED_ROUNDS);
        self.round_durations.drain(..surplus);
    }

    /// What `institution` is to do now.
    pub fn assignment(&self, institution: &InstitutionId) -> Option<Assignment> {
        let member = self.members.get(institution)?;
        let task = self.task().filter(|_| self.paused.is_none())?;
        let pending = match task {
            TaskKind::Train | TaskKind::Evaluate => member.work.is_pending(),
            TaskKind::Agree(_) => self.is_to_agree(institution),
        };
        if !pending {
            return None;
        }
        Some(Assignment {
            task,
            round: self.round,
            attempt: self.attempt,
            version: self.version,
        })
    }

    /// Institutions that may have new work since `earlier`.
    pub fn called_since(&self, earlier: Option<&Self>) -> Vec<InstitutionId> {
        let same_state = earlier.filter(|earlier| earlier.shared_state() == self.shared_state());
        let called =
            |name: &&InstitutionId| self.assignment(name).is_some() || self.awaits_consent(name);
        match same_state {
            Some(earlier) => {
                let changed = self.members.changed_since(&earlier.members);
                changed
                    .map(|(name, _)| name)
                    .filter(called)
                    .cloned()
                    .collect()
            }
            None => self.members.names().filter(called).cloned().collect(),
        }
    }

    /// The part of the state that decides every member's work.
    fn shared_state(&self) -> (&Phase, u32, u32, Digest, Option<Time>) {
        let Self {
            phase,
            round,
            attempt,
            version,
            paused,
            ..
        } = self;
        (phase, *round, *attempt, *version, *paused)
    }

    /// Whether the plan is still to be shown to `institution`, or its consent still awaited.
    pub fn awaits_consent(&self, institution: &InstitutionId) -> bool {
        let under_way = !self.phase.is_end() && self.phase != Phase::Created;
        let member = self.members.get(institution);
        under_way && member.is_some_and(|member| member.consent.is_none() && member.left.is_none())
    }

    /// Whether the plan is shown to `institution`, if it does not say that it knows it. A program that could not
    /// read it may have given way to one that can.
    pub fn is_shown_to(&self, institution: &InstitutionId) -> bool {
        let under_way = !self.phase.is_end() && self.phase != Phase::Created;
        let member = self.members.get(institution);
        let unread = [Code::PlanTooNew, Code::PlanInvalid, Code::PlanSignature];
        let unread = member.is_some_and(|m| m.left.is_some_and(|code| unread.contains(&code)));
        self.awaits_consent(institution) || (under_way && unread)
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
        self.check_current(TaskKind::Train, update.round, update.attempt)?;
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
        if update.masked.is_some() != self.plan.secure_aggregation.is_some() {
            let institution = update.institution.clone();
            return Err(Rejection::OtherAttempt { institution });
        }
        let member = self.member(&update.institution)?;
        let examples = self.declared(&update.institution);
        let expected = self.plan.weight(&update.institution, examples);
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
            Work::Uploaded { contribution } if contribution.update == update.blob => {
                Err(Rejection::Repeated {
                    institution: update.institution.clone(),
                    round: self.round,
                    present: contribution.update,
                })
            }
            Work::Uploaded { contribution } => Err(Rejection::Other {
                institution: update.institution.clone(),
                round: self.round,
                present: contribution.update,
                found: update.blob,
            }),
            Work::None | Work::Evaluated { .. } | Work::Declined { .. } | Work::PutOff { .. } => {
                Err(self.unexpected(&update.institution))
            }
        }
    }

    /// Whether an institution's counts are within what it declared.
    pub(crate) fn check_counts(&self, institution: &InstitutionId, scores: &Scores) -> Step {
        let consent = self.member(institution)?.consent.as_ref();
        let (examples, held_out) = consent.map_or((0, None), |c| (c.examples, c.held_out));
        let (total, most) = (scores.total(), self.plan.most_entities(examples, held_out));
        let counted = [
            ("real", total.support()),
            ("predicted", total.predicted()),
            ("imagined", total.false_positives),
        ];
        match counted.into_iter().find(|(_, found)| *found > most) {
            Some((what, found)) => Err(Rejection::EvaluationRange {
                institution: institution.clone(),
                what,
                found,
                most,
            }),
            None => Ok(()),
        }
    }

    /// The updates of the open round that have been accepted and not set aside, in the order of the
    /// institutions' names.
    pub fn contributions(&self) -> impl Iterator<Item = &Contribution> {
        self.members
            .values()
            .filter(|member| member.aside(self.round).is_none())
            .filter_map(|member| match &member.work {
                Work::Uploaded { contribution } => Some(contribution),
                Work::None
                | Work::Assigned
                | Work::Working
                | Work::Evaluated { .. }
                | Work::PutOff { .. }
                | Work::Declined { .. } => None,
            })
    }

    /// The same, each with the weight that it has among them. Receipts have the declared ones.
    pub fn weighed(&self) -> Vec<Contribution> {
        let mut contributions: Vec<_> = self.contributions().cloned().collect();
        if let Some(share) = self.plan.cohort.largest_share() {
            let declared: Vec<u32> = contributions.iter().map(|c| c.weight).collect();
            for (contribution, weight) in contributions.iter_mut().zip(capped(&declared, share)) {
                contribution.weight = weight;
            }
        }
        contributions
    }

    /// Which types its text annotates, for the record of a version whose rows follow from that.
    pub(crate) fn recorded_annotation(&self, institution: &InstitutionId) -> Option<Annotation> {
        let granted = self.members.get(institution)?.consent.as_ref()?;
        let annotation = granted.annotation.clone();
        annotation.filter(|_| self.plan.aggregation.rows == Rows::Annotated)
    }

    /// The examples that `institution` declared with its consent.
    pub fn declared(&self, institution: &InstitutionId) -> u32 {
        let member = self.members.get(institution);
        let granted = member.and_then(|member| member.consent.as_ref());
        granted.map_or(0, |granted| granted.examples)
    }

    /// The round that is next, between two.
    pub(crate) fn next_round(&self) -> u32 {
        if self.attempt == 0 {
            return self.plan.first_round();
        }
        self.round + 1
    }

    pub(crate) fn task(&self) -> Option<TaskKind> {
        match self.phase {
            Phase::Collecting { .. } => Some(TaskKind::Train),
            Phase::Evaluating { .. } => Some(TaskKind::Evaluate),
            Phase::Agreeing { step, .. } => Some(TaskKind::Agree(step)),
            Phase::Created
            | Phase::Scheduled { .. }
            | Phase::Recruiting { .. }
            | Phase::Aggregating
            | Phase::Completed
            | Phase::Failed { .. }
            | Phase::Cancelled => None,
        }
    }

    pub(crate) fn member(&self, institution: &InstitutionId) -> Step<&Member> {
        self.members
            .get(institution)
            .ok_or_else(|| Rejection::NotInCohort {
                run: self.id.clone(),
                institution: institution.clone(),
            })
    }

    pub(crate) fn check_consent(&self, now: Time, institution: &InstitutionId) -> Step {
        if self.member(institution)?.is_ready(now) {
            return Ok(());
        }
        Err(Rejection::NoConsent {
            run: self.id.clone(),
            institution: institution.clone(),
        })
    }

    pub(crate) fn check_current(&self, task: TaskKind, round: u32, attempt: u32) -> Step {
        if self.task() == Some(task) && (round, attempt) == (self.round, self.attempt) {
            return Ok(());
        }
        if self.phase.is_end() || self.phase == Phase::Created {
            return Err(self.wrong_state("a run under way"));
        }
        Err(self.stale(round, attempt))
    }

    pub(crate) fn stale(&self, found_round: u32, found_attempt: u32) -> Rejection {
        let (round, attempt) = (self.round, self.attempt);
        Rejection::Stale {
            round,
            attempt,
            found_round,
            found_attempt,
        }
    }

    pub(crate) fn unexpected(&self, institution: &InstitutionId) -> Rejection {
        Rejection::Unexpected {
            institution: institution.clone(),
            round: self.round,
        }
    }

    pub(crate) fn wrong_state(&self, expected: &'static str) -> Rejection {
        let found = self.state().as_str();
        Rejection::State {
            run: self.id.clone(),
            expected,
            found,
        }
    }
}
