//! When each institution was last heard of, and by what. It is kept over restarts.

use std::time::Duration;

use fedner_shared::event::Event;
use fedner_shared::id::InstitutionId;
use fedner_shared::time::Time;

use super::{Engine, Failure};

/// How much older what is kept may be than what is known.
const KEPT_EVERY: Duration = Duration::from_mins(1);
/// For how long people are shown that a second copy was refused.
const SHOWN: Duration = Duration::from_hours(24);

/// What is known of an institution's program.
#[derive(Debug, Clone, Default)]
pub(super) struct Presence {
    pub(super) software: Option<String>,
    /// When a second running copy was refused last.
    twice: Option<Time>,
    /// What is kept: since when, and of what.
    kept: Option<(Time, Option<String>)>,
}

impl Presence {
    pub(super) fn new(seen: Time, software: Option<String>) -> Self {
        Self {
            kept: Some((seen, software.clone())),
            software,
            twice: None,
        }
    }

    pub(super) fn is_twice(&self, now: Time) -> bool {
        self.twice.is_some_and(|at| now.since(at) < SHOWN)
    }
}

impl Engine {
    pub(super) fn note_software(&mut self, institution: &InstitutionId, software: &str) {
        let known = self.presence.entry(institution.clone()).or_default();
        known.software = (!software.is_empty()).then(|| software.to_owned());
    }

    /// A second running copy of its directory was refused.
    pub fn note_twice(&mut self, institution: InstitutionId) -> Result<(), Failure> {
        let now = self.now();
        let known = self.presence.entry(institution.clone()).or_default();
        known.twice = Some(now);
        let event = Event::SecondProgramRefused { institution };
        self.record("note second program", event, |_| Ok(()))
    }

    /// Makes durable when it was last heard of, once in a while.
    pub(super) fn keep_presence(&mut self, institution: &InstitutionId) -> Result<(), Failure> {
        let now = self.now();
        let known = self.presence.entry(institution.clone()).or_default();
        let fresh = |(at, software): &(Time, Option<String>)| {
            let old = now.since(*at) >= KEPT_EVERY || *at > now;
            !old && *software == known.software
        };
        if known.kept.as_ref().is_some_and(fresh) {
            return Ok(());
        }
        let software = known.software.clone();
        known.kept = Some((now, software.clone()));
        self.store.transact("keep presence", |tx| {
            tx.put_presence(institution, now, software.as_deref())
        })?;
        Ok(())
    }
}
