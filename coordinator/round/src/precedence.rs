//! Which of several runs an institution works on.

use std::cmp::Reverse;

use fedner_shared::id::InstitutionId;

use crate::run::Run;

impl Run {
    /// The run that an institution works on next: what it has begun, then that of the highest priority, and of these
    /// the oldest. `runs` are in the order of their age. Nobody works on two at a time.
    pub fn next_of<'a>(
        runs: impl Iterator<Item = &'a Self> + Clone,
        institution: &InstitutionId,
    ) -> Option<&'a Self> {
        // Others of a masked sum need it until that is unmasked.
        let mut all = runs.clone();
        if let Some(run) = all.find(|run| run.holds(institution)) {
            return run.assignment(institution).map(|_| run);
        }
        let wanting = runs.filter(|run| run.assignment(institution).is_some());
        let begun = wanting.clone().find(|run| run.occupies(institution));
        // The first of those with the least key.
        begun.or_else(|| wanting.min_by_key(|run| Reverse(run.plan.priority)))
    }
}
