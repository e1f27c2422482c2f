//! The one owner of all runs.
//!
//! The engine is a thread that takes one request after another. A step of a run is computed by
//! the pure core, made durable in one transaction, taken over in memory, and only then acted on.
//! Others hold a [`Handle`], which is cheap to clone.

pub mod dispatch;
mod failure;
mod institutions;
pub mod models;
pub mod runs;

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fedner_round::{Input, Run};
use fedner_shared::id::{InstitutionId, RunId};
use fedner_shared::sign::PublicKey;
use fedner_shared::time::Time;
use tokio::sync::{mpsc, oneshot, watch};

pub use failure::{Failure, Fault};

use crate::store::{self, Pending, Store};

type Call = Box<dyn FnOnce(&mut Engine) + Send>;

/// The state of the coordinator, owned by its thread.
#[derive(Debug)]
pub struct Engine {
    store: Store,
    /// In the order of their creation.
    runs: Vec<Run>,
    seen: BTreeMap<InstitutionId, Time>,
    /// Woken when there may be something to do for the institution.
    waiters: BTreeMap<InstitutionId, watch::Sender<u64>>,
    /// The sequence number of the newest event.
    newest: watch::Sender<u64>,
    effects: mpsc::UnboundedSender<Pending>,
    operator_key: PublicKey,
}

/// The way to the engine.
#[derive(Debug, Clone)]
pub struct Handle {
    calls: Sender<Call>,
    newest: watch::Receiver<u64>,
}

impl Handle {
    /// Runs `work` on the engine's thread.
    pub async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Engine) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let call: Call = Box::new(move |engine| {
            // Whoever asked may have gone; the work stands all the same.
            let _ = reply.send(work(engine));
        });
        self.calls.send(call).map_err(|_| Fault::Stopped)?;
        answer.await.map_err(|_| Failure::from(Fault::Stopped))?
    }

    /// Changes whenever an event was added; the value is its sequence number.
    pub fn newest_event(&self) -> watch::Receiver<u64> {
        self.newest.clone()
    }
}

/// Starts the engine over `store`. Effects to carry out, those left by a crash included, come out
/// of the receiver. The thread ends when the last handle is gone.
pub fn start(
    store: Store,
    operator_key: PublicKey,
) -> Result<
    (
        Handle,
        mpsc::UnboundedReceiver<Pending>,
        std::thread::JoinHandle<()>,
    ),
    store::Error,
> {
    let (effects, receiver) = mpsc::unbounded_channel();
    let mut engine = Engine::load(store, effects, operator_key)?;
    let (calls, inbox) = channel();
    let handle = Handle {
        calls,
        newest: engine.newest.subscribe(),
    };
    let thread = std::thread::spawn(move || engine.serve(&inbox));
    Ok((handle, receiver, thread))
}

impl Engine {
    fn load(
        mut store: Store,
        effects: mpsc::UnboundedSender<Pending>,
        operator_key: PublicKey,
    ) -> Result<Self, store::Error> {
        let (runs, outbox, last) =
            store.read(|tx| Ok((tx.runs()?, tx.outbox()?, tx.last_sequence()?)))?;
        let (newest, _) = watch::channel(last);
        for pending in outbox {
            // The receiver was made a moment ago and is still held.
            let _ = effects.send(pending);
        }
        let mut engine = Self {
            store,
            runs,
            seen: BTreeMap::new(),
            waiters: BTreeMap::new(),
            newest,
            effects,
            operator_key,
        };
        for id in engine.under_way() {
            engine.step_logged(&id, Input::Restarted);
        }
        Ok(engine)
    }

    fn serve(&mut self, inbox: &Receiver<Call>) {
        loop {
            match inbox.recv_timeout(self.until_deadline()) {
                Ok(call) => call(self),
                Err(RecvTimeoutError::Timeout) => self.tick(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn until_deadline(&self) -> Duration {
        let deadlines = self.runs.iter().filter_map(|run| run.next_deadline());
        let next = deadlines.map(|(instant, _)| instant).min();
        next.map_or(Duration::from_mins(1), |instant| {
            instant.since(now()).max(Duration::from_millis(1))
        })
    }

    fn tick(&mut self) {
        let now = now();
        for id in self.under_way() {
            let due = self
                .run(&id)
                .and_then(Run::next_deadline)
                .is_some_and(|(instant, _)| instant <= now);
            if due {
                self.step_logged(&id, Input::Tick);
            }
        }
    }

    /// For inputs of our own making, which nobody waits for.
    fn step_logged(&mut self, id: &RunId, input: Input) {
        if let Err(failure) = self.step(id, input) {
            tracing::error!(run = %id, %failure, "a run could not move on");
        }
    }

    fn under_way(&self) -> Vec<RunId> {
        let runs = self.runs.iter().filter(|run| !run.phase.is_end());
        runs.map(|run| run.id.clone()).collect()
    }

    fn run(&self, id: &RunId) -> Option<&Run> {
        self.runs.iter().find(|run| run.id == *id)
    }
}

/// The wall clock, read here and handed to everything pure.
pub fn now() -> Time {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Time::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
