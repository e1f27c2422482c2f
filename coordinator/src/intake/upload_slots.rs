//! One stream at a time for each object, and the newest one wins.
//!
//! After a broken connection the old stream may look alive for a minute. Its sender comes back
//! long before that, and must not be kept waiting by its own ghost.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::refusal::{Code, Refusal};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, Default)]
pub(super) struct UploadSlots(Arc<Mutex<HashMap<Digest, Entry>>>);

#[derive(Debug)]
struct Entry {
    owner: InstitutionId,
    /// Cuts the newest stream.
    cut: CancellationToken,
    /// Held by the stream that writes, and waited for by those that come after it.
    busy: Arc<tokio::sync::Mutex<()>>,
}

/// The right to write to an object's staging file, for as long as this lives.
#[derive(Debug)]
pub(super) struct UploadSlot {
    cut: CancellationToken,
    _busy: tokio::sync::OwnedMutexGuard<()>,
}

impl UploadSlots {
    /// Cuts the owner's earlier stream, and waits until that one has written its last byte.
    pub(super) async fn take_over(
        &self,
        owner: &InstitutionId,
        digest: Digest,
    ) -> Result<UploadSlot, Refusal> {
        let cut = CancellationToken::new();
        let busy = self.enter(owner, digest, &cut)?;
        Ok(UploadSlot {
            _busy: busy.lock_owned().await,
            cut,
        })
    }

    /// Does something to files while no stream can begin; with the objects that have one.
    pub(super) fn while_idle<T>(&self, work: impl FnOnce(&BTreeSet<Digest>) -> T) -> T {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|_, entry| Arc::strong_count(&entry.busy) > 1);
        work(&lines.keys().copied().collect())
    }

    fn enter(
        &self,
        owner: &InstitutionId,
        digest: Digest,
        cut: &CancellationToken,
    ) -> Result<Arc<tokio::sync::Mutex<()>>, Refusal> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|_, entry| Arc::strong_count(&entry.busy) > 1);
        let Some(entry) = lines.get_mut(&digest) else {
            let entry = Entry {
                owner: owner.clone(),
                cut: cut.clone(),
                busy: Arc::default(),
            };
            let busy = Arc::clone(&entry.busy);
            lines.insert(digest, entry);
            return Ok(busy);
        };
        if entry.owner != *owner {
            let message = "another institution is sending an update of this digest";
            return Err(Refusal::new(Code::TransferOffset, message));
        }
        std::mem::replace(&mut entry.cut, cut.clone()).cancel();
        Ok(Arc::clone(&entry.busy))
    }
}

impl UploadSlot {
    pub(super) fn cut(&self) -> CancellationToken {
        self.cut.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_stream_of_an_owner_wins_and_nobody_else_gets_in() {
        let lines = UploadSlots::default();
        let (anna, mercy) = (
            "anna".parse().expect("name"),
            "mercy".parse().expect("name"),
        );
        let digest = Digest::of(b"update");
        let first = lines.take_over(&anna, digest).await.expect("free");
        let cut = first.cut();
        assert!(lines.take_over(&mercy, digest).await.is_err());
        let second = tokio::spawn({
            let lines = lines.clone();
            async move { lines.take_over(&anna, digest).await }
        });
        cut.cancelled().await;
        assert!(!second.is_finished(), "it waits for the last byte");
        drop(first);
        let second = second.await.expect("joined").expect("taken over");
        assert!(!second.cut().is_cancelled());
        drop(second);
        lines.take_over(&mercy, digest).await.expect("free again");
    }
}
