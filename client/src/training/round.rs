//! One round's training.

use fedner_model::{KeptFiles, Parent, Sentence, TrainHooks, TrainOptions};
use fedner_shared::plan::{Plan, Sampling};

use super::error::Error;
use super::model::LoadedModel;
use super::{Stop, train};
use crate::dp_sgd::Steps;

/// What a round's training gave. Only [`train_round`] makes one with noise in it, so that the gate
/// can tell.
#[derive(Debug)]
pub struct RoundUpdate {
    change: Change,
    /// How units were sampled into its steps, each of which was clipped and noised as the plan says;
    /// `None` if there is no noise in it yet.
    sampling: Option<Sampling>,
}

/// In manifest order.
#[derive(Debug)]
pub enum Change {
    /// Of each trainable weight.
    Weights(Vec<f32>),
    /// The sum of the clipped gradients of one step with a share of its noise, in steps of the plan's grid.
    Step(Vec<i32>),
}

impl RoundUpdate {
    pub fn change(&self) -> &Change {
        &self.change
    }

    /// The change of each weight, where it is no step that others take part in.
    pub fn weights(&self) -> Option<&[f32]> {
        match &self.change {
            Change::Weights(values) => Some(values),
            Change::Step(_) => None,
        }
    }

    /// How many weights it is of.
    pub fn dimension(&self) -> usize {
        match &self.change {
            Change::Weights(values) => values.len(),
            Change::Step(values) => values.len(),
        }
    }

    pub fn sampling(&self) -> Option<Sampling> {
        self.sampling
    }

    /// A change without noise in it.
    pub fn without_noise(values: Vec<f32>) -> Self {
        Self {
            change: Change::Weights(values),
            sampling: None,
        }
    }

    /// The step that was released last; nothing where steps are not for a cohort.
    pub fn of_step(steps: &mut Steps) -> Option<Self> {
        Some(Self {
            change: Change::Step(steps.take_share()?),
            sampling: Some(steps.sampling()),
        })
    }

    #[cfg(test)]
    pub(crate) fn from_values(values: &[f32], sampling: Option<Sampling>) -> Self {
        Self {
            change: Change::Weights(values.to_vec()),
            sampling,
        }
    }
}

/// One round's training at an institution that declared `units` in its consent.
pub fn train_round(
    material: &LoadedModel,
    sentences: &[Sentence],
    (plan, units): (&Plan, u32),
    options: &TrainOptions,
    keep: &KeptFiles,
    stop: &Stop,
) -> Result<RoundUpdate, Error> {
    let tags = plan.tags();
    let frozen_rows = plan.rows_of(plan.frozen_types());
    let mut steps = Steps::private(plan, units, material.manifest.dimension())?;
    // A step is not gone on with: it is made anew, with fresh noise.
    let keep = &KeptFiles {
        checkpoint: keep
            .checkpoint
            .clone()
            .filter(|_| !plan.privacy.is_synchronous()),
        ..keep.clone()
    };
    let sampling = steps.as_ref().map(Steps::sampling);
    let known = plan.rows_of(plan.known_types_of_base());
    let parent = material.parent.as_ref().map(|base| Parent {
        base,
        known: &known,
    });
    let mut once = || {
        let private = steps.as_mut().map(|steps| steps.settings(plan));
        let hooks = TrainHooks {
            kept_files: keep,
            private,
            frozen_rows: &frozen_rows,
            parent,
            ..TrainHooks::default()
        };
        train(material, sentences, &tags, options, hooks, stop)
    };
    let trained = match once() {
        // An assignment that was dropped, or whose text or settings changed here meanwhile.
        Err(Error::Model(fedner_model::Error::OtherTraining { file })) => {
            tracing::info!("{} is of another training: removed", file.display());
            std::fs::remove_file(&file)?;
            once()?
        }
        outcome => outcome?,
    };
    if let Some(update) = steps.as_mut().and_then(RoundUpdate::of_step) {
        return Ok(update);
    }
    let mut values = trained.weights;
    let base = material.checkpoint.flatten(&material.manifest)?;
    for (new, old) in values.iter_mut().zip(&base) {
        *new -= old;
    }
    let change = Change::Weights(values);
    Ok(RoundUpdate { change, sampling })
}

/// The number of each sentence's unit, of what the plan protects: everything is one unit where that
/// is the institution, or nothing.
pub fn units_of(plan: &Plan, sentences: &[Sentence]) -> Result<Vec<usize>, Error> {
    let unit = plan.privacy.unit;
    if unit.is_sampled() && plan.privacy.count_noise().is_some() {
        return Ok(fedner_model::number_units(unit, sentences)?.0);
    }
    Ok(vec![0; sentences.len()])
}
