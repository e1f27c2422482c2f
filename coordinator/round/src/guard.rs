//! Members whose updates are left out: by the plan's guard, or by the operator.

use fedner_shared::event::Event;
use fedner_shared::figures::{Aside, Cause, Figures, UpdateFigures};
use fedner_shared::id::InstitutionId;
use fedner_shared::plan::{DecidedBy, Guard, LEAST_UPDATES};
use fedner_shared::score::median;

use crate::member::Work;
use crate::phase::Phase;
use crate::rejection::Rejection;
use crate::run::{Run, Step};
use crate::step::StepBuilder;

impl StepBuilder {
    /// Keeps the figures of a closed round, and lets the guard judge them.
    pub(crate) fn measured(
        &mut self,
        round: u32,
        attempt: u32,
        updates: Vec<UpdateFigures>,
    ) -> Step {
        let number = (round, attempt);
        if self.run.phase != Phase::Aggregating || number != (self.run.round, self.run.attempt) {
            return Err(self.run.stale(round, attempt));
        }
        // Done before a restart.
        if self.run.measured == Some(number) {
            return Ok(());
        }
        self.run.measured = Some(number);
        for UpdateFigures {
            institution,
            figures,
        } in &updates
        {
            if let Some(member) = self.run.members.get_mut(institution) {
                member.figures = Some(*figures);
                member.measured += 1;
            }
        }
        self.events.push(Event::Measured {
            round,
            attempt,
            updates: updates.clone(),
        });
        if let Some(guard) = self.run.plan.guard.clone() {
            self.judge_members(&guard, &updates);
        }
        let (left, quorum) = (
            self.run.contributions().count(),
            self.run.plan.cohort.quorum,
        );
        if left < quorum {
            self.repeat(format!(
                "{left} updates were left after others were set aside: expected at least {quorum}"
            ));
        }
        Ok(())
    }

    fn judge_members(&mut self, guard: &Guard, updates: &[UpdateFigures]) {
        if updates.len() < LEAST_UPDATES {
            return;
        }
        let usual = median(updates.iter().map(|update| update.figures.norm)).unwrap_or_default();
        let round = self.run.round;
        for update in updates {
            let institution = update.institution.clone();
            let known = self.run.members.get(&institution);
            if known.is_none_or(|member| member.measured < guard.min_rounds) {
                continue;
            }
            let Some((cause, found, limit)) = breach(guard, update.figures, usual) else {
                continue;
            };
            let aside = Aside {
                cause,
                found: Some(found),
                limit: Some(limit),
                from: round,
                until: round.saturating_add(guard.rounds - 1),
            };
            match guard.by {
                DecidedBy::Rule => self.put_aside(institution, aside),
                DecidedBy::Operator => self.events.push(Event::Suspected {
                    round,
                    institution,
                    aside,
                }),
            }
        }
    }

    fn put_aside(&mut self, institution: InstitutionId, aside: Aside) {
        let round = self.run.round;
        if let Some(member) = self.run.members.get_mut(&institution) {
            member.asides.push(aside.clone());
            self.events.push(Event::SetAside {
                round,
                institution,
                aside,
            });
        }
    }

    /// What the operator says of one round.
    pub(crate) fn set_aside(&mut self, institution: InstitutionId, round: u32) -> Step {
        let run = &self.run;
        let member = run.member(&institution)?;
        if run.phase.is_end() {
            return Err(run.wrong_state("a run that has not ended"));
        }
        let (first, last) = (run.first_open_round(), run.plan.rounds);
        if round < first || round > last {
            let found = round;
            return Err(Rejection::Round { found, first, last });
        }
        if member.aside(round).is_some() {
            return Ok(());
        }
        let others = run.members.iter().filter(|(name, other)| {
            **name != institution && other.left.is_none() && other.aside(round).is_none()
        });
        let (left, quorum) = (others.count(), run.plan.cohort.quorum);
        if left < quorum {
            return Err(Rejection::Quorum {
                institution,
                round,
                left,
                quorum,
            });
        }
        if round == run.round
            && let Some(member) = self.run.members.get_mut(&institution)
        {
            member.work = Work::None;
        }
        self.put_aside(
            institution.clone(),
            Aside {
                cause: Cause::Operator,
                found: None,
                limit: None,
                from: round,
                until: round,
            },
        );
        if round == self.run.round {
            self.repeat_without(&institution);
        }
        Ok(())
    }

    pub(crate) fn readmitted(&mut self, institution: InstitutionId) -> Step {
        let run = &self.run;
        let member = run.member(&institution)?;
        if run.phase.is_end() {
            return Err(run.wrong_state("a run that has not ended"));
        }
        // What is decided of a round whose result is under way stays decided.
        let (first, round) = (run.first_open_round(), run.round);
        if !member.asides.iter().any(|aside| aside.until >= first) {
            let run = run.id.clone();
            return Err(Rejection::NotAside { run, institution });
        }
        if let Some(member) = self.run.members.get_mut(&institution) {
            let until_now = |aside: &Aside| aside.from < first;
            member.asides.retain(until_now);
            for aside in &mut member.asides {
                aside.until = aside.until.min(first - 1);
            }
            self.events.push(Event::Readmitted { round, institution });
        }
        Ok(())
    }
}

impl Run {
    /// The first round of which the result is not yet decided.
    pub fn first_open_round(&self) -> u32 {
        match self.phase {
            Phase::Aggregating | Phase::Evaluating { .. } => self.round + 1,
            Phase::Scheduled { .. } => self.next_round().max(1),
            Phase::Created
            | Phase::Recruiting { .. }
            | Phase::Collecting { .. }
            | Phase::Agreeing { .. }
            | Phase::Completed
            | Phase::Failed { .. }
            | Phase::Cancelled => self.round.max(1),
        }
    }
}

/// The limit that an update is beyond, with its figure.
fn breach(guard: &Guard, figures: Figures, usual: f64) -> Option<(Cause, f64, f64)> {
    if let Some(most) = guard.max_norm_ratio
        && figures.norm > most * usual
    {
        // Beside updates that are all zero, any other is as long as can be said.
        let ratio = if usual > 0.0 {
            figures.norm / usual
        } else {
            f64::MAX
        };
        return Some((Cause::MaxNormRatio, ratio, most));
    }
    let (least, cosine) = (guard.min_cosine?, figures.to_others?);
    (cosine < least).then_some((Cause::MinCosine, cosine, least))
}
