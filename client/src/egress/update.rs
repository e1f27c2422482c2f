//! Updates: clipped, noised, encoded, paid for, signed.

use std::borrow::Cow;
use std::io;
use std::ops::Range;

use fedner_privacy::ledger::{Cost, Entry, Kind};
use fedner_privacy::release::release;
use fedner_session::{Charge, Input, Release, Session, Task, Transition};
use fedner_shared::digest::Digest;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::{Plan, Unit};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign::Signed;
use fedner_shared::statement::{Consent, UpdateReceipt};
use fedner_shared::time::Time;
use fedner_shared::update::encode;
use serde_json::json;

use super::{Budget, Error, Gate};
use crate::blobs::{Blobs, Content};
use crate::config::Policy;
use crate::state::{Asked, Decision, PaidRelease, Receipt, ReceiptKind};
use crate::training::{Change, RoundUpdate};

/// An update that may leave: encoded, paid for and signed, all of it durable.
#[derive(Debug)]
pub struct Released {
    release: Release,
    receipt: Signed,
    blobs: Blobs,
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
    pub(crate) fn open(&self) -> io::Result<Content> {
        self.blobs.file(&self.release.blob)
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
    /// In the state `releasing`, with its charge.
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
        let budget = Budget {
            institution: &self.identity.institution,
            task,
            plan,
            policy: request.policy,
            kind: Kind::Update,
            cost: Cost::of_update(plan, consent.examples, request.manifest.dimension()),
        };
        let charge = request.session.charge();
        let entry = self.paid(charge, &budget.wish())?;
        let (values, note) = integers(request, &consent)?;
        let masks = self.masks(task, plan)?;
        let weight = plan.weight(&self.identity.institution, consent.examples);
        let (blob, bytes) = match &masks {
            None => self.blobs.create(|writer| encode(&values, writer))?,
            Some(masks) => {
                let scale = (weight, plan.privacy.value_bound());
                let masker = &masks.masker;
                self.blobs.create(|mut writer| {
                    masker
                        .write(&values, scale, &mut writer)
                        .map_err(Error::from)
                })?
            }
        };
        let attempt = match &masks {
            None => None,
            Some(masks) => {
                let mut attempt = masks.attempt.clone();
                attempt.said = attempt.said.mask(blob)?;
                Some(attempt)
            }
        };
        let statement = UpdateReceipt {
            run: task.run.clone(),
            plan: task.plan,
            round: task.round,
            attempt: task.attempt,
            institution: self.identity.institution.clone(),
            base: task.version,
            manifest: task.manifest,
            weight,
            blob,
            bytes,
            masked: masks.as_ref().map(|masks| masks.masked),
            sigma: plan.privacy.sigma(),
            epsilon_after: Some(entry.epsilon_after).filter(|epsilon| epsilon.is_finite()),
            epsilon_alone: self.alone(plan, &entry)?,
            ledger_head: Some(entry.digest()),
            at: request.now,
        };
        let signed = Signed::new(&statement, &self.identity.signing);
        let release = Release {
            blob,
            bytes,
            receipt: signed.digest(),
        };
        let not_before = due(
            plan,
            request.policy,
            (consent.examples, charge),
            request.now,
        );
        let released = Input::Released {
            release,
            not_before,
        };
        let transition = request.session.step(request.now, released)?;
        let receipt = Receipt {
            digest: release.receipt,
            kind: ReceiptKind::Update,
            asked: Some(Asked::from_task(task)),
            blob: Some(blob),
            signed: signed.clone(),
            time: request.now,
            note,
            taken: None,
        };
        let committed = self.store.commit_release(&PaidRelease {
            entry: entry.digest(),
            receipt: &receipt,
            session: &transition.session,
            secure: attempt.as_ref(),
        });
        if let Err(error) = committed {
            // Without a receipt, so that nobody may find it.
            self.blobs.remove(&blob)?;
            return Err(error.into());
        }
        Ok((release, transition))
    }

    /// ε of the plan by the noise of this institution alone, where noise is shared.
    fn alone(&self, plan: &Plan, entry: &Entry) -> Result<Option<f64>, Error> {
        if !plan.privacy.shares_noise() {
            return Ok(None);
        }
        let debit = &entry.debit;
        let ledger = self.store.ledger()?;
        let alone = ledger.spent_alone(&debit.account, Some(debit.plan), debit.delta);
        Ok(Some(alone).filter(|epsilon| epsilon.is_finite()))
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
            blobs: self.blobs.clone(),
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
        match self.store.decision(&release.receipt)? {
            Decision::Refused => refuse(Code::ReleaseRefused, "was refused by a person"),
            Decision::None if policy.hold => refuse(Code::ReleaseHeld, "waits for a person"),
            Decision::None | Decision::Granted => Ok(()),
        }
    }
}

/// The integers that leave, with what the receipt notes of them here.
fn integers(
    request: &UpdateRequest<'_>,
    consent: &Consent,
) -> Result<(Vec<i32>, serde_json::Value), Error> {
    let UpdateRequest { plan, manifest, .. } = *request;
    let change = match (request.update.change(), plan.privacy.is_synchronous()) {
        (Change::Weights(change), false) => change,
        // Noise was added when the step was made.
        (Change::Step(values), true) => {
            let mut values = values.clone();
            for frozen in plan.frozen_weights(manifest.dimension()) {
                values[frozen].fill(0);
            }
            return Ok((values, json!({})));
        }
        (Change::Weights(_), true) | (Change::Step(_), false) => {
            let message = "the update is not of the kind that the plan asks for";
            return Err(Refusal::new(Code::StateInvalid, message).into());
        }
    };
    let longest = plan.largest_norm(manifest.dimension(), consent.examples);
    let mut change = finite_or_nothing(request, change)?;
    let left_out = plan.left_out_of_update(consent.annotation.as_ref(), manifest);
    for rows in left_out.iter().cloned() {
        change.to_mut()[rows].fill(0.0);
    }
    let mut released = release(&change, &plan.privacy, longest).map_err(Error::Privacy)?;
    for quiet in without_noise(plan, manifest, left_out) {
        released.values[quiet].fill(0);
    }
    let note = json!({
        "norm_before": released.norm_before,
        "norm_after": released.norm_after,
        "clipped": released.clipped,
        "rounding_attempts": released.rounding_attempts,
    });
    Ok((released.values, note))
}

/// Which weights leave as zero. What the plan freezes stays as it is, and so do rows of types that nothing here
/// annotates: taking their noise off is post-processing. Where noise is shared, others count on that of such rows.
fn without_noise(
    plan: &Plan,
    manifest: &Manifest,
    left_out: Vec<Range<usize>>,
) -> impl Iterator<Item = Range<usize>> {
    let own_rows = left_out.into_iter();
    let own_rows = own_rows.filter(|_| !plan.privacy.shares_noise());
    let frozen = plan.frozen_weights(manifest.dimension());
    frozen.into_iter().chain(own_rows)
}

fn check_schema(request: &UpdateRequest<'_>) -> Result<(), Refusal> {
    let wrong = |message: String| Err(Refusal::new(Code::UpdateShape, message));
    let (expected, found) = (request.manifest.dimension(), request.update.dimension());
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

/// Under a guarantee, an update that is not finite counts as nothing: noise alone leaves, and nobody
/// learns that it was so. Without one it is refused.
fn finite_or_nothing<'a>(
    request: &UpdateRequest<'_>,
    values: &'a [f32],
) -> Result<Cow<'a, [f32]>, Refusal> {
    let Some(place) = values.iter().position(|value| !value.is_finite()) else {
        return Ok(Cow::Borrowed(values));
    };
    if request.plan.privacy.unit == Unit::None {
        let message = format!("the update's value {place} is not finite");
        return Err(Refusal::new(Code::NotFinite, message));
    }
    tracing::warn!(
        "{}: the update is not finite; it counts as nothing",
        request.task
    );
    Ok(Cow::Owned(vec![0.0; values.len()]))
}

/// When what is ready at the instant `now` may leave: the first multiple of the plan's step of time
/// after the attempt was charged. At once where nothing is protected or the policy gives it up.
pub fn due(
    plan: &Plan,
    policy: &Policy,
    (units, charge): (u32, Option<&Charge>),
    now: Time,
) -> Option<Time> {
    let (step, charge) = (plan.release_step(units)?, charge?);
    let step = policy.release_padding.then_some(step)?;
    let passed = now.since(charge.at).as_millis() / step.as_millis().max(1);
    let steps = u32::try_from(passed + 1).unwrap_or(u32::MAX);
    Some(charge.at + step * steps)
}

#[cfg(test)]
mod tests {
    use super::super::tests::manifest;
    use super::*;
    use crate::config::policy::tests::plan;

    #[test]
    fn rows_that_are_left_out_keep_the_noise_that_others_count_on() {
        let (mut plan, rows) = (
            plan("institution"),
            std::iter::once(0..1).collect::<Vec<_>>(),
        );
        let quiet = |plan: &Plan| without_noise(plan, &manifest(), rows.clone()).count();
        assert_eq!(quiet(&plan), 1);
        plan.privacy.noise_shares = 2;
        assert_eq!(quiet(&plan), 0);
    }
}
