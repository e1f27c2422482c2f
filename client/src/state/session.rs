//! The session as it was last.

use std::collections::BTreeMap;

use fedner_session::Session;
use fedner_shared::digest::Digest;
use serde::{Deserialize, Serialize};

use super::{Error, Store, values};

/// Attempts that came to nothing, by plan.
const NOT_DONE: &str = "not_done";
type NotDone = BTreeMap<String, Failures>;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Failures {
    /// Under which consent: a new one begins anew.
    consent: Option<Digest>,
    count: u32,
}

pub(super) const SESSION: &str = "session";

impl Store {
    pub fn session(&self) -> Result<Session, Error> {
        self.value(SESSION)
    }

    /// The session after an attempt at this plan that came to nothing, and that it did, together.
    pub fn save_not_done(&self, session: &Session, plan: &Digest) -> Result<(), Error> {
        let consent = self.consent(plan)?.map(|record| record.signed.digest());
        self.transaction("save session", |t| {
            let mut all: NotDone = values::get(t, NOT_DONE)?;
            let of = all.entry(plan.to_string()).or_default();
            if of.consent != consent {
                *of = Failures { consent, count: 0 };
            }
            of.count += 1;
            values::put(t, NOT_DONE, &all)?;
            values::put(t, SESSION, session)
        })
    }

    /// How many attempts at the plan came to nothing under the newest consent.
    pub fn not_done(&self, plan: &Digest) -> Result<u32, Error> {
        let consent = self.consent(plan)?.map(|record| record.signed.digest());
        let all: NotDone = self.value(NOT_DONE)?;
        let of = all
            .get(&plan.to_string())
            .filter(|of| of.consent == consent);
        Ok(of.map_or(0, |of| of.count))
    }

    pub fn save_session(&self, session: &Session) -> Result<(), Error> {
        self.transaction("save session", |t| values::put(t, SESSION, session))
    }
}
