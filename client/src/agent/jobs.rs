//! One round's training and one version's evaluation, as a trainer is handed them.

use std::path::PathBuf;
use std::sync::Arc;

use fedner_model::corpus::ReadOptions;
use fedner_model::{Keep, Sentence, TrainOptions};
use fedner_privacy::ledger::Kind;
use fedner_session::Task;
use fedner_shared::id::InstitutionId;
use fedner_shared::machine::Machine;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::Plan;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::score::Scores;
use fedner_shared::version::Version;

use crate::blobs::Blobs;
use crate::config::Policy;
use crate::egress::{Budget, cost_of_update};
use crate::state::Store;
use crate::training::{self, Error, Material, RoundUpdate, Stop};

/// What the trainer hands to the gate.
#[derive(Debug)]
pub struct TrainedUpdate {
    pub manifest: Manifest,
    pub update: RoundUpdate,
}

/// Everything that one round's training needs.
#[derive(Debug)]
pub struct TrainJob {
    pub(super) blobs: Blobs,
    pub(super) store: Store,
    pub(super) machine: Arc<dyn Machine>,
    pub(super) institution: InstitutionId,
    pub(super) task: Task,
    pub(super) plan: Plan,
    /// How many the consent declares.
    pub(super) units: u32,
    pub(super) policy: Policy,
    pub(super) version: Version,
    pub(super) data: Vec<PathBuf>,
    pub(super) reading: ReadOptions,
    pub(super) options: TrainOptions,
    pub(super) keep: Keep,
}

impl TrainJob {
    pub fn institution(&self) -> &InstitutionId {
        &self.institution
    }

    pub fn task(&self) -> &Task {
        &self.task
    }

    pub(super) fn run(self, stop: &Stop) -> Result<TrainedUpdate, Error> {
        let (material, sentences) = self.prepare()?;
        let Self {
            plan,
            options,
            keep,
            ..
        } = &self;
        let plan = (plan, self.units);
        let update = training::train_round(&material, &sentences, plan, options, keep, stop)?;
        Ok(TrainedUpdate {
            manifest: material.manifest,
            update,
        })
    }

    /// The model and the sentences, after it was asked whether the result could be paid for.
    pub fn prepare(&self) -> Result<(Material, Vec<Sentence>), Error> {
        let Self { task, plan, .. } = self;
        let material = Material::of_version(&self.blobs, &self.version, plan, task.manifest)?;
        self.plan_debit(&material.manifest)?;
        let sentences = training::read_corpora(&self.data, &plan.labels, self.reading)?;
        let least = self.policy.minimum_examples as usize;
        if sentences.len() < least {
            let message = format!(
                "the data has {} sentences: the policy asks for {least}",
                sentences.len()
            );
            // Depends on the text, so that it must not be told apart.
            return Err(Refusal::new(Code::NotDone, message).into());
        }
        Ok((material, sentences))
    }

    /// Asks before hours of training, and notes it; the gate asks again.
    fn plan_debit(&self, manifest: &Manifest) -> Result<(), Error> {
        let refusal = |error: crate::state::Error| {
            let code = error.refusal().map_or(Code::StateInvalid, |r| r.code);
            Refusal::new(code, error.to_string())
        };
        let budget = Budget {
            institution: &self.institution,
            task: &self.task,
            plan: &self.plan,
            policy: &self.policy,
            kind: Kind::Update,
            cost: cost_of_update(&self.plan, self.units, manifest.dimension()),
        };
        let ledger = self.store.ledger().map_err(refusal)?;
        if let Some(entry) = budget.plan(&ledger, self.machine.now())? {
            self.store.add_planned(&entry).map_err(refusal)?;
        }
        Ok(())
    }
}

/// Everything that one evaluation needs.
#[derive(Debug)]
pub struct EvaluateJob {
    pub(super) blobs: Blobs,
    pub(super) held_out: Vec<PathBuf>,
    pub(super) reading: ReadOptions,
    pub(super) device: String,
    pub(super) task: Task,
    pub(super) plan: Plan,
    pub(super) version: Version,
}

impl EvaluateJob {
    pub fn task(&self) -> &Task {
        &self.task
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The counts of each unit.
    pub(super) fn run(self, stop: &Stop) -> Result<Vec<Scores>, Error> {
        let (material, sentences) = self.prepare()?;
        let settings = training::settings_here(&self.plan, &self.device);
        let tags = self.plan.tags();
        // Whose words it would be is asked before the work is done.
        let units = training::units_of(&self.plan, &sentences)?;
        let found = training::evaluate(&material, &sentences, &tags, &settings, stop)?;
        Ok(found.scores_by(&sentences, &units))
    }

    /// The model and the held-out sentences.
    pub fn prepare(&self) -> Result<(Material, Vec<Sentence>), Error> {
        let Self { task, plan, .. } = self;
        let material = Material::of_version(&self.blobs, &self.version, plan, task.manifest)?;
        let sentences = training::read_corpora(&self.held_out, &plan.labels, self.reading)?;
        Ok((material, sentences))
    }
}
