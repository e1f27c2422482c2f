//! What a run waits for, until when, and what then; and the plain views of it.

use std::time::Duration;

use fedner_shared::id::InstitutionId;
use fedner_shared::state::RunState;
use fedner_shared::time::Time;
use fedner_shared::view::{Absence, Explanation, MemberView, RunView};

use crate::member::{Member, Work};
use crate::phase::Phase;
use crate::run::Run;

impl Run {
    /// The next instant at which a `Tick` may change something, and why.
    pub fn next_deadline(&self) -> Option<(Time, &'static str)> {
        if self.paused.is_some() {
            return None;
        }
        let until = self.phase.until()?;
        let reason = match self.phase {
            Phase::Scheduled { .. } => "a time of the schedule comes",
            Phase::Recruiting { .. } => "recruiting ends",
            Phase::Collecting { .. } => "collecting ends",
            Phase::Agreeing { .. } => "the step ends",
            Phase::Evaluating { .. } => "evaluating ends",
            Phase::Created
            | Phase::Aggregating
            | Phase::Completed
            | Phase::Failed { .. }
            | Phase::Cancelled => return None,
        };
        let yet = self.yet_to_agree();
        let silence = self.members.iter();
        let silence = silence
            .filter(|(name, m)| (m.work.is_pending() || yet.contains(name)) && !m.away)
            .map(|(_, member)| member);
        let silence = silence
            .filter_map(|m| Some(m.last_seen? + self.plan.cohort.away_after()))
            .min();
        let silence = silence.map(|instant| (instant, "a silent institution counts as away"));
        let lateness = self.members.values().filter(|m| m.is_waited_for());
        let lateness = lateness.filter_map(Member::late_from).min();
        let lateness = lateness.map(|instant| (instant, "a late institution is not waited for"));
        let again = self.members.values().filter(|m| m.left.is_none());
        let again = again.filter_map(|m| m.work.again()).min();
        let again = again.map(|instant| (instant, "an institution is asked again"));
        let deadlines = [silence, lateness, again, Some((until, reason))];
        deadlines
            .into_iter()
            .flatten()
            .min_by_key(|(instant, _)| *instant)
    }

    /// When the phase will be over if everybody takes as long as they did before.
    fn expected(&self) -> Option<Time> {
        let Phase::Collecting { until } = self.phase else {
            return None;
        };
        let mut last = self.attempt_began;
        for member in self.members.values().filter(|m| m.is_waited_for()) {
            last = last.max(member.since? + member.longest_training()?);
        }
        Some(last.min(until))
    }

    /// When the run will be over if its rounds take as long as the last ones.
    fn finish(&self) -> Option<Time> {
        let began = !self.phase.is_end() && self.phase != Phase::Created && self.paused.is_none();
        if !began || self.plan.schedule.is_some() || self.round_durations.is_empty() {
            return None;
        }
        let mean = self.round_durations.iter().sum::<u64>() / self.round_durations.len() as u64;
        let left = u64::from(self.plan.last_round() + 1 - self.round);
        Some(self.attempt_began + Duration::from_millis(mean * left))
    }

    /// The state as monitoring shows it.
    pub fn state(&self) -> RunState {
        if self.paused.is_some() {
            RunState::Paused
        } else {
            self.phase.state()
        }
    }

    pub fn explain(&self) -> Explanation {
        let cohort = &self.plan.cohort;
        let (quorum, attempt, attempts) = (cohort.quorum, self.attempt, cohort.max_attempts);
        let repeat = if attempt < attempts {
            format!(
                "{} is tried again (attempt {} of {attempts})",
                self.what_is_tried(),
                attempt + 1
            )
        } else {
            "the run fails, having used all its attempts".to_owned()
        };
        let (awaits, from, then) = match &self.phase {
            _ if self.paused.is_some() => (
                "the operator to resume the run".to_owned(),
                vec![],
                "it goes on where it stopped, its deadlines moved".to_owned(),
            ),
            Phase::Created => (
                "the operator to start the run".to_owned(),
                vec![],
                "the cohort is recruited".to_owned(),
            ),
            Phase::Scheduled { .. } => (
                "the next time of the plan's schedule".to_owned(),
                vec![],
                format!(
                    "the cohort is recruited for {}",
                    self.what_begins(self.next_round())
                ),
            ),
            Phase::Recruiting { .. } => (
                format!(
                    "the cohort to agree to the plan and check in for {}",
                    self.what_begins(self.round)
                ),
                self.names(|m| {
                    let part = m.left.is_none() && m.aside(self.round).is_none();
                    part && (m.consent.is_none() || m.last_seen.is_none() || m.away)
                }),
                format!(
                    "it starts with whoever is there if at least {quorum} are, otherwise {repeat}"
                ),
            ),
            Phase::Collecting { .. } => (
                format!(
                    "updates for round {} of {}{}",
                    self.round,
                    self.plan.rounds,
                    self.put_off()
                ),
                self.names(|m| m.work.is_open()),
                match cohort.enough {
                    Some(enough) => format!(
                        "with at least {quorum} updates, or at once with {enough}, a version is published, otherwise {repeat}"
                    ),
                    None => format!(
                        "with at least {quorum} updates a version is published, otherwise {repeat}"
                    ),
                },
            ),
            Phase::Agreeing { step, .. } => (
                format!(
                    "the step {step} of secure aggregation for round {} of {}",
                    self.round, self.plan.rounds
                ),
                self.yet_to_agree(),
                format!("the next step begins once enough have taken it, otherwise {repeat}"),
            ),
            Phase::Aggregating => (
                "the coordinator to add the updates".to_owned(),
                vec![],
                "the new version is published".to_owned(),
            ),
            Phase::Evaluating { .. } => (
                format!(
                    "evaluations of the {}{}",
                    self.what_is_evaluated(),
                    self.put_off()
                ),
                self.names(|m| m.work.is_open()),
                {
                    let next = if self.round == self.plan.last_round() {
                        "the run is completed".to_owned()
                    } else {
                        format!("{} begins", self.what_begins(self.round + 1))
                    };
                    match self.plan.gate {
                        Some(_) => format!("the gate judges the version, and {next}"),
                        None if self.plan.only_evaluates() => {
                            format!("with at least {quorum} of them {next}, otherwise {repeat}")
                        }
                        None => next,
                    }
                },
            ),
            Phase::Completed => (
                if self.plan.only_evaluates() {
                    "nothing; the base has been scored".to_owned()
                } else {
                    "nothing; every round has been published".to_owned()
                },
                vec![],
                "nothing".to_owned(),
            ),
            Phase::Failed { reason } => (
                format!("nothing; the run failed: {reason}"),
                vec![],
                "nothing; once its cause is mended, `run retry` goes on from the last version"
                    .to_owned(),
            ),
            Phase::Cancelled => (
                "nothing; the operator cancelled the run".to_owned(),
                vec![],
                "nothing".to_owned(),
            ),
        };
        let until = if self.paused.is_some() {
            None
        } else {
            self.phase.until()
        };
        Explanation {
            run: self.id.clone(),
            state: self.state(),
            awaits,
            from,
            until,
            then,
            expected: if self.paused.is_some() {
                None
            } else {
                self.expected()
            },
            finish: self.finish(),
            gate: self.gate_words(),
            absent: self.absent(),
        }
    }

    /// Who has left the run or is set aside, and why.
    fn absent(&self) -> Vec<Absence> {
        let why = |member: &Member| match (member.left, member.aside(self.round)) {
            (Some(code), _) => Some(format!("it left with {code}: {}", code.hint())),
            (None, Some(aside)) => Some(aside.to_string()),
            (None, None) => None,
        };
        let absences = self.members.iter().filter_map(|(name, member)| {
            let (institution, why) = (name.clone(), why(member)?);
            Some(Absence { institution, why })
        });
        absences.collect()
    }

    /// Those of whom something is awaited and whom another of the runs has first.
    pub fn elsewhere<'a>(&self, runs: impl Iterator<Item = &'a Self> + Clone) -> Vec<Absence> {
        let names = self.members.iter().map(|(name, _)| name);
        let awaited = names.filter(|name| self.assignment(name).is_some());
        let absences = awaited.filter_map(|institution| {
            let first = Self::next_of(runs.clone(), institution)?;
            let priority = match first.plan.priority {
                0 => String::new(),
                priority => format!(" (priority {priority})"),
            };
            (first.id != self.id).then(|| Absence {
                institution: institution.clone(),
                why: format!("it works on {}{priority} first", first.id),
            })
        });
        absences.collect()
    }

    pub(crate) fn what_is_tried(&self) -> String {
        if self.plan.only_evaluates() {
            return "the evaluation".to_owned();
        }
        format!("round {}", self.round)
    }

    fn what_begins(&self, round: u32) -> String {
        if self.plan.only_evaluates() {
            return format!("the evaluation of {}", self.plan.base);
        }
        format!("round {round} of {}", self.plan.rounds)
    }

    fn what_is_evaluated(&self) -> String {
        if self.plan.only_evaluates() {
            return format!("base, {}", self.plan.base);
        }
        format!("version of round {}", self.round)
    }

    pub fn view(&self) -> RunView {
        let figures = self.figures();
        RunView {
            run: self.id.clone(),
            name: self.plan.name.clone(),
            plan: self.plan_digest,
            state: self.state(),
            round: self.round,
            rounds: self.plan.rounds,
            attempt: self.attempt,
            method: self.plan.method,
            unit: self.plan.privacy.unit,
            labels: self.plan.labels.clone(),
            version: self.version,
            next_start: (self.state() == RunState::Scheduled)
                .then(|| self.phase.until())
                .flatten(),
            failure: match &self.phase {
                Phase::Failed { reason } => Some(reason.clone()),
                Phase::Created
                | Phase::Scheduled { .. }
                | Phase::Recruiting { .. }
                | Phase::Collecting { .. }
                | Phase::Agreeing { .. }
                | Phase::Aggregating
                | Phase::Evaluating { .. }
                | Phase::Completed
                | Phase::Cancelled => None,
            },
            members: self
                .members
                .iter()
                .map(|(name, member)| member_view(name, member, self.round))
                .collect(),
            dimension: self.dimension,
            f1: figures.map(|(pooled, _)| pooled),
            median_f1: figures.map(|(_, median)| median),
            champion: self.standing.as_ref().map(|standing| standing.champion),
            gate: self.gate_words(),
        }
    }

    /// Who cannot do it now, why, and when each is asked again.
    fn put_off(&self) -> String {
        let waiting = self.members.iter().filter_map(|(name, member)| {
            let Work::PutOff { code, again } = &member.work else {
                return None;
            };
            Some(format!("; {name} is asked again at {again} ({code})"))
        });
        waiting.collect()
    }

    fn names(&self, wanted: impl Fn(&Member) -> bool) -> Vec<InstitutionId> {
        let members = self.members.iter().filter(|(_, member)| wanted(member));
        members.map(|(name, _)| name.clone()).collect()
    }
}

fn member_view(institution: &InstitutionId, member: &Member, round: u32) -> MemberView {
    let aside = member.aside(round).or(member.asides.first());
    MemberView {
        institution: institution.clone(),
        state: member.state(round),
        examples: member.consent.as_ref().map(|granted| granted.examples),
        annotation: member
            .consent
            .as_ref()
            .and_then(|granted| granted.annotation.clone()),
        epsilon: member.epsilon,
        last_seen: member.last_seen,
        f1: member.scores.as_ref().map(|scores| scores.total().f1()),
        figures: member.figures,
        aside: aside.map(ToString::to_string),
        refused: member.left.or(member.refused).map(|code| code.to_string()),
    }
}
