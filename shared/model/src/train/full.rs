//! Training of every weight.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Gradients, Int, Tensor, TensorData};
use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::Checkpoint;

use super::adamw::{self, Moments};
use super::batches::grouped;
use super::schedule::Schedule;
use super::{Example, Losses, Observer, Progress, Stage, TrainOptions};
use crate::bert::{Batch, Bert, Dropout, Slot, SlotTensor, leaf, values};
use crate::device::Device;
use crate::{Encoded, Error};

pub(super) fn train(
    base: &Checkpoint,
    examples: &[Example],
    options: &TrainOptions,
    schedule: &Schedule,
    device: Device,
    observer: &mut dyn Observer,
) -> Result<(Vec<f32>, Losses), Error> {
    let training = &options.training;
    let mut trainer = Trainer::new(base, options, device)?;
    let lengths: Vec<usize> = examples.iter().map(|e| e.encoded.ids.len()).collect();
    let (mut losses, mut step) = (Losses::default(), 0);
    for epoch in 0..training.local_epochs {
        let batches = grouped(&lengths, training.batch_size, options.seed, epoch);
        let mut sum = 0.0;
        for batch in &batches {
            let examples: Vec<&Example> = batch.iter().map(|index| &examples[*index]).collect();
            let learning_rate = schedule.learning_rate(step);
            let loss = trainer.step(&examples, step, learning_rate)?;
            sum += f64::from(loss);
            step += 1;
            let progress = Progress {
                stage: Stage::Training,
                epoch,
                step,
                steps: schedule.steps,
                loss,
                learning_rate,
                sentences: examples.len(),
            };
            if observer.step(progress).is_break() {
                let steps = schedule.steps;
                return Err(Error::Stopped { step, steps });
            }
        }
        losses.end_epoch(epoch, sum, batches.len());
    }
    let manifest = base.config.manifest(options.method, trainer.tags);
    Ok((trainer.bert.weights(&manifest)?, losses))
}

struct Trainer<'a> {
    options: &'a TrainOptions,
    config: &'a BertConfig,
    tags: usize,
    bert: Bert,
    /// Of each slot, in order.
    moments: Vec<Moments>,
    dropout: Dropout,
    device: Device,
}

impl<'a> Trainer<'a> {
    fn new(base: &'a Checkpoint, options: &'a TrainOptions, device: Device) -> Result<Self, Error> {
        let config = &base.config;
        let mut bert = Bert::load(base, &device.plain().autodiff())?;
        let moments = bert
            .slots()
            .iter()
            .map(|slot| Moments::new(slot.len()))
            .collect();
        let chosen = options.training.dropout;
        let hidden = chosen.unwrap_or(config.hidden_dropout_prob);
        let attention = chosen.unwrap_or(config.attention_probs_dropout_prob);
        Ok(Self {
            options,
            config,
            tags: base.tags().ok_or(Error::NoHead)?,
            moments,
            bert,
            dropout: Dropout::new(hidden, attention, options.seed),
            device,
        })
    }

    /// One step on a batch; its mean cross-entropy before the step.
    fn step(
        &mut self,
        examples: &[&Example],
        step: usize,
        learning_rate: f64,
    ) -> Result<f32, Error> {
        let encoded: Vec<&Encoded> = examples.iter().map(|example| &example.encoded).collect();
        let batch = Batch::new(&encoded, self.config.pad_token_id, &self.device.plain());
        let targets: Vec<i32> = examples
            .iter()
            .flat_map(|example| example.targets.iter().map(|target| *target as i32))
            .collect();
        let logits = self.bert.logits(&batch, &mut self.dropout);
        let loss = cross_entropy(logits.ok_or(Error::NoHead)?, targets);
        let value = values(loss.clone().inner())?[0];
        if !value.is_finite() {
            return Err(Error::NotFinite { step });
        }
        let gradients = loss.backward();
        // The graph holds the weights; they can be changed in place once it is gone.
        drop(loss);
        self.apply(gradients, step, learning_rate)?;
        Ok(value)
    }

    fn apply(&mut self, mut all: Gradients, step: usize, learning_rate: f64) -> Result<(), Error> {
        let training = &self.options.training;
        let mut slots = self.bert.slots();
        let mut gradients = Vec::with_capacity(slots.len());
        for slot in &slots {
            gradients.push(slot.gradient(&mut all)?);
        }
        drop(all);
        let squared: f64 = gradients.iter().map(|g| adamw::squared_norm(g)).sum();
        if !squared.is_finite() {
            return Err(Error::NotFinite { step });
        }
        let gradient_scale = adamw::clip_factor(squared, training.max_grad_norm);
        for ((slot, gradient), moments) in slots.iter_mut().zip(&gradients).zip(&mut self.moments) {
            let weight_decay = if slot.decays() {
                training.weight_decay
            } else {
                0.0
            };
            let step = adamw::Step {
                learning_rate,
                weight_decay,
                number: step as i32 + 1,
                gradient_scale,
            };
            slot.update(|weights| moments.update(weights, gradient, step))?;
        }
        Ok(())
    }
}

/// The mean over the rows of -log softmax(logits)\[target\].
fn cross_entropy(logits: Tensor<2>, targets: Vec<i32>) -> Tensor<1> {
    let rows = targets.len();
    let data = TensorData::new(targets, [rows, 1]);
    let targets = Tensor::<2, Int>::from_data(data, &logits.device().inner());
    log_softmax(logits, 1).gather(1, targets).mean().neg()
}

impl Slot<'_> {
    fn len(&self) -> usize {
        match &self.tensor {
            SlotTensor::Vector(tensor) => tensor.shape().num_elements(),
            SlotTensor::Matrix(tensor) | SlotTensor::Table(tensor) => tensor.shape().num_elements(),
        }
    }

    /// The gradient, in the order of the tensor; zeros where the loss does not depend on it.
    fn gradient(&self, gradients: &mut Gradients) -> Result<Vec<f32>, Error> {
        let gradient = match &self.tensor {
            SlotTensor::Vector(tensor) => tensor.grad_remove(gradients).map(values),
            SlotTensor::Matrix(tensor) | SlotTensor::Table(tensor) => {
                tensor.grad_remove(gradients).map(values)
            }
        };
        gradient.unwrap_or_else(|| Ok(vec![0.0; self.len()]))
    }

    /// Changes the values in place.
    fn update(&mut self, change: impl FnOnce(&mut [f32])) -> Result<(), Error> {
        match &mut self.tensor {
            SlotTensor::Vector(tensor) => update(tensor, change),
            SlotTensor::Matrix(tensor) | SlotTensor::Table(tensor) => update(tensor, change),
        }
    }
}

fn update<const D: usize>(
    tensor: &mut Tensor<D>,
    change: impl FnOnce(&mut [f32]),
) -> Result<(), Error> {
    let device = tensor.device();
    let mut data = tensor.extract().inner().into_data();
    match data.as_mut_slice::<f32>() {
        Ok(weights) => change(weights),
        Err(error) => return Err(Error::Tensor(error.to_string())),
    }
    *tensor = leaf(data, &device);
    Ok(())
}
