//! Fetching, training, the gate, and evaluating.

use std::path::PathBuf;

use fedner_host::machine::blocking;
use fedner_model::corpus::Reader;
use fedner_model::{KeptFiles, TrainOptions};
use fedner_proto::v1::progress_request::Stage;
use fedner_session::{Input, Kind, Session, Task, Transition};
use fedner_shared::digest::Digest;
use fedner_shared::plan::Plan;
use fedner_shared::refusal::Code;
use fedner_shared::score::Scores;
use fedner_shared::time::Time;
use fedner_shared::version::Version;

use super::jobs::{EvaluateJob, TrainJob, TrainedUpdate};
use super::{Agent, Error};
use crate::config::{Policy, Settings};
use crate::egress::{self, EvaluationRequest, Gate, UpdateRequest};
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
    pub(super) async fn fetch(&mut self, task: &Task) -> Result<Input, Error> {
        let (plan, version) = self.background(task)?;
        let files: Vec<Digest> = version.objects().collect();
        let lengths = files.iter().map(|file| {
            let inputs = plan.inputs.as_ref();
            let length = inputs.and_then(|inputs| inputs.length_of(file, &version.weights));
            let open = (!self.environment.defences.pins).then_some(u64::MAX);
            (*file, length.or(open).unwrap_or_default())
        });
        let parent = plan
            .weights_of_parent()
            .filter(|_| task.kind == Kind::Train);
        let parent = parent.map(|parent| (parent.digest, parent.bytes));
        let lengths: Vec<(Digest, u64)> = lengths.chain(parent).collect();
        let work = self.download_all(&lengths);
        let stage = self.stage_of(task, Stage::Downloading);
        match self.with_heartbeat(task, stage, work).await {
            Err(interruption) => return Ok(interruption.input(task)),
            Ok(Err(transport::Error::Refused(refusal))) if refusal.code == Code::BlobUnknown => {
                tracing::warn!("{task}: {refusal} [{}]", refusal.code);
                return Ok(Input::Dropped);
            }
            Ok(Err(transport::Error::Refused(refusal))) if refusal.code == Code::BaseMismatch => {
                return Ok(Input::Declined(refusal));
            }
            Ok(outcome) => outcome?,
        }
        let kept = lengths.iter().map(|(file, _)| *file).collect();
        self.blobs.retain(&kept)?;
        Ok(Input::Fetched)
    }

    async fn download_all(&self, files: &[(Digest, u64)]) -> Result<(), transport::Error> {
        for (digest, length) in files {
            self.coordinator
                .download(digest, *length, &self.blobs)
                .await?;
        }
        Ok(())
    }

    /// Trains. The attempt is paid for.
    pub(super) async fn train(&mut self, task: &Task) -> Result<Input, Error> {
        let Some(material) = self.material.take() else {
            // Only after a fault between the charge and here.
            return Ok(Input::Restarted);
        };
        let (plan, version) = self.background(task)?;
        let settings = self.settings().await?;
        let least = self.policy().await?.minimum_examples as usize;
        let institution = self.identity.institution.clone();
        let units = match self
            .store
            .consent_in_force(&task.plan, self.environment.machine.now())?
        {
            Some(consent) => consent.examples,
            None => return Ok(Input::Declined(egress::consent_missing(&plan))),
        };
        let job = TrainJob {
            options: TrainOptions {
                method: plan.method,
                training: training::settings_here(&plan, &settings.device),
                seed: training::seed(&plan, &institution, task.round, task.attempt),
                schedule: plan.part_of_schedule(task.round),
            },
            keep: KeptFiles {
                checkpoint: Some(self.directory.training_checkpoint()),
                features: Some(self.directory.features()),
                encoder: encoder_of(&plan, &version),
                key: Some(self.storage_key.clone()),
                ..KeptFiles::default()
            },
            data: self.resolved(&settings.data),
            reader: self.reader(&settings)?,
            institution,
            task: task.clone(),
            plan,
            units,
            material,
            sound: self.environment.defences.sound_text,
            least,
        };
        let stop = Stop::default();
        let guard = StopOnDrop(stop.clone());
        let worker = self.environment.trainer.train(job, stop);
        let work = async {
            match worker.await {
                Ok(trained) => Ok(Ok(trained)),
                Err(error) if error.is_ours() => Err(error.into()),
                Err(error) => {
                    let (code, cause) = (error.code(), error.cause());
                    self.not_done(task, code, &cause).await.map(Err)
                }
            }
        };
        let outcome = self.with_heartbeat(task, Stage::Training, work).await;
        drop(guard);
        match outcome {
            Err(interruption) => Ok(interruption.input(task)),
            Ok(outcome) => match outcome? {
                Ok(trained) => {
                    self.trained = Some(trained);
                    Ok(Input::Trained)
                }
                Err(input) => Ok(input),
            },
        }
    }

    /// Passes the trained weights through the gate. The session it returns is durable already.
    pub(super) async fn release(&mut self, task: &Task) -> Result<Option<Input>, Error> {
        let Some(trained) = self.trained.take() else {
            // Only after a fault between training and here.
            return Ok(Some(Input::Restarted));
        };
        let (plan, _) = self.background(task)?;
        let whole = self.policy_when_whole();
        let policy = self
            .with_signs_of_life(task, Stage::Training, whole)
            .await?;
        let job = ReleaseJob {
            gate: self.gate.clone(),
            task: task.clone(),
            plan,
            policy,
            session: self.session.clone(),
            now: self.environment.machine.now(),
            trained,
        };
        let worker = blocking(move || job.run());
        // Not given up half-way: it is either paid for and in the session, or never happened.
        let joined = self
            .with_signs_of_life(task, Stage::Training, worker)
            .await?;
        match joined {
            Ok(transition) => {
                tracing::info!("{task}: the update is encoded and signed");
                self.session = transition.session;
                self.effects.extend(transition.effects);
                Ok(None)
            }
            Err(egress::Error::Refused(refusal)) => {
                let work = self.not_done(task, refusal.code, refusal.code.as_str());
                match self.with_heartbeat(task, Stage::Training, work).await {
                    Ok(input) => input.map(Some),
                    Err(interruption) => Ok(Some(interruption.input(task))),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Evaluates on held-out text, and makes the counts ready to leave if the policy lets them out. The
    /// session it makes durable submits them.
    pub(super) async fn evaluate(&mut self, task: &Task) -> Result<Option<Input>, Error> {
        let Some(material) = self.material.take() else {
            // Only after a fault between the charge and here.
            return Ok(Some(Input::Restarted));
        };
        let (plan, _) = self.background(task)?;
        let settings = self.settings().await?;
        let policy = self.policy().await?;
        let types = self.counted_types(&plan, &settings);
        let job = EvaluateJob {
            held_out: self.resolved(&settings.held_out),
            reader: self.reader(&settings)?,
            device: settings.device,
            task: task.clone(),
            plan: plan.clone(),
            material,
        };
        let stop = Stop::default();
        let guard = StopOnDrop(stop.clone());
        let worker = self.environment.trainer.evaluate(job, stop);
        let work = async {
            let (code, cause) = match worker.await {
                Ok(units) => match self.make_counts_ready(task, &plan, &policy, (&units, &types)) {
                    Ok(transition) => return Ok(Ok(transition)),
                    Err(egress::Error::Refused(refusal)) => {
                        (refusal.code, refusal.code.to_string())
                    }
                    Err(error) => return Err(error.into()),
                },
                Err(error) if error.is_ours() => return Err(error.into()),
                Err(error) => (error.code(), error.cause()),
            };
            self.not_done(task, code, &cause).await.map(Err)
        };
        let outcome = self.with_heartbeat(task, Stage::Evaluating, work).await;
        drop(guard);
        match outcome {
            Err(interruption) => Ok(Some(interruption.input(task))),
            Ok(outcome) => match outcome? {
                Ok(transition) => {
                    self.session = transition.session;
                    self.effects.extend(transition.effects);
                    Ok(None)
                }
                Err(input) => Ok(Some(input)),
            },
        }
    }

    fn make_counts_ready(
        &self,
        task: &Task,
        plan: &Plan,
        policy: &Policy,
        (units, types): (&[Scores], &[String]),
    ) -> Result<Transition, egress::Error> {
        self.gate.release_evaluation(&EvaluationRequest {
            task,
            plan,
            policy,
            units,
            types,
            session: &self.session,
            now: self.environment.machine.now(),
        })
    }

    /// The plan's types that some held-out file annotates: there is nothing to say of the others.
    fn counted_types(&self, plan: &Plan, settings: &Settings) -> Vec<String> {
        let annotated = self.directory.annotated(settings);
        let files = self.resolved(&settings.held_out);
        let counted = |label: &&String| {
            let own = std::slice::from_ref(*label);
            files
                .iter()
                .any(|file| !annotated.among(own, file).is_empty())
        };
        plan.labels.iter().filter(counted).cloned().collect()
    }

    /// By which text is read, with what was known of its files when the institution agreed.
    fn reader(&self, settings: &Settings) -> Result<Reader, Error> {
        let shapes = self.store.shapes(&settings.reading)?;
        Ok(self.directory.reader(settings).with_shapes(shapes))
    }

    pub(super) fn resolved(&self, paths: &[PathBuf]) -> Vec<PathBuf> {
        paths.iter().map(|p| self.directory.resolve(p)).collect()
    }
}

/// Names the encoder by its files, where each step would read all of it to find a name. Elsewhere features are used
/// again whatever files the same encoder is in.
fn encoder_of(plan: &Plan, version: &Version) -> Option<Digest> {
    let frozen = version.frozen.filter(|_| plan.privacy.is_synchronous())?;
    Some(Digest::of_json(&(version.config, frozen)))
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
