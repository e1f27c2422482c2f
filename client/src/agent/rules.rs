//! What holds here: the policy in force, and `client.toml` as it was last whole.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fedner_shared::refusal::Code;
use fedner_shared::time::Time;

use super::{Agent, Error};
use crate::config::{self, Policy, Settings, settled};
use crate::rules;

/// How soon a file that is not whole is looked at again.
const AGAIN: Duration = Duration::from_secs(1);

/// What was read last, and what was said of it.
#[derive(Debug, Default)]
pub(super) struct Read {
    settings: Mutex<Option<Settings>>,
    told: Mutex<Option<String>>,
}

impl Read {
    fn settings(&self) -> MutexGuard<'_, Option<Settings>> {
        let lock = self.settings.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is said for the first time since something else was said.
    fn is_news(&self, message: Option<&str>) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let news = told.as_deref() != message;
        *told = message.map(str::to_owned);
        news
    }
}

impl Agent {
    /// The policy in force. An error where nothing is allowed, because the file is not whole.
    pub(super) async fn policy(&self) -> Result<Policy, Error> {
        let now = self.environment.machine.now();
        let found = rules::in_force(&self.store, &self.directory, now).await?;
        if found.changed {
            let digest = found.policy.digest();
            tracing::info!("the policy {} is in force", digest.short());
        }
        if found.looser.is_empty() {
            self.read.is_news(None);
        } else {
            let keys = found.looser.join(", ");
            let message = format!(
                "policy.toml would allow more in {keys}; the policy in force stays as it was until \
                 `fedner-client policy apply`"
            );
            if self.read.is_news(Some(&message)) {
                tracing::warn!("{message}");
            }
        }
        Ok(found.policy)
    }

    /// The same, once the file is whole: where something was paid for that must not be lost.
    pub(super) async fn policy_when_whole(&self) -> Result<Policy, Error> {
        loop {
            match self.policy().await {
                Err(Error::Config(error)) => self.told_of(&error),
                other => return other,
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Says once that nothing is allowed.
    pub(super) fn told_of(&self, error: &config::Error) {
        let message = error.to_string();
        if self.read.is_news(Some(&message)) {
            tracing::warn!("{message}");
        }
    }

    /// From when on work is taken on, and why not before.
    pub(super) async fn later(&self) -> Result<Option<(Time, Code)>, Error> {
        let now = self.environment.machine.now();
        if let Some(until) = self.store.paused(now)? {
            return Ok(Some((until, Code::InstitutionPaused)));
        }
        let hours = self.policy().await?.hours;
        let from = hours.and_then(|hours| hours.next_after(now));
        Ok(from.map(|from| (from, Code::OutsideHours)))
    }

    /// `client.toml`; a changed one once it is whole and the same at two looks.
    pub(super) async fn settings(&self) -> Result<Settings, Error> {
        let known = self.read.settings().clone();
        let file = self.directory.settings_file();
        let read = || self.directory.settings();
        let settings = settled(file.clone(), known.as_ref(), read).await?;
        let (expected, found) = (&self.identity.institution, &settings.institution);
        if found != expected {
            return Err(config::Error::Institution {
                file,
                expected: expected.clone(),
                found: found.clone(),
            }
            .into());
        }
        *self.read.settings() = Some(settings.clone());
        Ok(settings)
    }
}
