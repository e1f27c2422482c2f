//! When a run moves on by itself: the rules of recruiting, collecting and evaluating.

use fedner_shared::digest::Digest;
use fedner_shared::event::Event;
use fedner_shared::id::InstitutionId;
use fedner_shared::time::Time;

use crate::effect::Effect;
use crate::member::{Member, Work};
use crate::phase::Phase;
use crate::step::StepBuilder;

impl StepBuilder {
    /// Moves on as far as the state and the time allow.
    pub(crate) fn settle(&mut self) {
        while self.run.paused.is_none() {
            self.ask_again();
            self.mark_away();
            self.mark_away_in_step();
            self.mark_late();
            let moved = match self.run.phase {
                Phase::Scheduled { until } => self.settle_scheduled(until),
                Phase::Recruiting { until } => self.settle_recruiting(until),
                Phase::Collecting { until } => self.settle_collecting(until),
                Phase::Agreeing { step, until } => self.settle_agreeing(step, until),
                Phase::Evaluating { until } => self.settle_evaluating(until),
                Phase::Created
                | Phase::Aggregating
                | Phase::Completed
                | Phase::Failed { .. }
                | Phase::Cancelled => false,
            };
            if !moved {
                return;
            }
        }
    }

    /// Goes on with that round, at once or at a time of the plan's schedule.
    pub(crate) fn go_on(&mut self, round: u32) {
        let schedule = self.run.plan.schedule.as_ref();
        let Some(schedule) = schedule.filter(|_| self.run.plan.waits_before(round)) else {
            self.recruit(round, 1);
            return;
        };
        let Some(until) = schedule.next_after(self.now) else {
            self.fail("no time of its schedule comes any more".to_owned());
            return;
        };
        self.run.phase = Phase::Scheduled { until };
        self.clear_work();
        self.events.push(Event::Scheduled { round, until });
    }

    fn clear_work(&mut self) {
        let busy = |member: &Member| member.work != Work::None;
        self.run
            .members
            .change(busy, |_, member| member.work = Work::None);
    }

    fn settle_scheduled(&mut self, until: Time) -> bool {
        let due = self.now >= until;
        if due {
            self.recruit(self.run.next_round(), 1);
        }
        due
    }

    /// Begins an attempt at a round. Each attempt recruits anew.
    pub(crate) fn recruit(&mut self, round: u32, attempt: u32) {
        let run = &mut self.run;
        (run.round, run.attempt, run.attempt_began) = (round, attempt, self.now);
        run.phase = Phase::Recruiting {
            until: self.now + run.plan.cohort.recruit_timeout(),
        };
        run.agreement = None;
        self.clear_work();
        self.run.members.change(
            |member| member.asides.iter().any(|aside| aside.until < round),
            |_, member| member.asides.retain(|aside| aside.until >= round),
        );
    }

    /// Takes the published version and asks those present to evaluate it.
    pub(crate) fn evaluate(&mut self, version: Digest) -> Vec<InstitutionId> {
        self.run.version = version;
        self.run.phase = Phase::Evaluating {
            until: self.now + self.run.plan.cohort.evaluate_timeout(),
        };
        self.assign()
    }

    /// Takes the published version, which nobody evaluates, and goes on with the next round.
    pub(crate) fn pass_on(&mut self, version: Digest) {
        self.run.version = version;
        self.events.push(Event::RoundFinished {
            round: self.run.round,
            f1: None,
            median_f1: None,
        });
        self.run
            .remember_round(self.now.since(self.run.attempt_began));
        self.go_on(self.run.round + 1);
    }

    /// Asks those present to train, or to evaluate the base where nothing else is planned.
    fn begin_round(&mut self) -> Vec<InstitutionId> {
        if self.run.plan.only_evaluates() {
            return self.evaluate(self.run.version);
        }
        if self.run.plan.secure_aggregation.is_some() {
            return self.begin_agreement();
        }
        self.run.phase = Phase::Collecting {
            until: self.now + self.run.plan.cohort.train_timeout(),
        };
        let participants = self.assign();
        self.give_time();
        participants
    }

    /// The first round after a pause waits for the whole cohort. Later ones start with whoever is there, so
    /// that one dead site does not cost every round a timeout.
    fn settle_recruiting(&mut self, until: Time) -> bool {
        let (now, quorum) = (self.now, self.run.plan.cohort.quorum);
        let present = self
            .run
            .members
            .values()
            .filter(|m| self.is_available(m))
            .count();
        let awaited = self
            .run
            .members
            .values()
            .filter(|m| m.left.is_none() && m.aside(self.run.round).is_none())
            .count();
        let (round, plan) = (self.run.round, &self.run.plan);
        let begins = round <= 1 || plan.waits_before(round);
        let first = begins && self.run.attempt == 1;
        let everyone = present == awaited;
        if present >= quorum && (everyone || !first || now >= until) {
            let participants = self.begin_round();
            let (round, attempt, base) = (self.run.round, self.run.attempt, self.run.version);
            self.events.push(Event::RoundStarted {
                round,
                attempt,
                participants,
                base,
            });
            return true;
        }
        if awaited < quorum {
            self.fail(format!(
                "{awaited} institutions are left of a cohort that needs {quorum}"
            ));
            return true;
        }
        if now >= until {
            self.repeat(format!(
                "{present} institutions were there at the deadline: expected {quorum}"
            ));
            return true;
        }
        false
    }

    fn settle_collecting(&mut self, until: Time) -> bool {
        let quorum = self.run.plan.cohort.quorum;
        let updates = self.updates();
        let (pending, waiting) = self.pending();
        let quorum_reached = updates >= quorum;
        let enough = self.run.plan.cohort.enough;
        // Institutions that went silent, or are late by their own measure, are waited for only as
        // long as the quorum needs them.
        let closed = pending == 0
            || self.now >= until
            || enough.is_some_and(|enough| updates >= enough)
            || (quorum_reached && waiting == 0)
            || updates + pending < quorum;
        if !closed {
            return false;
        }
        let missing = self.run.members.iter().filter(|(_, m)| m.work.is_open());
        let missing: Vec<InstitutionId> = missing.map(|(name, _)| name.clone()).collect();
        let (round, attempt) = (self.run.round, self.run.attempt);
        self.events.push(Event::RoundClosed {
            round,
            attempt,
            updates,
            missing,
        });
        if quorum_reached && self.run.agreement.is_some() {
            self.confirm_set();
        } else if quorum_reached {
            self.aggregate();
        } else {
            self.repeat(format!(
                "{updates} updates arrived: expected at least {quorum}"
            ));
        }
        true
    }

    fn settle_evaluating(&mut self, until: Time) -> bool {
        let (open, waiting) = self.pending();
        let evaluated = self.run.members.values().filter(|m| m.work.is_evaluated());
        let (evaluated, quorum) = (evaluated.count(), self.run.plan.cohort.quorum);
        // Where the counts are all that is wanted, as many are awaited as the quorum says.
        let lacking = self.run.plan.only_evaluates() && evaluated < quorum;
        let later = self.run.members.values().filter(|m| {
            m.work.is_later()
                && m.left.is_none()
                && m.work.again().is_some_and(|again| again < until)
        });
        let awaited = waiting + later.count() > 0 || (lacking && open > 0);
        if awaited && self.now < until {
            return false;
        }
        let round = self.run.round;
        if lacking {
            self.repeat(format!(
                "{evaluated} evaluations arrived: expected at least {quorum}"
            ));
            return true;
        }
        self.run
            .remember_round(self.now.since(self.run.attempt_began));
        self.finish_evaluation();
        if round == self.run.plan.last_round() {
            self.run.phase = Phase::Completed;
            self.events.push(Event::RunCompleted {
                version: self.run.version,
            });
        } else {
            self.go_on(round + 1);
        }
        true
    }

    pub(crate) fn aggregate(&mut self) {
        let contributions = self.run.weighed();
        self.run.effects += 1;
        self.effects.push(Effect {
            round: self.run.round,
            sequence: self.run.effects,
            attempt: self.run.attempt,
            base: self.run.version,
            contributions,
        });
        self.run.phase = Phase::Aggregating;
    }

    pub(crate) fn repeat(&mut self, reason: String) {
        let reason = self.with_names(reason);
        let (round, attempt) = (self.run.round, self.run.attempt);
        if attempt >= self.run.plan.cohort.max_attempts {
            let tried = self.run.what_is_tried();
            self.fail(format!(
                "{tried} failed {attempt} times; the last time {reason}"
            ));
            return;
        }
        self.events.push(Event::RoundRepeated {
            round,
            attempt,
            reason,
        });
        self.recruit(round, attempt + 1);
    }

    /// The reason, with everybody who did not do it and the code that was said.
    fn with_names(&self, reason: String) -> String {
        let named = self.run.members.iter().filter_map(|(name, member)| {
            let code = member.left.or(member.refused);
            match code {
                Some(code) => Some(format!("{name}: {code}")),
                None if member.away => Some(format!("{name}: away")),
                None if member.consent.is_none() => Some(format!("{name}: has not agreed")),
                None if member.work.is_open() => Some(format!("{name}: no answer")),
                None => None,
            }
        });
        let named: Vec<String> = named.collect();
        if named.is_empty() || reason.contains(&named[0]) {
            return reason;
        }
        format!("{reason} ({})", named.join(", "))
    }

    fn fail(&mut self, reason: String) {
        let reason = self.with_names(reason);
        self.run.phase = Phase::Failed {
            reason: reason.clone(),
        };
        self.events.push(Event::RunFailed { reason });
    }

    /// Gives everyone available something to do; the others nothing.
    pub(crate) fn assign(&mut self) -> Vec<InstitutionId> {
        let (now, away_after) = (self.now, self.run.plan.cohort.away_after());
        let round = self.run.round;
        let mut assigned = Vec::new();
        let everyone = |_: &Member| true;
        self.run.members.change(everyone, |name, member| {
            (member.since, member.late) = (None, false);
            (member.put_off, member.begun) = (0, 0);
            member.work = Work::None;
            if member.is_available(now, away_after, round) {
                member.work = member.put_off_until(now).unwrap_or(Work::Assigned);
                assigned.push(name.clone());
            }
        });
        assigned
    }

    pub(crate) fn is_available(&self, member: &Member) -> bool {
        member.is_available(self.now, self.run.plan.cohort.away_after(), self.run.round)
    }

    fn updates(&self) -> usize {
        self.run.contributions().count()
    }

    /// Who could not do it is asked again when its time has come; who announced later hours is not asked
    /// before.
    fn ask_again(&mut self) {
        let now = self.now;
        let due = |member: &Member| member.work.again().is_some_and(|again| again <= now);
        let mut asked = false;
        self.run.members.change(due, |_, member| {
            member.work = Work::Assigned;
            asked = true;
        });
        self.called |= asked;
        let later =
            |member: &Member| member.work == Work::Assigned && member.put_off_until(now).is_some();
        self.run.members.change(later, |_, member| {
            if let Some(put_off) = member.put_off_until(now) {
                member.work = put_off;
            }
        });
    }

    /// The deadline counts from when as many as the quorum needs can be at work.
    pub(crate) fn give_time(&mut self) {
        let Phase::Collecting { until } = self.run.phase else {
            return;
        };
        let missing = self.run.plan.cohort.quorum.saturating_sub(self.updates());
        let open = self.run.members.values();
        let open = open.filter(|m| m.left.is_none() && m.work.is_open());
        let mut from: Vec<Time> = open
            .map(|member| {
                let again = member.work.again().filter(|_| member.work.is_later());
                let later = member.later.map(|later| later.from);
                again.or(later).unwrap_or(self.now).max(self.now)
            })
            .collect();
        from.sort_unstable();
        let Some(from) = missing.checked_sub(1).and_then(|place| from.get(place)) else {
            return;
        };
        if *from > self.now {
            let until = until.max(*from + self.run.plan.cohort.train_timeout());
            self.run.phase = Phase::Collecting { until };
        }
    }

    /// How many have not answered, and how many of those are worth waiting for.
    fn pending(&self) -> (usize, usize) {
        let pending = || {
            self.run
                .members
                .values()
                .filter(|m| m.work.is_open() && m.left.is_none())
        };
        let waiting = pending().filter(|m| m.is_waited_for());
        (pending().count(), waiting.count())
    }

    fn mark_late(&mut self) {
        if !matches!(self.run.phase, Phase::Collecting { .. }) {
            return;
        }
        let now = self.now;
        let late = |member: &Member| {
            let past = member.late_from().is_some_and(|instant| instant <= now);
            (past || member.is_restless()) && member.work.is_pending() && !member.late
        };
        self.run
            .members
            .change(late, |_, member| member.late = true);
    }

    fn mark_away(&mut self) {
        let (now, after) = (self.now, self.run.plan.cohort.away_after());
        let (round, attempt) = (self.run.round, self.run.attempt);
        let silent = |member: &Member| {
            member.work.is_pending() && !member.away && !member.is_present(now, after)
        };
        let events = &mut self.events;
        self.run.members.change(silent, |institution, member| {
            member.away = true;
            events.push(Event::WentAway {
                round,
                attempt,
                institution: institution.clone(),
            });
        });
    }
}
