//! How each input changes a run, before it is looked whether that lets the run move on.

use std::time::Duration;

use fedner_shared::digest::Digest;
use fedner_shared::event::Event;
use fedner_shared::id::InstitutionId;
use fedner_shared::refusal::{Code, Lasts};
use fedner_shared::statement::{Consent, EvaluationReceipt, UpdateReceipt};
use fedner_shared::time::Time;

use crate::input::Input;
use crate::member::{Granted, Later, Member, Work};
use crate::phase::Phase;
use crate::rejection::Rejection;
use crate::run::Step;
use crate::step::StepBuilder;
use crate::task::{Contribution, TaskKind};

/// How soon an institution is asked again that cannot do it now, at first and at the longest.
const FIRST_WAIT: Duration = Duration::from_secs(3);
const LONGEST_WAIT: Duration = Duration::from_mins(1);

impl StepBuilder {
    pub(crate) fn apply(&mut self, input: Input) -> Step {
        match input {
            Input::Start => self.start(),
            Input::Pause => self.pause(),
            Input::Resume => self.resume(),
            Input::Cancel => self.cancel(),
            Input::Retry => self.retry(),
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
                again,
            } => self.declined(institution, task, (round, attempt), (code, again), reason),
            Input::Announced { institution, later } => self.announced(&institution, later),
            Input::Uploaded { update, receipt } => self.uploaded(update, receipt),
            Input::Agreed {
                institution,
                of,
                step,
                statement,
            } => self.agreed(institution, &of, step, statement),
            Input::Evaluated { evaluation } => self.evaluated(evaluation),
            Input::Excluded { institution, code } => self.excluded(institution, code),
            Input::SetAside { institution, round } => self.set_aside(institution, round),
            Input::Readmitted { institution } => self.readmitted(institution),
            Input::Spoilt {
                round,
                attempt,
                reason,
            } => {
                if !matches!(self.run.phase, Phase::Agreeing { .. })
                    || (round, attempt) != (self.run.round, self.run.attempt)
                {
                    return Err(self.run.stale(round, attempt));
                }
                self.repeat(format!("the shares do not open the sum: {reason}"));
                Ok(())
            }
            Input::Measured {
                round,
                attempt,
                updates,
            } => self.measured(round, attempt, updates),
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
                if self.run.plan.is_evaluated(round) {
                    self.evaluate(version);
                } else {
                    self.pass_on(version);
                }
                Ok(())
            }
            Input::Restarted => {
                self.restarted();
                Ok(())
            }
            Input::Jumped { millis } => {
                self.jumped(millis);
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
        self.go_on(self.run.plan.first_round());
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
        let paused = self.now.since(since);
        if let Some(until) = self.run.phase.until_mut() {
            *until = *until + paused;
        }
        let began = |member: &Member| member.since.is_some();
        self.run.members.change(began, |_, member| {
            member.since = member.since.map(|since| since + paused);
        });
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

    fn retry(&mut self) -> Step {
        if !matches!(self.run.phase, Phase::Failed { .. }) {
            return Err(self.run.wrong_state("failed"));
        }
        // Who was put out by the operator stays out; all others are asked anew.
        let asked_anew = |member: &Member| {
            let out = |code| matches!(code, Code::InstitutionRevoked | Code::InstitutionSuspended);
            member.left.is_some_and(|code| !out(code))
        };
        let members = &mut self.run.members;
        members.change(asked_anew, |_, member| member.left = None);
        members.change(|m| m.refused.is_some(), |_, member| member.refused = None);
        let round = self.run.round.max(self.run.plan.first_round());
        self.events.push(Event::RunRetried { round });
        self.recruit(round, 1);
        Ok(())
    }

    fn restarted(&mut self) {
        let now = self.now;
        // Nothing has begun in the future: the clock was set back while nobody looked at it.
        let ahead = self
            .run
            .attempt_began
            .as_millis()
            .saturating_sub(now.as_millis());
        if ahead > 0 {
            self.jumped(-ahead);
        }
        let seen = |member: &Member| member.last_seen.is_some();
        self.run.members.change(seen, |_, member| {
            member.last_seen = Some(now);
            member.since = None;
        });
        self.look_at_schedule();
        // What was ready meanwhile has time to come.
        let least = now + self.run.plan.cohort.away_after();
        if self.run.paused.is_none()
            && let Some(until) = self.run.phase.until_mut()
        {
            *until = least.max(*until);
        }
    }

    fn jumped(&mut self, millis: i64) {
        let moved = |time: Time| Time::from_millis(time.as_millis().saturating_add(millis));
        if let Some(paused) = &mut self.run.paused {
            // A pause that the jump fell into is as long as it would have been.
            *paused = moved(*paused);
        }
        self.run.attempt_began = moved(self.run.attempt_began);
        self.look_at_schedule();
        if let Some(until) = self.run.phase.until_mut() {
            *until = moved(*until);
        }
        let everyone = |_: &Member| true;
        self.run.members.change(everyone, |_, member| {
            member.last_seen = member.last_seen.map(moved);
            member.since = member.since.map(moved);
            if let Work::PutOff { code, again } = &mut member.work
                && !matches!(code, Code::OutsideHours | Code::InstitutionPaused)
            {
                *again = moved(*again);
            }
        });
    }

    /// A clock that was set back has the next time of the schedule before it again.
    fn look_at_schedule(&mut self) {
        if let (Phase::Scheduled { until }, Some(schedule)) =
            (&mut self.run.phase, &self.run.plan.schedule)
            && let Some(next) = schedule.next_after(self.now)
        {
            *until = next.min(*until);
        }
    }

    fn announced(&mut self, institution: &InstitutionId, later: Option<Later>) -> Step {
        let member = self.run.member(institution)?;
        let later = later.filter(|later| later.from > self.now);
        if !member.is_news(later) {
            return Ok(());
        }
        let now = self.now;
        if let Some(member) = self.run.members.get_mut(institution) {
            member.later = later;
            if member.work.is_later() {
                // Asked at once where nothing is announced any more.
                member.work = member.put_off_until(now).unwrap_or(Work::PutOff {
                    code: Code::OutsideHours,
                    again: now,
                });
            }
        }
        self.give_time();
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
        if let Some(found) = consent.held_out
            && (found == 0 || found > largest)
        {
            return Err(Rejection::HeldOut {
                institution,
                found,
                largest,
            });
        }
        let labels = &self.run.plan.labels;
        if consent
            .annotation
            .as_ref()
            .is_some_and(|own| !own.is_within(labels))
        {
            return Err(Rejection::Annotation {
                institution,
                expected: labels.clone(),
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
            held_out: consent.held_out,
            annotation: consent.annotation,
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
        if matches!(self.run.phase, Phase::Agreeing { .. }) {
            return Ok(());
        }
        let (round, attempt) = (self.run.round, self.run.attempt);
        if let Some(member) = self.run.members.get_mut(institution)
            && member.work == Work::Assigned
        {
            member.work = Work::Working;
            member.since = Some(self.now);
            member.begun = 1;
            let institution = institution.clone();
            self.events.push(Event::AssignmentTaken {
                round,
                attempt,
                institution,
            });
        } else if let Some(member) = self.run.members.get_mut(institution) {
            member.begun = member.begun.saturating_add(1);
        }
        Ok(())
    }

    fn declined(
        &mut self,
        institution: InstitutionId,
        task: TaskKind,
        (round, attempt): (u32, u32),
        (code, again): (Code, Option<Time>),
        reason: String,
    ) -> Step {
        // Saying no to the plan itself needs no assignment.
        let present = self.run.member(&institution)?;
        let lasts = code.lasts();
        if present.consent.is_none()
            && task == TaskKind::Train
            && !self.run.phase.is_end()
            && lasts != Lasts::UntilMended
        {
            self.exclude(institution, code, reason);
            return Ok(());
        }
        // Who will not take a step of a secure aggregation will not train.
        let number = (self.run.round, self.run.attempt);
        if task == TaskKind::Train
            && (round, attempt) == number
            && self.run.is_to_agree(&institution)
        {
            self.declined_step(institution, code, reason);
            return Ok(());
        }
        self.run.check_current(task, round, attempt)?;
        if !present.work.is_pending() {
            return Err(self.run.unexpected(&institution));
        }
        if lasts == Lasts::UntilMended {
            self.put_off(&institution, (round, attempt), (code, again), reason);
            return Ok(());
        }
        if let Some(member) = self.run.members.get_mut(&institution) {
            member.work = Work::Declined { code };
            member.refused = Some(code);
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
        if lasts == Lasts::ForGood && task == TaskKind::Train {
            self.exclude(institution, code, reason);
        }
        Ok(())
    }

    /// The attempt stays open for it. The same reason again is no news.
    fn put_off(
        &mut self,
        institution: &InstitutionId,
        (round, attempt): (u32, u32),
        (code, again): (Code, Option<Time>),
        reason: String,
    ) {
        let now = self.now;
        let Some(member) = self.run.members.get_mut(institution) else {
            return;
        };
        let wait = FIRST_WAIT
            .saturating_mul(1 << member.put_off.min(8))
            .min(LONGEST_WAIT);
        let again = again.filter(|again| *again > now).unwrap_or(now + wait);
        let news = member.put_off == 0 || member.refused != Some(code);
        member.put_off = member.put_off.saturating_add(1);
        member.refused = Some(code);
        member.work = Work::PutOff { code, again };
        if news {
            self.events.push(Event::Declined {
                round,
                attempt,
                institution: institution.clone(),
                code,
                reason,
            });
        }
        self.give_time();
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
            annotation: self.run.recorded_annotation(&update.institution),
        };
        if let Some(member) = self.run.members.get_mut(&update.institution) {
            if let Some(since) = member.since.take() {
                member.remember(self.now.since(since));
            }
            member.work = Work::Uploaded { contribution };
            member.refused = None;
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
            plan,
            round,
            version,
            scores,
            ..
        } = evaluation;
        let work = &self.run.member(&institution)?.work;
        self.run
            .check_current(TaskKind::Evaluate, round, self.run.attempt)?;
        if plan != self.run.plan_digest {
            return Err(Rejection::EvaluationPlan {
                expected: self.run.plan_digest,
                found: plan,
            });
        }
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
        self.run.check_counts(&institution, &scores)?;
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
        self.exclude(institution.clone(), code, code.as_str().to_owned());
        self.repeat_without(&institution);
        Ok(())
    }

    pub(crate) fn exclude(&mut self, institution: InstitutionId, code: Code, reason: String) {
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
    }
}
