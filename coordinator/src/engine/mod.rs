//! The one owner of all runs.
//!
//! The engine takes one request after another, on a thread of its own. A step of a run is computed
//! by the pure core, committed in one transaction and taken over in memory. Requests that wait
//! together become durable together, and only then is any of them answered or acted on. Others hold
//! a [`Handle`], which is cheap to clone.

mod arrivals;
pub mod audits;
pub mod check_in;
mod clock;
mod failure;
pub mod history;
mod institutions;
mod invites;
mod keys;
pub mod models;
mod presence;
pub mod prune;
pub mod receipts;
mod records;
pub mod runs;
pub mod secure;
pub mod statements;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fedner_host::machine::Machine;
use fedner_round::{Input, Later, Members, Run};
use fedner_shared::history::Tree;
use fedner_shared::id::{InstitutionId, RunId};
use fedner_shared::sign::{PublicKey, Signed};
use fedner_shared::time::Time;
use futures::FutureExt as _;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use failure::{Failure, Fault};

use crate::identity::Caller;
use crate::store::{self, Pending, Store};

type Call = Box<dyn FnOnce(&mut Engine) -> Answer + Send>;

/// Tells whoever called what came of it.
type Answer = Box<dyn FnOnce() + Send>;

/// However long a run may wait, the clock is looked at so often: it may have been set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

/// Calls of which what was written may become durable together: the disk is waited for once.
const TOGETHER: usize = 64;

/// Calls that wait for the engine. Who calls when there are as many waits until there is room.
const QUEUE: usize = 1024;

/// The state of the coordinator, owned by one task.
#[derive(Debug)]
pub struct Engine {
    machine: Arc<dyn Machine>,
    store: Store,
    /// In the order of their creation.
    runs: Vec<Run>,
    /// The members of each run as the store has them: signs of life change them in memory alone.
    written: BTreeMap<RunId, Members>,
    seen: BTreeMap<InstitutionId, Time>,
    /// What institutions announced: from when on they take something on.
    later: BTreeMap<InstitutionId, Later>,
    presence: BTreeMap<InstitutionId, presence::Presence>,
    /// Woken when there may be something to do for the institution.
    waiters: BTreeMap<InstitutionId, watch::Sender<u64>>,
    /// Cancelled when an institution loses its standing: what it has under way ends at once.
    standing: BTreeMap<InstitutionId, CancellationToken>,
    arrivals: arrivals::Arrivals,
    /// Of the events that members were shown; the store has the others.
    history: Tree,
    /// The sequence number of the newest event.
    newest: watch::Sender<u64>,
    effects: mpsc::UnboundedSender<Pending>,
    /// Effects that are to be carried out once they are durable.
    decided: Vec<Pending>,
    operator_key: PublicKey,
    records: records::Lately<records::Record>,
    plans: records::Lately<Signed>,
}

/// The way to the engine.
#[derive(Debug, Clone)]
pub struct Handle {
    machine: Arc<dyn Machine>,
    calls: mpsc::Sender<Call>,
    newest: watch::Receiver<u64>,
    arrivals: arrivals::Arrivals,
    /// So many calls of one caller may wait for the engine at the same time.
    share: Option<Arc<Semaphore>>,
}

impl Handle {
    pub fn machine(&self) -> &Arc<dyn Machine> {
        &self.machine
    }

    /// The same way, for a caller who has that share of the engine's queue.
    #[must_use]
    pub fn sharing(&self, share: Arc<Semaphore>) -> Self {
        Self {
            share: Some(share),
            ..self.clone()
        }
    }

    /// Notes when a request came, whenever its turn will be.
    pub fn arrived(&self, caller: &Caller) {
        self.arrivals.note(caller, self.machine.now());
    }

    /// Runs `work` where the engine is.
    pub async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Engine) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let _place = match &self.share {
            Some(share) => Some(share.acquire().await.map_err(|_| Fault::Stopped)?),
            None => None,
        };
        let (reply, answer) = oneshot::channel();
        let call: Call = Box::new(move |engine| {
            let answer = work(engine);
            // Whoever asked may have gone; the work stands all the same.
            Box::new(move || drop(reply.send(answer)))
        });
        self.calls.send(call).await.map_err(|_| Fault::Stopped)?;
        // A call that was let go of says that the engine has ended, or that it answers nothing at present.
        answer.await.map_err(|_| {
            if self.calls.is_closed() {
                Fault::Stopped
            } else {
                Fault::Away
            }
        })?
    }

    /// How many requests wait for the engine.
    pub fn queue(&self) -> usize {
        self.calls.max_capacity() - self.calls.capacity()
    }

    /// Changes whenever an event was added; the value is its sequence number.
    pub fn newest_event(&self) -> watch::Receiver<u64> {
        self.newest.clone()
    }
}

/// The store is no longer this process's to write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost;

/// An engine that waits to be served.
#[derive(Debug)]
pub struct Loaded {
    pub handle: Handle,
    /// Effects to carry out, those left by a crash included.
    pub effects: mpsc::UnboundedReceiver<Pending>,
    engine: Engine,
    inbox: mpsc::Receiver<Call>,
}

/// Reads the state that `store` keeps. `operator_key` is the first one by which plans were signed.
pub fn load(
    store: Store,
    operator_key: PublicKey,
    machine: Arc<dyn Machine>,
) -> Result<Loaded, store::Error> {
    let (sender, effects) = mpsc::unbounded_channel();
    let engine = Engine::load(store, sender, operator_key, machine)?;
    let (calls, inbox) = mpsc::channel(QUEUE);
    let handle = Handle {
        machine: engine.machine.clone(),
        calls,
        newest: engine.newest.subscribe(),
        arrivals: engine.arrivals.clone(),
        share: None,
    };
    Ok(Loaded {
        handle,
        effects,
        engine,
        inbox,
    })
}

impl Loaded {
    /// The handle, the effects, and the engine at work. It ends when the last handle is gone.
    pub fn serve(
        self,
    ) -> (
        Handle,
        mpsc::UnboundedReceiver<Pending>,
        impl Future<Output = ()>,
    ) {
        let Self {
            handle,
            effects,
            engine,
            inbox,
        } = self;
        (handle, effects, engine.serve(inbox).map(drop))
    }

    /// The same, on a thread of its own. The last value resolves when the thread has ended: with [`Lost`], or with an
    /// error after a panic.
    pub fn serve_on_thread(
        self,
    ) -> std::io::Result<(
        Handle,
        mpsc::UnboundedReceiver<Pending>,
        oneshot::Receiver<Lost>,
    )> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let Self {
            handle,
            effects,
            engine,
            inbox,
        } = self;
        let (alive, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || {
                if let Err(lost) = runtime.block_on(engine.serve(inbox)) {
                    let _ = alive.send(lost);
                }
            })?;
        Ok((handle, effects, ended))
    }
}

impl Engine {
    fn load(
        store: Store,
        effects: mpsc::UnboundedSender<Pending>,
        operator_key: PublicKey,
        machine: Arc<dyn Machine>,
    ) -> Result<Self, store::Error> {
        let mut store = store.with_machine(machine.clone());
        let (runs, outbox, last) =
            store.read(|tx| Ok((tx.runs()?, tx.outbox()?, tx.last_sequence()?)))?;
        let written = runs.iter().map(|run| (run.id.clone(), run.members.clone()));
        let written = written.collect();
        let operator_key = keys::plan_key(operator_key, &store.read(|tx| tx.own_successions())?);
        let (newest, _) = watch::channel(last);
        for pending in outbox {
            // The receiver was made a moment ago and is still held.
            let _ = effects.send(pending);
        }
        let mut seen = BTreeMap::new();
        let mut presence = BTreeMap::new();
        for (institution, at, software) in store.read(|tx| tx.presences())? {
            seen.insert(institution.clone(), at);
            presence.insert(institution, presence::Presence::new(at, software));
        }
        let mut engine = Self {
            machine,
            store,
            runs,
            written,
            seen,
            later: BTreeMap::new(),
            presence,
            waiters: BTreeMap::new(),
            standing: BTreeMap::new(),
            arrivals: arrivals::Arrivals::default(),
            history: Tree::default(),
            newest,
            effects,
            decided: Vec::new(),
            operator_key,
            records: records::Lately::default(),
            plans: records::Lately::default(),
        };
        for id in engine.under_way() {
            engine.step_logged(&id, Input::Restarted);
        }
        Ok(engine)
    }

    /// It ends well when the last handle is gone.
    async fn serve(mut self, mut inbox: mpsc::Receiver<Call>) -> Result<(), Lost> {
        let mut looked = clock::Look::new(self.now());
        let together = match self.store.defer() {
            Ok(true) => TOGETHER,
            Ok(false) => 1,
            Err(error) => return Err(not_durable(&error)),
        };
        self.make_durable()?;
        loop {
            let wait = self.until_deadline().min(clock::LOOK_EVERY);
            let next = tokio::time::timeout(wait, inbox.recv()).await;
            // What is in memory is worth an answer only while nobody else may have written.
            match self.store.confirm() {
                Ok(()) => {}
                Err(_) if self.store.is_lost() => return Err(Lost),
                Err(error) => {
                    // Whoever asked is told to ask again.
                    tracing::warn!(%error, "nothing is answered until the store is reached");
                    if matches!(next, Ok(None)) {
                        return Ok(());
                    }
                    continue;
                }
            }
            self.note_jump(&mut looked);
            let mut answers = Vec::new();
            match next {
                Ok(Some(call)) => {
                    answers.push(self.take(call));
                    while answers.len() < together
                        && let Ok(call) = inbox.try_recv()
                    {
                        answers.push(self.take(call));
                    }
                }
                Ok(None) => return Ok(()),
                Err(_) => {
                    self.note_arrivals();
                    self.tick();
                }
            }
            self.make_durable()?;
            for answer in answers {
                answer();
            }
            if self.store.is_lost() {
                return Err(Lost);
            }
        }
    }

    fn take(&mut self, call: Call) -> Answer {
        self.note_arrivals();
        call(self)
    }

    /// Makes durable what was written. Only then does anybody hear of it, and only then is it acted on.
    fn make_durable(&mut self) -> Result<(), Lost> {
        self.store.sync().map_err(|error| not_durable(&error))?;
        for pending in self.decided.drain(..) {
            // Nobody listens where the program is stopping; the outbox remembers.
            let _ = self.effects.send(pending);
        }
        Ok(())
    }

    fn until_deadline(&self) -> Duration {
        let deadlines = self.runs.iter().filter_map(|run| run.next_deadline());
        let next = deadlines.map(|(instant, _)| instant).min();
        next.map_or(LONGEST_SLEEP, |instant| {
            let left = instant.since(self.now());
            left.clamp(Duration::from_millis(1), LONGEST_SLEEP)
        })
    }

    fn tick(&mut self) {
        let now = self.now();
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

    /// The wall clock, read here and handed to everything pure.
    fn now(&self) -> Time {
        self.machine.now()
    }

    fn run(&self, id: &RunId) -> Option<&Run> {
        self.runs.iter().find(|run| run.id == *id)
    }
}

/// What is in memory may be more than what is on the disk.
fn not_durable(error: &store::Error) -> Lost {
    tracing::error!(%error, "what was written may not be on the disk");
    Lost
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use fedner_host::machine::ThisMachine;
    use fedner_shared::event::Event;
    use fedner_shared::sign::SecretKey;

    use super::*;

    /// An effect ends with the engine, and waits for a store that is away.
    #[tokio::test]
    async fn a_call_that_is_let_go_of_says_whether_the_engine_goes_on() {
        let (calls, mut inbox) = mpsc::channel(1);
        let handle = Handle {
            machine: Arc::new(ThisMachine),
            calls,
            newest: watch::channel(0).1,
            arrivals: arrivals::Arrivals::default(),
            share: None,
        };
        let ask = || {
            let handle = handle.clone();
            tokio::spawn(async move { handle.call(|_| Ok(())).await })
        };
        let asked = ask();
        drop(inbox.recv().await);
        let away = asked.await.expect("no panic");
        assert!(matches!(away, Err(Failure::Fault(Fault::Away))), "{away:?}");
        drop(inbox);
        let over = ask().await.expect("no panic");
        assert!(
            matches!(over, Err(Failure::Fault(Fault::Stopped))),
            "{over:?}"
        );
    }
    /// A machine that knows how many of its writes are on the disk, which takes its time.
    #[derive(Debug, Default)]
    struct Slow {
        written: AtomicUsize,
        durable: AtomicUsize,
        syncs: AtomicUsize,
        fails: AtomicBool,
    }

    impl Machine for Slow {
        fn now(&self) -> Time {
            ThisMachine.now()
        }

        fn seed(&self) -> Result<u64, getrandom::Error> {
            ThisMachine.seed()
        }

        fn before_write(&self, _what: &'static str) -> std::io::Result<()> {
            self.written.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }

        fn before_sync(&self) -> std::io::Result<()> {
            std::thread::sleep(Duration::from_millis(20));
            if self.fails.load(Ordering::SeqCst) {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.syncs.fetch_add(1, Ordering::SeqCst);
            let written = self.written.load(Ordering::SeqCst);
            self.durable.store(written, Ordering::SeqCst);
            Ok(())
        }
    }

    #[tokio::test]
    async fn calls_share_a_sync_and_none_is_answered_before_it_nor_after_one_that_failed() {
        const CALLS: usize = 100;
        let folder = tempfile::tempdir().expect("folder");
        let store = Store::open(&folder.path().join("s.sqlite")).expect("store");
        let machine = Arc::new(Slow::default());
        let key = SecretKey::generate().expect("key").public();
        let loaded = load(store, key, machine.clone()).expect("loaded");
        let (handle, _effects, ended) = loaded.serve_on_thread().expect("a thread");
        let write = || {
            let (handle, machine) = (handle.clone(), machine.clone());
            async move {
                let at = machine.clone();
                let written = handle.call(move |engine| {
                    engine.record("test", Event::RunStarted, |_| Ok(()))?;
                    Ok(at.written.load(Ordering::SeqCst))
                });
                let written = written.await?;
                assert!(written <= machine.durable.load(Ordering::SeqCst));
                Ok::<_, Failure>(())
            }
        };
        let answers = futures::future::join_all((0..CALLS).map(|_| write())).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        let syncs = machine.syncs.load(Ordering::SeqCst);
        assert!((CALLS / TOGETHER..CALLS / 4).contains(&syncs), "{syncs}");
        let read = handle.call(|engine| Ok(engine.store.read(|tx| tx.last_sequence())?));
        assert_eq!(read.await.expect("read"), CALLS as u64);
        assert_eq!(machine.syncs.load(Ordering::SeqCst), syncs, "it only read");

        machine.fails.store(true, Ordering::SeqCst);
        let answers = futures::future::join_all((0..CALLS).map(|_| write())).await;
        assert!(answers.iter().all(Result::is_err), "{answers:?}");
        assert_eq!(ended.await, Ok(Lost));
    }
}
