//! One round's training and one version's evaluation, as a trainer is handed them.

use std::path::PathBuf;
use std::sync::Arc;

use fedner_model::corpus::{Reader, Shapes};
use fedner_model::{KeptFiles, Sentence, TrainOptions};
use fedner_session::Task;
use fedner_shared::id::InstitutionId;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::{Plan, Unit};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::score::Scores;

use crate::sound::sound_sentences;
use crate::training::{self, Error, LoadedModel, RoundUpdate, Stop};

/// What the trainer hands to the gate.
#[derive(Debug)]
pub struct TrainedUpdate {
    pub manifest: Manifest,
    pub update: RoundUpdate,
}

/// Everything that one round's training needs.
#[derive(Debug)]
pub struct TrainJob {
    pub(super) institution: InstitutionId,
    pub(super) task: Task,
    pub(super) plan: Plan,
    /// How many the consent declares.
    pub(super) units: u32,
    pub(super) material: Arc<LoadedModel>,
    pub(super) data: Vec<PathBuf>,
    /// With what is known of the files.
    pub(super) reader: Reader,
    pub(super) options: TrainOptions,
    pub(super) keep: KeptFiles,
    pub(super) sound: bool,
    /// With fewer sentences nothing is trained, where the plan protects nothing: elsewhere it would
    /// tell of the text.
    pub(super) least: usize,
}

impl TrainJob {
    pub fn institution(&self) -> &InstitutionId {
        &self.institution
    }

    pub fn task(&self) -> &Task {
        &self.task
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// As many as the institution declared.
    pub fn units(&self) -> u32 {
        self.units
    }

    pub fn manifest(&self) -> &Manifest {
        &self.material.manifest
    }

    /// What is sound of the text.
    pub fn sentences(&self) -> Result<Vec<Sentence>, Error> {
        if !self.sound {
            let reader = self.reader.clone().with_shapes(Shapes::default());
            return training::read_corpora(&self.data, &self.plan.labels, reader);
        }
        sound_sentences(&self.data, &self.plan, self.reader.clone())
    }

    pub(super) fn run(self, stop: &Stop) -> Result<TrainedUpdate, Error> {
        let update = self.train(stop).or_else(|error| self.nothing(error))?;
        Ok(TrainedUpdate {
            manifest: self.material.manifest.clone(),
            update,
        })
    }

    fn train(&self, stop: &Stop) -> Result<RoundUpdate, Error> {
        let Self {
            plan,
            units,
            material,
            options,
            keep,
            ..
        } = self;
        let sentences = self.sentences()?;
        if plan.privacy.unit == Unit::None && sentences.len() < self.least {
            let message = format!(
                "the data has {} sentences: the policy asks for {}",
                sentences.len(),
                self.least
            );
            return Err(Refusal::new(Code::NotDone, message).into());
        }
        let plan = (plan, *units);
        training::train_round(material, &sentences, plan, options, keep, stop)
    }

    /// Where everything here is one unit, text that cannot be learnt from is an empty contribution: the
    /// update is noise alone, and nobody learns that it was so.
    fn nothing(&self, error: Error) -> Result<RoundUpdate, Error> {
        if self.plan.privacy.unit != Unit::Institution || !error.is_of_text() {
            return Err(error);
        }
        tracing::warn!(
            "{}: the update is noise alone: {}",
            self.task,
            error.cause()
        );
        Ok(RoundUpdate::without_noise(vec![
            0.0;
            self.manifest().dimension()
        ]))
    }
}

/// Everything that one evaluation needs.
#[derive(Debug)]
pub struct EvaluateJob {
    pub(super) held_out: Vec<PathBuf>,
    /// With what is known of the files.
    pub(super) reader: Reader,
    pub(super) device: String,
    pub(super) task: Task,
    pub(super) plan: Plan,
    pub(super) material: Arc<LoadedModel>,
}

impl EvaluateJob {
    pub fn task(&self) -> &Task {
        &self.task
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What is sound of the held-out text.
    pub fn sentences(&self) -> Result<Vec<Sentence>, Error> {
        sound_sentences(&self.held_out, &self.plan, self.reader.clone())
    }

    /// The counts of each unit.
    pub(super) fn run(self, stop: &Stop) -> Result<Vec<Scores>, Error> {
        match self.count(stop) {
            // Counts of nothing: with the noise that covers them they tell no more than others.
            Err(error) if error.is_of_text() && self.plan.privacy.count_noise().is_some() => {
                tracing::warn!(
                    "{}: the counts are noise alone: {}",
                    self.task,
                    error.cause()
                );
                Ok(Vec::new())
            }
            outcome => outcome,
        }
    }

    fn count(&self, stop: &Stop) -> Result<Vec<Scores>, Error> {
        let settings = training::settings_here(&self.plan, &self.device);
        let tags = self.plan.tags();
        let sentences = self.sentences()?;
        let units = training::units_of(&self.plan, &sentences)?;
        let found = training::evaluate(&self.material, &sentences, &tags, &settings, stop)?;
        Ok(found.scores_by(&sentences, &units))
    }
}
