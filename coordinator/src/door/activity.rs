//! Whether a connection is used.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// The calls of one connection.
#[derive(Debug)]
pub(crate) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    calls: u64,
    used: bool,
    since: Instant,
}

/// A call of the connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Activity>);

/// A connection without a call at present.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Idle {
    pub(crate) since: Instant,
    /// Whether there was one before.
    pub(crate) used: bool,
}

impl Activity {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            calls: 0,
            used: false,
            since: Instant::now(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        let mut state = self.state();
        state.calls += 1;
        state.used = true;
        Busy(self.clone())
    }

    pub(crate) fn idle(&self) -> Option<Idle> {
        let state = self.state();
        (state.calls == 0).then_some(Idle {
            since: state.since,
            used: state.used,
        })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.calls = state.calls.saturating_sub(1);
        state.since = Instant::now();
    }
}
