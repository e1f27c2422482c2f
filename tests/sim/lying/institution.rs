//! An honest institution: the product's gate, opened anew for each question as after kill -9.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use fedner_client::blobs::Blobs;
use fedner_client::config::Policy;
use fedner_client::dp_sgd::Steps;
use fedner_client::egress::{ChargeRequest, Error, Gate, StepRequest, UpdateRequest};
use fedner_client::identity::{Identity, Validity};
use fedner_client::state::{PlanRecord, Store};
use fedner_client::training::RoundUpdate;
use fedner_client::transport::TlsIdentity;
use fedner_session::{Input, Session, State, Task};
use fedner_shared::digest::Digest;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::Plan;
use fedner_shared::secure::{SecureStep, Signers, Told};
use fedner_shared::sign::Signed;
use fedner_shared::statement::Consent;
use tempfile::TempDir;

use super::{Asked, Member, site};
use crate::machine::EPOCH;
use crate::prepared::{folder, operator_key};

pub(super) const EXAMPLES: u32 = 7;

pub(crate) struct Institution {
    directory: TempDir,
    identity: Arc<Identity>,
    plan: Plan,
    policy: Policy,
    manifest: Manifest,
}

impl Institution {
    pub(crate) fn new(
        number: usize,
        plan: &Plan,
        policy: Policy,
        manifest: &Manifest,
    ) -> Result<Self> {
        let (institution, signing) = site(number);
        let identity = Identity {
            institution,
            tls: TlsIdentity {
                key_pem: String::new().into(),
                certificate_pem: String::new(),
                authority_pem: String::new(),
            },
            signing,
            operator: operator_key().public(),
            validity: Validity {
                not_before: EPOCH,
                not_after: EPOCH,
            },
        };
        let one = Self {
            directory: folder()?,
            identity: Arc::new(identity),
            plan: plan.clone(),
            policy,
            manifest: manifest.clone(),
        };
        one.consent()?;
        Ok(one)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn store(&self) -> Result<Store> {
        Ok(Store::open(&self.path().join("state.sqlite"))?)
    }

    fn consent(&self) -> Result<()> {
        let plan = self.plan.digest();
        let store = self.store()?;
        store.add_plan(&PlanRecord {
            digest: plan,
            run: super::RUN.parse()?,
            plan: self.plan.clone(),
            signed: Signed::new(&self.plan, &operator_key()),
            dimension: self.manifest.dimension() as u64,
            memory: 0,
            roster: Signers::new(),
            proposed: EPOCH,
        })?;
        let consent = Consent {
            plan,
            institution: self.identity.institution.clone(),
            examples: EXAMPLES,
            held_out: None,
            annotation: None,
            policy: self.policy.digest(),
            at: EPOCH,
            expires: EPOCH + Duration::from_hours(24),
        };
        let signed = Signed::new(&consent, &self.identity.signing);
        Ok(store.add_consent(&consent, &signed)?)
    }

    fn gate(&self) -> Result<Gate> {
        let blobs = Blobs::open(self.path().join("blobs"))?;
        Ok(Gate::new(self.store()?, blobs, self.identity.clone()))
    }

    /// What training would give: noise is added to it at the gate, or is in it already.
    fn update(&self) -> Result<RoundUpdate> {
        let dimension = self.manifest.dimension();
        let Some(mut steps) = Steps::private(&self.plan, EXAMPLES, dimension)? else {
            return Ok(RoundUpdate::without_noise(vec![0.01; dimension]));
        };
        let mechanism = steps.settings(&self.plan).mechanism;
        let released = mechanism.release(&mut vec![0.01; dimension]);
        released.map_err(|error| anyhow::anyhow!("{error}"))?;
        RoundUpdate::of_step(&mut steps).context("a step")
    }

    /// Trains and releases; the vector's digest.
    fn release(&self, task: &Task) -> Result<Digest, Error> {
        let gate = self.gate().map_err(unexpected)?;
        let state = State::Training {
            task: task.clone(),
            charge: None,
        };
        let session = Session { state, since: None };
        let charged = gate.charge(&ChargeRequest {
            task,
            plan: &self.plan,
            policy: &self.policy,
            dimension: self.manifest.dimension(),
            session: &session,
            now: EPOCH,
        })?;
        let session = charged.session.step(EPOCH, Input::Trained)?.session;
        let update = self.update().map_err(unexpected)?;
        let (release, _) = gate.release_update(&UpdateRequest {
            task,
            plan: &self.plan,
            policy: &self.policy,
            manifest: &self.manifest,
            update: &update,
            session: &session,
            now: EPOCH,
        })?;
        Ok(release.blob)
    }
}

fn unexpected(error: anyhow::Error) -> Error {
    Error::File(std::io::Error::other(error.to_string()))
}

/// What was said, or nothing where it was refused. A fault is the test's.
fn said<T>(answer: Result<T, Error>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.refusal().is_some() => Ok(None),
        Err(error) => Err(error).context("a fault of an honest institution"),
    }
}

impl Member for Institution {
    fn ask(&mut self, asked: &Asked, step: SecureStep, told: &Told) -> Result<Option<Signed>> {
        let answer = self.gate()?.take_step(&StepRequest {
            task: &asked.task,
            plan: &self.plan,
            policy: &self.policy,
            step,
            told,
            secret: asked.secret,
        });
        Ok(said(answer)?.map(|released| released.statement().clone()))
    }

    fn send(&mut self, asked: &Asked, told: &Told) -> Result<Option<Digest>> {
        let agreed = self
            .gate()?
            .agree_on_masks(&asked.task, &self.plan, &self.policy, Some(told));
        if said(agreed)?.is_none() {
            return Ok(None);
        }
        said(self.release(&asked.task))
    }

    fn forget(&mut self) -> Result<()> {
        Ok(self.store()?.forget_secure_attempts(&[])?)
    }
}
