//! Presence is when a request arrives, not when its turn comes.
//!
//! Where the engine is kept busy, whoever waits in its queue is there all the same: nobody goes missing by
//! another's doing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fedner_round::Input;
use fedner_shared::id::InstitutionId;
use fedner_shared::time::Time;

use super::Engine;
use crate::identity::Caller;

/// Whose turn comes sooner is noted by the request itself.
const LATE: Duration = Duration::from_millis(500);

/// Requests of institutions that wait for their turn.
#[derive(Debug, Clone, Default)]
pub(super) struct Arrivals(Arc<Mutex<BTreeMap<InstitutionId, Arrival>>>);

#[derive(Debug, Clone)]
struct Arrival {
    at: Time,
    serial: String,
}

impl Arrivals {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<InstitutionId, Arrival>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first of several counts, so that a flood of them does not put the note off.
    pub(super) fn note(&self, caller: &Caller, at: Time) {
        let Ok(institution) = caller.institution() else {
            return;
        };
        let serial = caller.serial.clone();
        let arrival = Arrival { at, serial };
        self.waiting().entry(institution).or_insert(arrival);
    }

    pub(super) fn forget(&self, institution: &InstitutionId) {
        self.waiting().remove(institution);
    }

    /// Those that have waited for long.
    fn take_late(&self, now: Time) -> Vec<(InstitutionId, Arrival)> {
        let mut waiting = self.waiting();
        let late = |arrival: &Arrival| now.since(arrival.at) >= LATE;
        let names = waiting.iter().filter(|(_, arrival)| late(arrival));
        let names: Vec<InstitutionId> = names.map(|(name, _)| name.clone()).collect();
        let taken = names
            .into_iter()
            .filter_map(|name| waiting.remove_entry(&name));
        taken.collect()
    }
}

impl Engine {
    /// Notes as present whoever has waited for the engine, before anything else is decided.
    pub(super) fn note_arrivals(&mut self) {
        for (institution, Arrival { at, serial }) in self.arrivals.take_late(self.now()) {
            let stands = self
                .store
                .read(|tx| tx.certificate_stands(&institution, &serial));
            if !stands.unwrap_or(false) {
                continue;
            }
            self.seen.insert(institution.clone(), at);
            for id in self.runs_of(&institution) {
                let institution = institution.clone();
                self.step_logged(&id, Input::Seen { institution });
            }
        }
    }
}
