//! The history of events as members are shown it.

use fedner_shared::digest::Digest;
use fedner_shared::history::Seen;
use fedner_shared::refusal::Code;

use super::statements::Vouched;
use super::{Engine, Failure, Fault};
use crate::store::HistorySeen;

/// How far it goes, and the proof that it goes on from what somebody knows.
#[derive(Debug, Clone)]
pub struct Shown {
    pub size: u64,
    pub root: Digest,
    /// Empty where they know more than there is: what they know was taken away.
    pub proof: Vec<Digest>,
}

impl Engine {
    /// The history up to now, for somebody who was shown the first `known` entries.
    pub fn show_history(&mut self, known: u64) -> Result<Shown, Failure> {
        let next = self.history.size() + 1;
        if *self.newest.borrow() >= next {
            for digest in self.store.read(|tx| tx.entry_digests(next))? {
                self.history.push(digest);
            }
        }
        let size = self.history.size();
        let root = self.history.root(size);
        let root =
            root.ok_or_else(|| Fault::Inconsistent("a history without a root".to_owned()))?;
        let proof = self.history.consistency(known, size).unwrap_or_default();
        Ok(Shown { size, root, proof })
    }

    /// Keeps what an institution has countersigned, if that is the history there is.
    pub fn note_history_seen(&mut self, seen: &Vouched<Seen>) -> Result<(), Failure> {
        let Seen { size, root, .. } = seen.said;
        self.show_history(0)?;
        if self.history.root(size) != Some(root) {
            let message =
                format!("a history of {size} events with the root {root} is unknown here");
            return Err(Failure::refuse(Code::HistoryRewritten, message));
        }
        let kept = HistorySeen {
            institution: seen.author().clone(),
            size,
            key: seen.key(),
            signed: seen.signed().clone(),
        };
        Ok(self
            .store
            .transact("note history seen", |tx| tx.put_history_seen(&kept))?)
    }
}
