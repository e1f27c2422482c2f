//! Secrets of secure aggregations, and what was said with them: one attempt of each run.
//!
//! They lie in the directory as the signing key does, for its user alone to read, and go when the next attempt begins
//! or the plan is under way no more. Then no byte of them stays in the database or its log: whoever gets hold of the
//! directory later takes no masks off what left before.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use fedner_host::sqlite;
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
        let replaces = self.transaction("save secure attempt", |transaction| {
            put(transaction, attempt)
        })?;
        if replaces {
            self.stale_log.store(true, Ordering::Relaxed);
        }
        self.clear_log();
        Ok(())
    }

    /// Forgets the attempts of plans other than these.
    pub fn forget_secure_attempts(&self, plans: &[Digest]) -> Result<(), Error> {
        let all: All = self.value(SECURE)?;
        if !all.values().all(|attempt| plans.contains(&attempt.of.plan)) {
            self.transaction("forget secure attempts", |transaction| {
                let mut all: All = values::get(transaction, SECURE)?;
                all.retain(|_, attempt| plans.contains(&attempt.of.plan));
                values::put(transaction, SECURE, &all)
            })?;
            self.stale_log.store(true, Ordering::Relaxed);
        }
        self.clear_log();
        Ok(())
    }

    /// Empties the log if secrets that were let go may lie in it. What cannot be done now is tried again.
    fn clear_log(&self) {
        if !self.stale_log.load(Ordering::Relaxed) {
            return;
        }
        match self.query("clear the log", sqlite::clear_log) {
            Ok(done) => self.stale_log.store(!done, Ordering::Relaxed),
            Err(error) => tracing::warn!("secrets that were let go stay in the log: {error}"),
        }
    }
}

/// Whether it took the place of an earlier attempt.
pub(super) fn put(connection: &Connection, attempt: &SecureAttempt) -> rusqlite::Result<bool> {
    let mut all: All = values::get(connection, SECURE)?;
    let before = all.insert(attempt.of.run.to_string(), attempt.clone());
    values::put(connection, SECURE, &all)?;
    Ok(before.is_some_and(|before| before.of != attempt.of))
}
