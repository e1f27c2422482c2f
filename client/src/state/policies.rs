//! Policies that were in force here, each until the next.

use fedner_shared::digest::Digest;
use fedner_shared::time::Time;
use rusqlite::{Row, params};
use serde::Serialize;

use super::{Error, Store, digest_of};
use crate::config::Policy;

/// How a policy came into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicySource {
    /// The first one of this directory.
    First,
    /// `policy.toml` was changed, and allows no more than before.
    File,
    /// By a person's command.
    Apply,
}

impl PolicySource {
    const ALL: [Self; 3] = [Self::First, Self::File, Self::Apply];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::File => "file",
            Self::Apply => "apply",
        }
    }
}

/// A policy, since when it was in force, and by what.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyRecord {
    pub digest: Digest,
    pub policy: Policy,
    pub source: PolicySource,
    pub at: Time,
}

impl PolicyRecord {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let body: String = row.get("body")?;
        let policy = serde_json::from_str(&body).map_err(|e| super::unreadable(Box::new(e)))?;
        let source: String = row.get("source")?;
        let source = PolicySource::ALL.into_iter().find(|s| s.as_str() == source);
        Ok(Self {
            digest: digest_of(row, "digest")?,
            policy,
            source: source.unwrap_or(PolicySource::File),
            at: Time::from_millis(row.get("at_ms")?),
        })
    }
}

impl Store {
    /// The policy in force; none before the first.
    pub fn policy(&self) -> Result<Option<Policy>, Error> {
        Ok(self.policies()?.pop().map(|record| record.policy))
    }

    /// Oldest first.
    pub fn policies(&self) -> Result<Vec<PolicyRecord>, Error> {
        self.query("read policies", |connection| {
            let mut statement = connection.prepare("SELECT * FROM policies ORDER BY id")?;
            statement.query_map([], PolicyRecord::of)?.collect()
        })
    }

    pub fn add_policy(&self, policy: &Policy, source: PolicySource, at: Time) -> Result<(), Error> {
        let body = serde_json::to_string(policy).map_err(|e| Error::Content(e.to_string()))?;
        self.transaction("add policy", |transaction| {
            transaction.execute(
                "INSERT INTO policies (digest, body, source, at_ms) VALUES (?1, ?2, ?3, ?4)",
                params![
                    policy.digest().to_string(),
                    body,
                    source.as_str(),
                    at.as_millis()
                ],
            )?;
            Ok(())
        })
    }
}
