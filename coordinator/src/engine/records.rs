//! Version records that were asked for lately.
//!
//! A round asks for the same two or three records once for every institution, and the record of a
//! round has a line for each of them.

use std::collections::VecDeque;
use std::sync::Arc;

use fedner_shared::digest::{Digest, canonical_text};
use fedner_shared::id::InstitutionId;
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

/// The newest last. Records never change, so what is here is as good as what is stored.
#[derive(Debug, Default)]
pub(super) struct Records(VecDeque<(Digest, Arc<Record>)>);

impl Engine {
    pub(super) fn version_record(&mut self, digest: Digest) -> Result<Arc<Record>, Failure> {
        let known = self.records.0.iter().find(|(known, _)| *known == digest);
        if let Some((_, record)) = known {
            return Ok(Arc::clone(record));
        }
        let found = self.store.read(|tx| tx.version(digest))?;
        let version = found
            .ok_or_else(|| Fault::Inconsistent(format!("version {} is missing", digest.short())))?;
        let public = canonical_text(&version.public());
        let record = Arc::new(Record { version, public });
        if self.records.0.len() == REMEMBERED {
            self.records.0.pop_front();
        }
        self.records.0.push_back((digest, Arc::clone(&record)));
        Ok(record)
    }
}
