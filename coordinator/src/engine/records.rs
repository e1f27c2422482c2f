//! Version records and signed plans that were asked for lately.
//!
//! A round asks for the same few once for every institution, and each has a line for every institution.

use std::collections::VecDeque;
use std::sync::Arc;

use fedner_shared::digest::{Digest, canonical_text};
use fedner_shared::id::InstitutionId;
use fedner_shared::sign::Signed;
use fedner_shared::version::Version;

use super::{Engine, Failure, Fault};

/// As many as a few runs need at a time.
const REMEMBERED: usize = 8;

/// A version in the form that is worked with, and in that which everybody may read.
#[derive(Debug)]
pub(super) struct Record {
    pub version: Version,
    /// Canonical JSON; its digest is the version's.
    pub public: String,
}

impl Record {
    /// Canonical JSON of what the public record hides of the institution's own part; empty where it hides
    /// nothing.
    pub(super) fn part_of(&self, institution: &InstitutionId) -> String {
        let own = self.version.sealed_part_of(institution);
        own.map_or_else(String::new, canonical_text)
    }
}

/// The newest last. What has that digest never changes, so what is here is as good as what is stored.
#[derive(Debug)]
pub(super) struct Lately<T>(VecDeque<(Digest, Arc<T>)>);

impl<T> Default for Lately<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Lately<T> {
    fn get(&self, digest: Digest) -> Option<Arc<T>> {
        let known = self.0.iter().find(|(known, _)| *known == digest);
        known.map(|(_, found)| found.clone())
    }

    fn keep(&mut self, digest: Digest, found: T) -> Arc<T> {
        let found = Arc::new(found);
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((digest, found.clone()));
        found
    }
}

impl Engine {
    pub(super) fn version_record(&mut self, digest: Digest) -> Result<Arc<Record>, Failure> {
        if let Some(record) = self.records.get(digest) {
            return Ok(record);
        }
        let found = self.store.read(|tx| tx.version(digest))?;
        let version = found
            .ok_or_else(|| Fault::Inconsistent(format!("version {} is missing", digest.short())))?;
        let public = canonical_text(&version.public());
        Ok(self.records.keep(digest, Record { version, public }))
    }

    pub(super) fn signed_plan(&mut self, digest: Digest) -> Result<Arc<Signed>, Failure> {
        if let Some(plan) = self.plans.get(digest) {
            return Ok(plan);
        }
        let found = self.store.read(|tx| tx.plan(digest))?;
        let plan = found
            .ok_or_else(|| Fault::Inconsistent(format!("plan {} is missing", digest.short())))?;
        Ok(self.plans.keep(digest, plan))
    }

    /// Plans are signed with another key now: their digest is that of what is signed.
    pub(super) fn forget_plans(&mut self) {
        self.plans = Lately::default();
    }
}
