//! Streams of one kind, of which a holder has so many: the newest wins.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Those under way.
#[derive(Debug)]
pub(crate) struct Streams {
    most: AtomicUsize,
    live: Mutex<Live>,
}

#[derive(Debug, Default)]
struct Live {
    next: u64,
    /// The oldest first.
    streams: VecDeque<(u64, CancellationToken)>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Stream {
    of: Arc<Streams>,
    id: u64,
    cut: CancellationToken,
}

impl Streams {
    pub(crate) fn new(most: u64) -> Arc<Self> {
        Arc::new(Self {
            most: AtomicUsize::new(usize::try_from(most).unwrap_or(usize::MAX)),
            live: Mutex::default(),
        })
    }

    /// So many from the next one on.
    pub(crate) fn resize(&self, most: u64) {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        self.most.store(most, Ordering::Relaxed);
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one more; where there are too many, the oldest is told to end.
    pub(crate) fn begin(self: &Arc<Self>) -> Stream {
        let mut live = self.live();
        live.next += 1;
        let (id, cut) = (live.next, CancellationToken::new());
        live.streams.push_back((id, cut.clone()));
        while live.streams.len() > self.most.load(Ordering::Relaxed) {
            if let Some((_, oldest)) = live.streams.pop_front() {
                oldest.cancel();
            }
        }
        Stream {
            of: self.clone(),
            id,
            cut,
        }
    }
}

impl Stream {
    /// Done when a newer one has taken this one's place.
    pub(crate) fn superseded(&self) -> impl Future<Output = ()> + Send + use<> {
        self.cut.clone().cancelled_owned()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.of.live().streams.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stay() {
        let streams = Streams::new(2);
        let [first, second] = [streams.begin(), streams.begin()];
        assert!(!first.cut.is_cancelled());
        let third = streams.begin();
        assert!(first.cut.is_cancelled() && !second.cut.is_cancelled());
        drop((first, second));
        let fourth = streams.begin();
        assert!(!third.cut.is_cancelled() && !fourth.cut.is_cancelled());
        streams.resize(1);
        let fifth = streams.begin();
        assert!(third.cut.is_cancelled() && fourth.cut.is_cancelled());
        assert!(!fifth.cut.is_cancelled());
    }
}
