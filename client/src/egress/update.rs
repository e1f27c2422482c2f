//! Updates: clipped, noised, encoded, paid for, signed.

use std::fs::File;
use std::io;

use fedner_privacy::ledger::Kind;
use fedner_privacy::release::{self, release};
use fedner_session::{Event, Release, Session, Task, Transition};
use fedner_shared::digest::Digest;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::Plan;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign::Signed;
use fedner_shared::statement::UpdateReceipt;
use fedner_shared::time::Time;
use fedner_shared::update::encode;
use serde_json::json;

use super::{Budget, Error, Gate, cost_of_update};
use crate::config::Policy;
use crate::state::{Asked, PaidRelease, Receipt, ReceiptKind, Word};
use crate::training::RoundUpdate;

/// An update that may leave: encoded, paid for and signed, all of it durable.
#[derive(Debug)]
pub struct Released {
    release: Release,
    receipt: Signed,
    file: File,
}

impl Released {
    pub fn blob(&self) -> Digest {
        self.release.blob
    }

    pub fn bytes(&self) -> u64 {
        self.release.bytes
    }

    pub fn receipt(&self) -> &Signed {
        &self.receipt
    }

    /// The encoded bytes, for the transport.
    pub(crate) fn open(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

/// A training's result that asks to leave.
#[derive(Debug)]
pub struct UpdateRequest<'a> {
    pub task: &'a Task,
    pub plan: &'a Plan,
    pub policy: &'a Policy,
    pub manifest: &'a Manifest,
    pub update: &'a RoundUpdate,
    /// In the state `releasing`.
    pub session: &'a Session,
    pub now: Time,
}

impl Gate {
    /// Makes an update ready to leave. Afterwards the session uploads; the transition returned is
    /// durable.
    pub fn release_update(
        &self,
        request: &UpdateRequest<'_>,
    ) -> Result<(Release, Transition), Error> {
        let UpdateRequest { task, plan, .. } = *request;
        check_schema(request)?;
        let consent = self.permitted(plan, request.policy, request.now)?;
        check_noise(request, consent.examples)?;
        let mut ledger = self.store.ledger()?;
        let budget = Budget {
            institution: &self.identity.institution,
            task,
            plan,
            policy: request.policy,
            kind: Kind::Update,
            cost: cost_of_update(plan, consent.examples, request.manifest.dimension()),
        };
        let entry = budget.debit(&ledger, request.now)?;
        ledger
            .append(entry.clone())
            .map_err(crate::state::Error::from)?;
        let longest = plan.largest_norm(request.manifest.dimension(), consent.examples);
        let values =
            release(request.update.values(), &plan.privacy, longest).map_err(refuse_not_finite)?;
        let (blob, bytes) = self.blobs.create(|writer| encode(&values.values, writer))?;
        let statement = UpdateReceipt {
            run: task.run.clone(),
            plan: task.plan,
            round: task.round,
            attempt: task.attempt,
            institution: self.identity.institution.clone(),
            base: task.version,
            manifest: task.manifest,
            weight: plan.weight(&self.identity.institution, consent.examples),
            blob,
            bytes,
            sigma: plan.privacy.sigma(),
            epsilon_after: Some(entry.epsilon_after).filter(|epsilon| epsilon.is_finite()),
            ledger_head: Some(ledger.head()),
            at: request.now,
        };
        let signed = Signed::new(&statement, &self.identity.signing);
        let release = Release {
            blob,
            bytes,
            receipt: signed.digest(),
        };
        let transition = request
            .session
            .step(request.now, Event::Released(release))?;
        let receipt = Receipt {
            digest: release.receipt,
            kind: ReceiptKind::Update,
            asked: Some(Asked::of(task)),
            blob: Some(blob),
            signed: signed.clone(),
            time: request.now,
            note: json!({
                "norm_before": values.norm_before,
                "norm_after": values.norm_after,
                "clipped": values.clipped,
                "rounding_attempts": values.rounding_attempts,
            }),
            taken: None,
        };
        let committed = self.store.commit_release(&PaidRelease {
            entry: &entry,
            receipt: &receipt,
            session: &transition.session,
        });
        if let Err(error) = committed {
            // Not paid for, so that nobody may find it.
            self.blobs.remove(&blob)?;
            return Err(error.into());
        }
        Ok((release, transition))
    }

    /// What was made ready, if nobody has to let it go first: at once, and byte for byte the same after
    /// a crash or when the same attempt is asked for again.
    pub fn resume(&self, release: &Release, policy: &Policy) -> Result<Released, Error> {
        self.check_let_go(release, policy)?;
        let missing = |what: &str| {
            let message = format!("the {what} of the released update {} is gone", release.blob);
            Error::Refused(Refusal::new(Code::StateInvalid, message))
        };
        let receipt = self
            .store
            .receipt(&release.receipt)?
            .ok_or_else(|| missing("receipt"))?;
        let found = self.blobs.file(&release.blob).and_then(Digest::of_reader);
        if !found.is_ok_and(|found| found == release.blob) {
            return Err(missing("file"));
        }
        Ok(Released {
            release: *release,
            receipt: receipt.signed,
            file: self.blobs.file(&release.blob)?,
        })
    }
}

impl Gate {
    /// Refuses what waits for a person, and what a person refused.
    fn check_let_go(&self, release: &Release, policy: &Policy) -> Result<(), Error> {
        let refuse = |code, what: &str| {
            let message = format!("the update {} {what}", release.blob);
            Err(Error::Refused(Refusal::new(code, message)))
        };
        match self.store.word(&release.receipt)? {
            Word::Refused => refuse(Code::ReleaseRefused, "was refused by a person"),
            Word::None if policy.hold => refuse(Code::ReleaseHeld, "waits for a person"),
            Word::None | Word::Granted => Ok(()),
        }
    }
}

fn check_schema(request: &UpdateRequest<'_>) -> Result<(), Refusal> {
    let wrong = |message: String| Err(Refusal::new(Code::UpdateShape, message));
    let (expected, found) = (request.manifest.dimension(), request.update.values().len());
    if expected != found {
        return wrong(format!(
            "the update has {found} weights: the manifest has {expected}"
        ));
    }
    let (expected, found) = (request.task.manifest, request.manifest.digest());
    if expected != found {
        return wrong(format!(
            "the manifest is {found}: the assignment has {expected}"
        ));
    }
    let (expected, found) = (request.task.plan, request.plan.digest());
    if expected != found {
        return wrong(format!(
            "the plan is {found}: the assignment has {expected}"
        ));
    }
    Ok(())
}

/// Steps that were sampled otherwise cost otherwise than the ledger would say.
fn check_noise(request: &UpdateRequest<'_>, units: u32) -> Result<(), Refusal> {
    let (expected, found) = (request.plan.sampling(units), request.update.sampling());
    if expected == found {
        return Ok(());
    }
    let message = format!(
        "the update was trained with the sampling {found:?}: plan and consent have {expected:?}"
    );
    Err(Refusal::new(Code::StateInvalid, message))
}

fn refuse_not_finite(error: release::Error) -> Error {
    if matches!(error, release::Error::NotFinite { .. }) {
        return Error::Refused(Refusal::new(Code::NotFinite, error.to_string()));
    }
    Error::Privacy(error)
}
