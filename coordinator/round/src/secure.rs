//! The steps of a secure aggregation: keys and shares before training, consistency and unmasking after it.
//!
//! ```text
//! Recruiting ─▶ keys ─▶ shares ─▶ Collecting ─▶ consistency ─▶ unmasking ─▶ Aggregating
//! ```
//! Each step waits for those who took the one before, and repeats the attempt with too few. Nothing left an institution
//! that costs privacy before Collecting.

use fedner_shared::digest::Digest;
use fedner_shared::event::Event;
use fedner_shared::id::InstitutionId;
use fedner_shared::refusal::{Code, Lasts};
use fedner_shared::secure::{AttemptId, SecureStep};
use fedner_shared::time::Time;

use crate::agreement::Agreement;
use crate::member::{Member, Work};
use crate::phase::Phase;
use crate::rejection::Rejection;
use crate::run::{Run, Step};
use crate::step::StepBuilder;

impl Run {
    /// The attempt under way, as statements name it.
    pub fn attempt_id(&self) -> AttemptId {
        AttemptId {
            run: self.id.clone(),
            plan: self.plan_digest,
            round: self.round,
            attempt: self.attempt,
            base: self.version,
            number: self.agreements,
        }
    }

    /// Whether the institution is to take the present step of a secure aggregation.
    pub(crate) fn is_to_agree(&self, institution: &InstitutionId) -> bool {
        let Phase::Agreeing { step, .. } = self.phase else {
            return false;
        };
        let part = self.members.get(institution);
        let agreement = self.agreement.as_ref();
        part.is_some_and(|member| member.left.is_none())
            && agreement.is_some_and(|agreement| agreement.open(step).any(|n| n == institution))
    }

    /// Whether others need the institution until the sum is unmasked: it takes up no other run's work meanwhile.
    pub fn holds(&self, institution: &InstitutionId) -> bool {
        let under_way = matches!(
            self.phase,
            Phase::Agreeing { .. } | Phase::Collecting { .. }
        );
        let agreement = self.agreement.as_ref().filter(|_| under_way);
        agreement.is_some_and(|agreement| {
            agreement.keys.contains_key(institution) && !agreement.declined.contains(institution)
        })
    }

    /// Who has yet to take the present step.
    pub(crate) fn yet_to_agree(&self) -> Vec<InstitutionId> {
        let names = self.members.names();
        names
            .filter(|name| self.is_to_agree(name))
            .cloned()
            .collect()
    }

    /// Whether the statement of a step would be taken; `false` where this very one was.
    pub fn check_step(
        &self,
        now: Time,
        institution: &InstitutionId,
        of: &AttemptId,
        (step, statement): (SecureStep, Digest),
    ) -> Step<bool> {
        self.check_consent(now, institution)?;
        let found = self.agreement.as_ref();
        let found = found.and_then(|agreement| agreement.answers(step).get(institution));
        let same = (of.round, of.attempt) == (self.round, self.attempt);
        if same && found == Some(&statement) {
            return Ok(false);
        }
        match self.phase {
            Phase::Agreeing { step: open, .. } if same && open == step => {}
            Phase::Agreeing { .. }
            | Phase::Created
            | Phase::Scheduled { .. }
            | Phase::Recruiting { .. }
            | Phase::Collecting { .. }
            | Phase::Aggregating
            | Phase::Evaluating { .. }
            | Phase::Completed
            | Phase::Failed { .. }
            | Phase::Cancelled => return Err(self.stale(of.round, of.attempt)),
        }
        if *of != self.attempt_id() {
            return Err(Rejection::OtherAttempt {
                institution: institution.clone(),
            });
        }
        if !self.is_to_agree(institution) {
            return Err(self.unexpected(institution));
        }
        Ok(true)
    }
}

impl StepBuilder {
    /// Asks those who are there for keys.
    pub(crate) fn begin_agreement(&mut self) -> Vec<InstitutionId> {
        let available = self.run.members.iter();
        let available = available.filter(|(_, member)| self.is_available(member));
        let asked: Vec<InstitutionId> = available.map(|(name, _)| name.clone()).collect();
        self.run.agreements += 1;
        self.run.agreement = Some(Agreement {
            asked: asked.clone(),
            ..Agreement::default()
        });
        self.ask_for(SecureStep::Keys);
        asked
    }

    fn ask_for(&mut self, step: SecureStep) {
        let secure = self.run.plan.secure_aggregation.as_ref();
        let timeout = secure.map(|secure| secure.step_timeout());
        let until = self.now + timeout.unwrap_or_default();
        self.run.phase = Phase::Agreeing { step, until };
    }

    pub(crate) fn agreed(
        &mut self,
        institution: InstitutionId,
        of: &AttemptId,
        step: SecureStep,
        statement: Digest,
    ) -> Step {
        let news = self
            .run
            .check_step(self.now, &institution, of, (step, statement))?;
        if !news {
            return Ok(());
        }
        if let Some(agreement) = &mut self.run.agreement {
            agreement
                .answers_mut(step)
                .insert(institution.clone(), statement);
        }
        let (round, attempt) = (self.run.round, self.run.attempt);
        self.events.push(Event::SecureStepTaken {
            round,
            attempt,
            institution,
            step,
            statement,
        });
        Ok(())
    }

    /// The institution takes no further part in the attempt.
    pub(crate) fn declined_step(&mut self, institution: InstitutionId, code: Code, reason: String) {
        if let Some(agreement) = &mut self.run.agreement
            && !agreement.declined.contains(&institution)
        {
            agreement.declined.push(institution.clone());
        }
        if let Some(member) = self.run.members.get_mut(&institution) {
            member.refused = Some(code);
        }
        let (round, attempt) = (self.run.round, self.run.attempt);
        self.events.push(Event::Declined {
            round,
            attempt,
            institution: institution.clone(),
            code,
            reason: reason.clone(),
        });
        if code.lasts() == Lasts::ForGood {
            self.exclude(institution, code, reason);
        }
    }

    pub(crate) fn mark_away_in_step(&mut self) {
        let (now, after) = (self.now, self.run.plan.cohort.away_after());
        let (round, attempt) = (self.run.round, self.run.attempt);
        for institution in self.run.yet_to_agree() {
            let Some(member) = self.run.members.get_mut(&institution) else {
                continue;
            };
            if !member.away && !member.is_present(now, after) {
                member.away = true;
                self.events.push(Event::WentAway {
                    round,
                    attempt,
                    institution,
                });
            }
        }
    }

    pub(crate) fn settle_agreeing(&mut self, step: SecureStep, until: Time) -> bool {
        let Some(agreement) = &self.run.agreement else {
            self.repeat("nothing is known of its keys".to_owned());
            return true;
        };
        let answered = agreement.answers(step).len();
        let least = agreement.least(step, self.run.plan.cohort.quorum);
        let open = self.run.yet_to_agree();
        let is_waited_for = |name: &&InstitutionId| !self.run.members[*name].away;
        let waiting = open.iter().filter(is_waited_for).count();
        let enough = matches!(step, SecureStep::Consistency | SecureStep::Unmasking);
        let closed = open.is_empty()
            || self.now >= until
            || (answered >= least && (enough || waiting == 0))
            || answered + open.len() < least;
        if !closed {
            return false;
        }
        if answered < least {
            self.repeat(format!(
                "{answered} institutions took the step {step}: expected at least {least}"
            ));
            return true;
        }
        match step {
            SecureStep::Keys => self.ask_for(SecureStep::Shares),
            SecureStep::Shares => self.collect_masked(),
            SecureStep::Consistency => self.ask_for(SecureStep::Unmasking),
            SecureStep::Unmasking => {
                // Of masked updates nothing is measured.
                self.run.measured = Some((self.run.round, self.run.attempt));
                self.aggregate();
            }
        }
        true
    }

    /// Asks those who dealt shares to train. A masked update of anybody else would not cancel.
    fn collect_masked(&mut self) {
        self.run.phase = Phase::Collecting {
            until: self.now + self.run.plan.cohort.train_timeout(),
        };
        self.assign();
        let Some(agreement) = &self.run.agreement else {
            return;
        };
        let dealt = agreement.shares.clone();
        let everyone = |member: &Member| member.work != Work::None;
        self.run.members.change(everyone, |name, member| {
            if !dealt.contains_key(name) {
                member.work = Work::None;
            }
        });
        self.give_time();
    }

    /// The masked updates that are here are those of the sum: enough of their senders must say so.
    pub(crate) fn confirm_set(&mut self) {
        let members = self.run.contributions();
        let members = members.map(|contribution| contribution.institution.clone());
        let members: Vec<InstitutionId> = members.collect();
        let open = |member: &Member| member.work.is_open();
        self.run
            .members
            .change(open, |_, member| member.work = Work::None);
        if let Some(agreement) = &mut self.run.agreement {
            agreement.members = members;
        }
        self.ask_for(SecureStep::Consistency);
    }

    /// A member that is taken out of a sum whose set is settled: there is no sum without it.
    pub(crate) fn repeat_without(&mut self, institution: &InstitutionId) {
        let settled = matches!(self.run.phase, Phase::Agreeing { .. } | Phase::Aggregating);
        let agreement = self.run.agreement.as_ref().filter(|_| settled);
        if agreement.is_some_and(|agreement| agreement.members.contains(institution)) {
            self.repeat(format!("{institution} was taken out of a masked sum"));
        }
    }
}
