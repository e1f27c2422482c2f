//! What holds of a run after every step.

use crate::member::{Member, Work};
use crate::phase::Phase;
use crate::run::Run;

impl Run {
    /// What is wrong with the run; nothing, whatever its peers do.
    pub fn violation(&self) -> Option<&'static str> {
        let with = |wanted: fn(&Work) -> bool| {
            let members = self.members.values();
            members.filter(|member| wanted(&member.work)).count()
        };
        let uploaded = with(|work| matches!(work, Work::Uploaded { .. }));
        let evaluated = with(|work| matches!(work, Work::Evaluated { .. }));
        let busy = with(|work| *work != Work::None);
        let foreign = |(name, member): (&_, &Member)| match &member.work {
            Work::Uploaded { contribution } => contribution.institution != *name,
            Work::None
            | Work::Assigned
            | Work::Working
            | Work::Evaluated { .. }
            | Work::PutOff { .. }
            | Work::Declined { .. } => false,
        };
        let phase = match self.phase {
            Phase::Created | Phase::Scheduled { .. } | Phase::Recruiting { .. } if busy > 0 => {
                Some("there is work before the round begins")
            }
            Phase::Collecting { .. } if evaluated > 0 => {
                Some("there is an evaluation among the updates")
            }
            Phase::Aggregating if self.contributions().count() < self.plan.cohort.quorum => {
                Some("a sum lacks its quorum")
            }
            Phase::Agreeing { .. } if self.agreement.is_none() => Some("it agrees on nothing"),
            Phase::Evaluating { .. } if uploaded > 0 => {
                Some("there is an update among the evaluations")
            }
            Phase::Created
            | Phase::Scheduled { .. }
            | Phase::Recruiting { .. }
            | Phase::Collecting { .. }
            | Phase::Agreeing { .. }
            | Phase::Aggregating
            | Phase::Evaluating { .. }
            | Phase::Completed
            | Phase::Failed { .. }
            | Phase::Cancelled => None,
        };
        if phase.is_some() {
            return phase;
        }
        if self.members.iter().any(foreign) {
            return Some("an update stands at another institution than its own");
        }
        if let (Phase::Aggregating, Some(agreement)) = (&self.phase, &self.agreement) {
            let counted = self
                .contributions()
                .map(|contribution| &contribution.institution);
            if !counted.eq(&agreement.members) {
                return Some("a masked sum is not over the set that its members signed");
            }
        }
        if self.paused.is_some() && (self.phase.is_end() || self.phase == Phase::Created) {
            return Some("it is paused and not under way");
        }
        if self.round > self.plan.last_round() || self.attempt > self.plan.cohort.max_attempts {
            return Some("it is beyond the last round or attempt of its plan");
        }
        self.gate_violation()
    }
}
