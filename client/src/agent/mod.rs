//! The daemon: one owner of the session, which checks in, moves it on and carries out its effects.
//!
//! The session is made durable before its effects are carried out, and every effect may be carried
//! out again: whatever fails is logged once, waited for, and begun again from the session's state.
//! Nothing but the user's signal ends the daemon.

mod accept;
mod base;
mod charge;
mod check_in;
mod environment;
mod heartbeat;
mod history;
mod hold;
mod jobs;
mod keys;
mod rules;
mod secure;
mod send;
mod tidy;
mod work;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fedner_host::disk;
use fedner_session::{Backoff, Effect, Input, Kind, Session};
use fedner_shared::digest::Digest;
use fedner_shared::refusal::Code;
use fedner_shared::seal::StorageKey;
use fedner_shared::secure::SecureStep;
use fedner_shared::time::Time;
use heartbeat::Beat;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use crate::blobs::Blobs;
use crate::config::{self, Directory, Lock};
use crate::egress::{self, Gate};
use crate::identity::{self, Identity};
use crate::state::{self, Contact, Store};
use crate::training::{LastModel, LoadedModel};
use crate::transport::{self, Coordinator, Destination};
use crate::{consent, training};

pub use environment::{Defences, Environment, Network, Outcome, Trainer};
pub use jobs::{EvaluateJob, TrainJob, TrainedUpdate};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Identity(#[from] identity::Error),
    #[error(transparent)]
    State(#[from] state::Error),
    #[error(transparent)]
    Transport(#[from] transport::Error),
    #[error(transparent)]
    Consent(#[from] consent::Error),
    #[error(transparent)]
    Egress(#[from] egress::Error),
    #[error(transparent)]
    Training(#[from] training::Error),
    #[error("the folder of blobs cannot be used: {0}")]
    Blobs(#[from] std::io::Error),
    #[error("a worker thread failed: {0}")]
    Worker(#[from] tokio::task::JoinError),
    #[error("the operating system gave no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

impl From<crate::rules::Error> for Error {
    fn from(error: crate::rules::Error) -> Self {
        match error {
            crate::rules::Error::Config(error) => Self::Config(error),
            crate::rules::Error::State(error) => Self::State(error),
        }
    }
}

impl Error {
    pub fn refusal(&self) -> Option<fedner_shared::refusal::Refusal> {
        match self {
            Self::Config(error) => Some(error.refusal()),
            Self::Identity(error) => error.refusal(),
            Self::State(error) => error.refusal(),
            Self::Transport(error) => error.refusal(),
            Self::Consent(error) => error.refusal(),
            Self::Egress(error) => error.refusal(),
            Self::Training(error) => error.refusal(),
            Self::Blobs(_) | Self::Worker(_) | Self::Random(_) => None,
        }
    }
}

/// How long to wait where only a person can mend what is wrong.
const RETRY_BARRED: Duration = Duration::from_secs(30);
/// How often the time of the last contact is written.
const CONTACT_EVERY: Duration = Duration::from_secs(5);

/// The daemon of one institution.
#[derive(Debug)]
pub struct Agent {
    environment: Environment,
    directory: Directory,
    _lock: Lock,
    store: Store,
    blobs: Blobs,
    /// With which what is made of private text is sealed on disk.
    storage_key: StorageKey,
    identity: Arc<Identity>,
    coordinator: Coordinator,
    /// The connection before, which is held until the present one was answered: in a moment without any, another copy
    /// of the directory would be let in.
    replaced: Option<Coordinator>,
    /// Where it is, beginning with the address to dial first.
    to: Destination,
    /// Which running program this is.
    program: transport::Session,
    gate: Gate,
    session: Session,
    effects: VecDeque<Effect>,
    /// The model that the attempt under way begins with.
    material: Option<Arc<LoadedModel>>,
    /// The model of the last step that all institutions took together, while its plan is under way.
    last_model: Option<LastModel>,
    /// A training's result on its way from the trainer to the gate.
    trained: Option<TrainedUpdate>,
    beat: Beat,
    backoff: Backoff,
    contact: Contact,
    /// Plans of which was said that they get no consent by themselves.
    logged_plans: BTreeSet<Digest>,
    /// Plans that cannot be considered here, oldest first: they were declined, and are not shown again.
    turned_down: VecDeque<Digest>,
    /// The failure that was logged last; the same one again is not worth a line.
    reported: Option<String>,
    /// The same of the certificate's renewal.
    renewal: Option<String>,
    /// How far the upload under way had come when it was last asked.
    uploaded: u64,
    /// The task that was declined last.
    declined: Option<(String, u32, u32, Kind)>,
    /// The step of secure aggregation that came too late last.
    late_step: Option<(String, u32, u32, SecureStep)>,
    /// Whether the ledger was compared with the coordinator's receipts since the start.
    started: bool,
    /// The entries that the coordinator named last, all of which are in the ledger.
    compared: Vec<Digest>,
    read: rules::Read,
    /// The last check-in was a short one.
    asked: bool,
    /// The plans under way that the coordinator named last.
    under_way: Vec<Digest>,
}

impl Agent {
    /// Opens the directory; a second daemon is refused.
    pub fn open(directory: Directory, environment: Environment) -> Result<Self, Error> {
        let settings = directory.settings()?;
        directory.policy()?;
        let lock = directory.lock()?;
        for path in directory.close_to_others()? {
            let path = path.display();
            tracing::warn!("others on this machine could read {path}; it was closed to them");
        }
        if let Some(warning) = disk::warning(directory.root()) {
            tracing::warn!("{warning}");
        }
        let identity = Identity::load(&directory.identity(), settings.institution.clone())?;
        let identity = Arc::new(identity);
        let store = Store::open(&directory.database())?
            .with_machine(environment.machine.clone())
            .with_heads(directory.heads(&settings));
        store.check_not_moved()?;
        // A broken ledger is found now, not after hours of training.
        store.ledger()?;
        store.keep_heads()?;
        let storage_key = identity::storage_key(&directory, &settings)?;
        let blobs = Blobs::open(directory.blobs())?
            .sealed(storage_key.clone())
            .with_machine(environment.machine.clone());
        let to = Destination::from(&settings);
        let channel = environment.network.dial(&to, &identity.tls)?;
        let program = transport::Session::from_seed(environment.machine.seed()?);
        Ok(Self {
            gate: Gate::new(store.clone(), blobs.clone(), Arc::clone(&identity)),
            session: begin(&store, &directory, environment.machine.now())?,
            contact: store.contact()?,
            directory,
            _lock: lock,
            store,
            blobs,
            storage_key,
            identity,
            coordinator: Coordinator::from_channel(&to.addresses, channel)
                .with_session(program.clone()),
            replaced: None,
            to,
            program,
            effects: VecDeque::new(),
            material: None,
            last_model: None,
            trained: None,
            beat: Beat::default(),
            backoff: Backoff::new(environment.machine.seed()?),
            logged_plans: BTreeSet::new(),
            turned_down: VecDeque::new(),
            reported: None,
            renewal: None,
            uploaded: 0,
            declined: None,
            late_step: None,
            environment,
            started: false,
            compared: Vec::new(),
            read: rules::Read::default(),
            asked: false,
            under_way: Vec::new(),
        })
    }

    /// Works until `stop`. What was begun is begun again at the next start.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        let institution = &self.identity.institution;
        tracing::info!(
            "{institution} starts; the session is {}",
            self.session.state.name()
        );
        loop {
            let outcome = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                outcome = self.turn() => outcome,
            };
            let Err(error) = outcome else {
                self.backoff.succeeded();
                self.reported = None;
                continue;
            };
            let wait = self.wait_after(&error);
            self.report(&error, wait);
            self.turn_elsewhere(&error);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        tracing::info!("stopped; the session is {}", self.session.state.name());
        Ok(())
    }

    /// One check-in, or one assignment from where it stands to its end.
    async fn turn(&mut self) -> Result<(), Error> {
        self.renew_if_due().await;
        if self.session.is_idle() {
            if let Err(error) = self.replace_key_if_asked().await {
                // Work goes on with the present key.
                tracing::warn!("the new signing key is not in use yet: {error}");
            }
            self.check_in().await?;
        } else {
            // A check-in compares too.
            if !self.started {
                self.compare_at_start().await?;
            }
            self.effects.clear();
            self.apply(Input::Restarted)?;
        }
        while let Some(effect) = self.effects.pop_front() {
            let round = self.session.task().map_or_else(Span::none, |task| {
                fedner_host::log::round(&task.run, task.round)
            });
            if let Some(input) = self.carry_out(effect).instrument(round).await? {
                self.apply(input)?;
            }
        }
        Ok(())
    }

    /// Moves the session on: computed, made durable, then swapped in memory.
    fn apply(&mut self, input: Input) -> Result<(), Error> {
        let not_done = matches!(&input, Input::Declined(refusal) if refusal.code == Code::NotDone);
        let failed = self.session.charge().filter(|_| not_done);
        let failed = failed.and(self.session.task()).map(|task| task.plan);
        let now = self.environment.machine.now();
        let transition = self.session.step(now, input).map_err(state::Error::from)?;
        match failed {
            Some(plan) => self.store.save_not_done(&transition.session, &plan)?,
            None => self.store.save_session(&transition.session)?,
        }
        tracing::debug!("the session is {}", transition.session.state.name());
        self.session = transition.session;
        self.effects.extend(transition.effects);
        Ok(())
    }

    async fn carry_out(&mut self, effect: Effect) -> Result<Option<Input>, Error> {
        match effect {
            Effect::Fetch(task) => self.fetch(&task).await.map(Some),
            Effect::Charge(task) => self.charge(&task).await,
            Effect::Train(task) => self.train(&task).await.map(Some),
            Effect::Release(task) => self.release(&task).await,
            Effect::Upload(task, release) => self.upload(&task, &release).await.map(Some),
            Effect::Evaluate(task) => self.evaluate(&task).await,
            Effect::Submit(task, receipt) => self.submit(&task, &receipt).await.map(Some),
            Effect::Decline(task, refusal) => {
                self.decline(task, &refusal).await;
                Ok(None)
            }
            Effect::Forget(release) => {
                self.blobs.remove(&release.blob)?;
                Ok(None)
            }
        }
    }

    fn wait_after(&mut self, error: &Error) -> Duration {
        let wait = self.backoff.failed();
        match error.refusal().map(|refusal| refusal.code) {
            Some(
                Code::InstitutionRevoked
                | Code::InstitutionSuspended
                | Code::InstitutionUnknown
                | Code::CertificateUntrusted
                | Code::CertificateMissing
                | Code::CertificateExpired
                | Code::RoleForbidden
                | Code::StateInvalid
                | Code::LedgerInvalid
                | Code::LedgerBehind
                | Code::ClientTooOld,
            ) => RETRY_BARRED,
            _ => wait,
        }
    }

    /// Dials another address where the one that answered has a fault, or answers no more. Of addresses that cannot
    /// be reached at all, each was tried already.
    fn turn_elsewhere(&mut self, error: &Error) {
        let fault = matches!(error, Error::Transport(error) if error.is_of_one_address());
        if !fault || self.to.addresses.is_one() {
            return;
        }
        self.to.addresses.turned();
        if let Err(error) = self.dial() {
            tracing::warn!("{error}; the connection stays");
        }
    }

    fn report(&mut self, error: &Error, wait: Duration) {
        let seconds = wait.as_secs_f64();
        let message = error.to_string();
        if self.reported.as_ref() == Some(&message) {
            tracing::debug!("{message}; trying again in {seconds:.1} s");
            return;
        }
        if let Some(refusal) = error.refusal() {
            let code = refusal.code;
            let hint = code.hint();
            tracing::warn!("{refusal} [{code}]; hint: {hint}; trying again in {seconds:.1} s");
        } else {
            tracing::error!("{error}; trying again in {seconds:.1} s");
        }
        self.reported = Some(message.clone());
        let failure = Some(message);
        if matches!(error, Error::Transport(_)) && self.contact.failure != failure {
            self.contact.failure = failure;
            self.save_contact();
        }
    }

    /// The coordinator answered.
    fn heard(&mut self) {
        self.replaced = None;
        let now = self.environment.machine.now();
        let stale = |at: Time| now.since(at) >= CONTACT_EVERY;
        if self.contact.failure.is_some() || self.contact.succeeded.is_none_or(stale) {
            self.contact = Contact {
                succeeded: Some(now),
                failure: None,
            };
            self.save_contact();
        }
    }

    fn save_contact(&self) {
        if let Err(error) = self.store.save_contact(&self.contact) {
            tracing::warn!("{error}");
        }
    }
}

/// The session as it was left. In a copy of the directory an attempt that was paid for is paid for again: the other
/// copy may have used what this one finds.
fn begin(store: &Store, directory: &Directory, now: Time) -> Result<Session, state::Error> {
    let session = store.session()?;
    let (before, Some(place)) = (store.place()?, directory.place()) else {
        return Ok(session);
    };
    if before.as_ref() == Some(&place) {
        return Ok(session);
    }
    let copied = before.is_some() && session.charge().is_some();
    let session = if copied {
        let transition = session.step(now, Input::Copied)?;
        store.save_session(&transition.session)?;
        tracing::warn!(
            "this directory was copied or restored in the midst of an attempt, which is paid for again"
        );
        transition.session
    } else {
        session
    };
    if before.is_some() {
        // The other copy may answer with these secrets.
        store.forget_secure_attempts(&[])?;
    }
    store.save_place(&place)?;
    Ok(session)
}
