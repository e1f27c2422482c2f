//! Training that takes simulated time. Its result is made up; what lets it out is not.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fedner_client::agent::{EvaluateJob, Outcome, TrainJob, TrainedUpdate, Trainer};
use fedner_client::dp_sgd::Steps;
use fedner_client::training::{Error, RoundUpdate, Stop};
use fedner_shared::digest::Digest;
use fedner_shared::plan::Plan;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::score::{Counts, Scores};

use crate::mishap;

const EVALUATION: Duration = Duration::from_millis(500);

/// How the next trainings of one institution go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mood {
    /// Seconds by which the next training takes longer.
    pub(crate) late: u32,
    /// The next training gives no usable update.
    pub(crate) diverges: bool,
    /// The text of the next training is not as it should be.
    pub(crate) refuses: bool,
}

#[derive(Debug)]
pub(crate) struct SimTrainer {
    pub(crate) seconds: u32,
    pub(crate) mood: Arc<Mutex<Mood>>,
}

impl Trainer for SimTrainer {
    fn train(&self, job: TrainJob, _stop: Stop) -> Outcome<TrainedUpdate> {
        let mood = std::mem::take(&mut *self.mood.lock().unwrap_or_else(PoisonError::into_inner));
        let seconds = self.seconds + mood.late;
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(seconds.into())).await;
            if mood.refuses {
                let message = "line 3 has no tag";
                return Err(Refusal::new(mishap::OF_TEXT, message).into());
            }
            job.sentences()?;
            let manifest = job.manifest().clone();
            let mut values = values(&job, manifest.dimension());
            if mood.diverges {
                values[0] = f32::NAN;
            }
            let update = match Steps::private(job.plan(), job.units(), manifest.dimension())? {
                Some(steps) => step(steps, job.plan(), &values)?,
                None => RoundUpdate::without_noise(values),
            };
            Ok(TrainedUpdate { manifest, update })
        })
    }

    fn evaluate(&self, job: EvaluateJob, _stop: Stop) -> Outcome<Vec<Scores>> {
        Box::pin(async move {
            tokio::time::sleep(EVALUATION).await;
            job.sentences()?;
            let counts = Counts {
                true_positives: 3,
                false_positives: 1,
                false_negatives: u64::from(job.task().round),
            };
            let label = job.plan().labels[0].clone();
            Ok(vec![Scores {
                by_type: [(label, counts)].into(),
            }])
        })
    }
}

/// A share of a step whose clipped gradients add up to these values.
fn step(mut steps: Steps, plan: &Plan, values: &[f32]) -> Result<RoundUpdate, Error> {
    let mut sum: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
    let released = steps.settings(plan).mechanism.release(&mut sum);
    released.map_err(|error| Refusal::new(Code::StateInvalid, error.to_string()))?;
    let missing = || Refusal::new(Code::StateInvalid, "a step that all take together");
    Ok(RoundUpdate::of_step(&mut steps).ok_or_else(missing)?)
}

/// A change of each weight that depends on who trains what, and on nothing else.
fn values(job: &TrainJob, dimension: usize) -> Vec<f32> {
    let task = job.task();
    let text = format!("{} {task} {}", job.institution(), task.version);
    let mut bytes = vec![0; dimension];
    let hasher = Digest::of(text.as_bytes());
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = hasher.as_bytes()[index % 32] ^ (index as u8);
    }
    let scale = |byte: &u8| (f32::from(*byte) - 127.5) / 2000.0;
    bytes.iter().map(scale).collect()
}
