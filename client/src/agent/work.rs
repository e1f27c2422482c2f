//! Fetching, training, the gate, and evaluating.

use std::path::PathBuf;

use fedner_model::{Keep, TrainOptions};
use fedner_proto::v1::progress_request::Stage;
use fedner_session::{Event, Session, Task, Transition};
use fedner_shared::digest::Digest;
use fedner_shared::plan::Plan;
use fedner_shared::refusal::Code;
use fedner_shared::time::Time;

use super::jobs::{EvaluateJob, TrainJob, TrainedUpdate};
use super::{Agent, Error};
use crate::config::Policy;
use crate::egress::{self, Gate, UpdateRequest};
use crate::machine::blocking;
use crate::training::{self, Stop};
use crate::transport;

/// Stops the worker when the one who waits for it goes away.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.now();
    }
}

impl Agent {
    /// Makes sure that the version's files are here, and that no others are.
    pub(super) async fn fetch(&mut self, task: &Task) -> Result<Event, Error> {
        let (_, version) = self.background(task)?;
        let files: Vec<Digest> = version.objects().collect();
        let work = self.download_all(&files);
        match self.with_heartbeat(task, Stage::Downloading, work).await {
            Err(interruption) => return Ok(interruption.event(task)),
            Ok(Err(transport::Error::Refused(refusal))) if refusal.code == Code::BlobUnknown => {
                tracing::warn!("{task}: {refusal} [{}]", refusal.code);
                return Ok(Event::Dropped);
            }
            Ok(outcome) => outcome?,
        }
        self.blobs.retain(&files.into_iter().collect())?;
        Ok(Event::Fetched)
    }

    async fn download_all(&self, files: &[Digest]) -> Result<(), transport::Error> {
        for digest in files {
            self.coordinator.download(digest, &self.blobs).await?;
        }
        Ok(())
    }

    /// Trains, after asking whether the result could be paid for.
    pub(super) async fn train(&mut self, task: &Task) -> Result<Event, Error> {
        let (plan, version) = self.background(task)?;
        let settings = self.directory.settings()?;
        let policy = self.directory.policy()?;
        let institution = self.identity.institution.clone();
        let units = match self
            .store
            .consent_in_force(&task.plan, self.outside.machine.now())?
        {
            Some(consent) => consent.examples,
            None => return Ok(Event::Declined(egress::consent_missing(&plan))),
        };
        let rounds = f64::from(plan.rounds);
        let round = f64::from(task.round);
        let job = TrainJob {
            options: TrainOptions {
                method: plan.method,
                training: training::settings_here(&plan, &settings.device),
                seed: training::seed(&plan, &institution, task.round, task.attempt),
                schedule: (round - 1.0) / rounds..round / rounds,
            },
            keep: Keep {
                checkpoint: Some(self.directory.training_checkpoint()),
                features: Some(self.directory.features()),
                ..Keep::default()
            },
            data: self.resolved(&settings.data),
            reading: settings.reading,
            blobs: self.blobs.clone(),
            store: self.store.clone(),
            machine: self.outside.machine.clone(),
            institution,
            task: task.clone(),
            plan,
            units,
            policy,
            version,
        };
        let stop = Stop::default();
        let guard = StopOnDrop(stop.clone());
        let worker = self.outside.trainer.train(job, stop);
        let outcome = self.with_heartbeat(task, Stage::Training, worker).await;
        drop(guard);
        match outcome {
            Err(interruption) => Ok(interruption.event(task)),
            Ok(Ok(trained)) => {
                self.trained = Some(trained);
                Ok(Event::Trained)
            }
            Ok(Err(error)) => declined_or(error),
        }
    }

    /// Passes the trained weights through the gate. The session it returns is durable already.
    pub(super) async fn release(&mut self, task: &Task) -> Result<Option<Event>, Error> {
        let Some(trained) = self.trained.take() else {
            // Only after a fault between training and here.
            return Ok(Some(Event::Restarted));
        };
        let (plan, _) = self.background(task)?;
        let job = ReleaseJob {
            gate: self.gate.clone(),
            task: task.clone(),
            plan,
            policy: self.directory.policy()?,
            session: self.session.clone(),
            now: self.outside.machine.now(),
            trained,
        };
        let worker = blocking(move || job.run());
        // Not given up half-way: it is either paid for and in the session, or never happened.
        let joined = self
            .with_signs_of_life(task, Stage::Training, worker)
            .await?;
        match joined {
            Ok(transition) => {
                tracing::info!("{task}: the update is encoded, paid for and signed");
                self.session = transition.session;
                self.effects.extend(transition.effects);
                Ok(None)
            }
            Err(egress::Error::Refused(refusal)) => Ok(Some(Event::Declined(refusal))),
            Err(error) => Err(error.into()),
        }
    }

    /// Evaluates on held-out text and submits the counts, if the policy lets them out.
    pub(super) async fn evaluate(&mut self, task: &Task) -> Result<Event, Error> {
        let (plan, version) = self.background(task)?;
        let settings = self.directory.settings()?;
        let policy = self.directory.policy()?;
        if let Err(refusal) = policy.allows_evaluation(&plan) {
            return Ok(Event::Declined(refusal));
        }
        let job = EvaluateJob {
            blobs: self.blobs.clone(),
            held_out: self.resolved(&settings.held_out),
            reading: settings.reading,
            device: settings.device,
            task: task.clone(),
            plan: plan.clone(),
            version,
        };
        let stop = Stop::default();
        let guard = StopOnDrop(stop.clone());
        let worker = self.outside.trainer.evaluate(job, stop);
        let outcome = self.with_heartbeat(task, Stage::Evaluating, worker).await;
        drop(guard);
        let units = match outcome {
            Err(interruption) => return Ok(interruption.event(task)),
            Ok(Ok(units)) => units,
            Ok(Err(error)) => return declined_or(error),
        };
        let now = self.outside.machine.now();
        match self
            .gate
            .release_evaluation(task, &plan, &policy, &units, now)
        {
            Ok(released) => self.submit(task, &released).await,
            Err(egress::Error::Refused(refusal)) => Ok(Event::Declined(refusal)),
            Err(error) => Err(error.into()),
        }
    }

    fn resolved(&self, paths: &[PathBuf]) -> Vec<PathBuf> {
        paths.iter().map(|p| self.directory.resolve(p)).collect()
    }
}

/// What the institution can mend is declined; a fault of ours is tried again.
fn declined_or(error: training::Error) -> Result<Event, Error> {
    match error.refusal() {
        Some(refusal) => Ok(Event::Declined(refusal)),
        None => Err(error.into()),
    }
}

struct ReleaseJob {
    gate: Gate,
    task: Task,
    plan: Plan,
    policy: Policy,
    session: Session,
    now: Time,
    trained: TrainedUpdate,
}

impl ReleaseJob {
    fn run(self) -> Result<Transition, egress::Error> {
        let request = UpdateRequest {
            task: &self.task,
            plan: &self.plan,
            policy: &self.policy,
            manifest: &self.trained.manifest,
            update: &self.trained.update,
            session: &self.session,
            now: self.now,
        };
        let (_, transition) = self.gate.release_update(&request)?;
        Ok(transition)
    }
}
