//! The entry to the state machine: a run is created, then stepped by one input after another.

use fedner_shared::digest::Digest;
use fedner_shared::event::Event;
use fedner_shared::id::RunId;
use fedner_shared::plan::Plan;
use fedner_shared::time::Time;

use crate::effect::{Effect, Transition};
use crate::input::Input;
use crate::member::Member;
use crate::phase::Phase;
use crate::run::{Run, Step};
use crate::standing::Standing;

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

impl Run {
    /// A run that waits for its start.
    pub fn create(now: Time, created: Created) -> Transition {
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
        let standing = plan.gate.is_some().then(|| Standing::new(base));
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
            round_durations: Vec::new(),
            standing,
            measured: None,
            agreement: None,
            agreements: 0,
        };
        Transition {
            run,
            events,
            effects: Vec::new(),
            called: false,
        }
    }

    /// The run after `input`, with what happened and what is to be done. A rejected input leaves
    /// the run as it is.
    pub fn step(&self, now: Time, input: Input) -> Step<Transition> {
        let mut next = StepBuilder::new(self.clone(), now);
        next.apply(input)?;
        next.settle();
        debug_assert_eq!(next.run.violation(), None);
        Ok(next.finish())
    }
}

/// A step in the making.
pub(crate) struct StepBuilder {
    pub(crate) run: Run,
    pub(crate) now: Time,
    pub(crate) events: Vec<Event>,
    pub(crate) effects: Vec<Effect>,
    /// Somebody is asked again, of which no event tells.
    pub(crate) called: bool,
}

impl StepBuilder {
    pub(crate) fn new(run: Run, now: Time) -> Self {
        Self {
            run,
            now,
            events: Vec::new(),
            effects: Vec::new(),
            called: false,
        }
    }

    pub(crate) fn finish(self) -> Transition {
        Transition {
            run: self.run,
            events: self.events,
            effects: self.effects,
            called: self.called,
        }
    }
}
