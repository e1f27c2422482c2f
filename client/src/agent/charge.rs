//! Paying for an attempt before private text is read, and the one answer for all that fails after.

use std::sync::Arc;

use fedner_host::machine::blocking;
use fedner_proto::v1::progress_request::Stage;
use fedner_session::{Input, Kind, Session, Task, Transition};
use fedner_shared::plan::{Plan, Unit};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::time::Time;
use fedner_shared::version::Version;

use super::{Agent, Error};
use crate::blobs::Blobs;
use crate::config::Policy;
use crate::egress::{self, ChargeRequest, Gate};
use crate::training::{self, LastModel, LoadedModel};

impl Agent {
    /// Looks at everything that can fail without private text, then makes the debit durable. From
    /// then on the coordinator learns nothing but that it was done, or not.
    pub(super) async fn charge(&mut self, task: &Task) -> Result<Option<Input>, Error> {
        let (plan, version) = self.background(task)?;
        let settings = self.settings().await?;
        let files = match task.kind {
            Kind::Train => &settings.data,
            Kind::Evaluate => &settings.held_out,
        };
        if let Err(refusal) = training::check_inputs(&self.resolved(files), &settings.device) {
            return Ok(Some(Input::Declined(refusal)));
        }
        let job = ChargeJob {
            gate: self.gate.clone(),
            blobs: self.blobs.clone(),
            policy: self.policy().await?,
            session: self.session.clone(),
            now: self.environment.machine.now(),
            task: task.clone(),
            last_model: self.last_model.take(),
            plan: plan.clone(),
            version: version.clone(),
        };
        let worker = blocking(move || job.run());
        let stage = self.stage_of(task, Stage::Downloading);
        match self.with_signs_of_life(task, stage, worker).await? {
            Ok((material, transition)) => {
                let material = Arc::new(material);
                self.last_model = plan.privacy.is_synchronous().then(|| LastModel {
                    plan: task.plan,
                    version,
                    model: Arc::clone(&material),
                });
                self.material = Some(material);
                self.session = transition.session;
                self.effects.extend(transition.effects);
                let begun = self.session.charge().map_or(1, |charge| charge.begun);
                if begun > 1 {
                    tracing::warn!(
                        "{task} died {} times before its end: was it killed, or out of memory?",
                        begun - 1
                    );
                }
                Ok(None)
            }
            Err(Failure::Model(error)) => match error.refusal() {
                Some(refusal) => Ok(Some(self.declined(task, refusal).await?)),
                None => Err(error.into()),
            },
            Err(Failure::Gate(egress::Error::Refused(refusal))) => {
                Ok(Some(self.declined(task, refusal).await?))
            }
            Err(Failure::Gate(error)) => Err(error.into()),
        }
    }

    /// What is declined before private text was read keeps its code and its time. Once it was read,
    /// it is one code at a time of release.
    async fn declined(&self, task: &Task, refusal: Refusal) -> Result<Input, Error> {
        if self.session.charge().is_none() {
            return Ok(Input::Declined(refusal));
        }
        let stage = self.stage_of(task, Stage::Training);
        let work = self.not_done(task, refusal.code, refusal.code.as_str());
        match self.with_heartbeat(task, stage, work).await {
            Ok(input) => input,
            Err(interruption) => Ok(interruption.input(task)),
        }
    }

    /// Waits for the next time of release. Every failure after private text was read ends here, and is
    /// told as one code; `cause` is for the log here.
    pub(super) async fn not_done(
        &self,
        task: &Task,
        code: Code,
        cause: &str,
    ) -> Result<Input, Error> {
        tracing::warn!("{task} is not done, and stays paid for: {cause}");
        let (plan, _) = self.background(task)?;
        let policy = self.policy_when_whole().await?;
        let now = self.environment.machine.now();
        if let Some(consent) = self.store.consent_in_force(&task.plan, now)? {
            let charge = (consent.examples, self.session.charge());
            let due = egress::due(&plan, &policy, charge, now);
            self.until(due, &plan, consent.examples).await;
        }
        let message = format!("{task} came to nothing; the log here says why");
        let one_code = self.environment.defences.one_code && plan.privacy.unit != Unit::None;
        let told = if one_code { Code::NotDone } else { code };
        Ok(Input::Declined(Refusal::new(told, message)))
    }

    /// Waits until `due`, by this machine's clock. A clock that was set does not make it longer than
    /// one step of time.
    pub(super) async fn until(&self, due: Option<Time>, plan: &Plan, units: u32) {
        let (Some(due), Some(step)) = (due, plan.release_step(units)) else {
            return;
        };
        if !self.environment.defences.release_times {
            return;
        }
        let wait = due.since(self.environment.machine.now()).min(step);
        tokio::time::sleep(wait).await;
    }

    /// The stage that the coordinator is told: from the charge on it does not change until something
    /// leaves.
    pub(super) fn stage_of(&self, task: &Task, before: Stage) -> Stage {
        match self.session.charge() {
            None => before,
            Some(_) => stage_of_work(task.kind),
        }
    }
}

/// The stage of the work itself.
pub(super) const fn stage_of_work(kind: Kind) -> Stage {
    match kind {
        Kind::Train => Stage::Training,
        Kind::Evaluate => Stage::Evaluating,
    }
}

struct ChargeJob {
    gate: Gate,
    blobs: Blobs,
    policy: Policy,
    session: Session,
    now: Time,
    task: Task,
    plan: Plan,
    version: Version,
    last_model: Option<LastModel>,
}

/// Why an attempt is not begun.
enum Failure {
    Model(training::Error),
    Gate(egress::Error),
}

impl ChargeJob {
    fn run(mut self) -> Result<(LoadedModel, Transition), Failure> {
        let last_model = self.last_model.take();
        let material = self.load(last_model).map_err(Failure::Model)?;
        let Self { task, plan, .. } = &self;
        let request = ChargeRequest {
            task,
            plan,
            policy: &self.policy,
            dimension: material.manifest.dimension(),
            session: &self.session,
            now: self.now,
        };
        let transition = self.gate.charge(&request).map_err(Failure::Gate)?;
        Ok((material, transition))
    }

    fn load(&self, last_model: Option<LastModel>) -> Result<LoadedModel, training::Error> {
        let Self {
            blobs,
            version,
            plan,
            task,
            ..
        } = self;
        if let Some(last) = last_model
            && let Some(model) = last.next(blobs, version, (task.plan, task.manifest))?
        {
            return Ok(model);
        }
        let model = LoadedModel::of_version(blobs, version, plan, task.manifest)?;
        match task.kind {
            Kind::Train => model.with_parent(blobs, version, plan),
            Kind::Evaluate => Ok(model),
        }
    }
}
