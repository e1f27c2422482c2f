//! Secrets of secure aggregations, and what was said with them: one attempt of each run.
//!
//! They lie in the directory as the signing key does, for its user alone to read, and go when the next attempt begins
//! or the plan is under way no more.

use std::collections::BTreeMap;

use fedner_secagg::Secret;
use fedner_session::secure::Said;
use fedner_shared::digest::Digest;
use fedner_shared::secure::{AttemptId, Hex, Told};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::{Error, Store, values};

const SECURE: &str = "secure";

type All = BTreeMap<String, SecureAttempt>;

/// One attempt, from its keys to its unmasking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecureAttempt {
    pub of: AttemptId,
    /// From which all keys and masks follow.
    secret: Hex,
    pub said: Said,
    /// What the coordinator told before training: with whom there are masks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
}

impl SecureAttempt {
    pub fn new(of: AttemptId, secret: [u8; 32]) -> Self {
        Self {
            of,
            secret: Hex(secret.to_vec()),
            said: Said::default(),
            told: None,
        }
    }

    pub fn secret(&self) -> Result<Secret, Error> {
        let bytes: [u8; 32] = self
            .secret
            .0
            .as_slice()
            .try_into()
            .map_err(|_| Error::Content("a secret has another length".to_owned()))?;
        Ok(Secret::from_bytes(bytes))
    }
}

impl Store {
    /// The newest attempt of the run that keys were sent for.
    pub fn secure_attempt(&self, run: &str) -> Result<Option<SecureAttempt>, Error> {
        let mut all: All = self.value(SECURE)?;
        Ok(all.remove(run))
    }

    /// Durable before anything of it leaves. It takes the place of an earlier attempt of the run.
    pub fn save_secure_attempt(&self, attempt: &SecureAttempt) -> Result<(), Error> {
        self.transaction("save secure attempt", |transaction| {
            put(transaction, attempt)
        })
    }

    /// Forgets the attempts of plans other than these.
    pub fn forget_secure_attempts(&self, plans: &[Digest]) -> Result<(), Error> {
        let all: All = self.value(SECURE)?;
        if all.values().all(|attempt| plans.contains(&attempt.of.plan)) {
            return Ok(());
        }
        self.transaction("forget secure attempts", |transaction| {
            let mut all: All = values::get(transaction, SECURE)?;
            all.retain(|_, attempt| plans.contains(&attempt.of.plan));
            values::put(transaction, SECURE, &all)
        })
    }
}

pub(super) fn put(connection: &Connection, attempt: &SecureAttempt) -> rusqlite::Result<()> {
    let mut all: All = values::get(connection, SECURE)?;
    all.insert(attempt.of.run.to_string(), attempt.clone());
    values::put(connection, SECURE, &all)
}
