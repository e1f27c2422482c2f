//! Training of every weight.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};
use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::Checkpoint;

use super::adamw::{Rates, Rows};
use super::batches::grouped;
use super::optimizer::Optimizer;
use super::schedule::Schedule;
use super::{Example, Losses, Observer, Progress, Stage, TrainOptions};
use crate::bert::{Batch, Bert, Dropout, values};
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
    let mut bert = trainer.finish()?;
    let tags = base.tags().ok_or(Error::NoHead)?;
    let manifest = base.config.manifest(options.method, tags);
    Ok((bert.weights(&manifest)?, losses))
}

struct Trainer<'a> {
    options: &'a TrainOptions,
    config: &'a BertConfig,
    bert: Bert,
    optimizer: Optimizer,
    dropout: Dropout,
    device: Device,
}

impl<'a> Trainer<'a> {
    fn new(base: &'a Checkpoint, options: &'a TrainOptions, device: Device) -> Result<Self, Error> {
        let config = &base.config;
        let mut bert = Bert::load(base, &device.plain().autodiff())?;
        let chosen = options.training.dropout;
        let hidden = chosen.unwrap_or(config.hidden_dropout_prob);
        let attention = chosen.unwrap_or(config.attention_probs_dropout_prob);
        Ok(Self {
            options,
            config,
            optimizer: Optimizer::new(&mut bert),
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
        let targets = examples.iter().flat_map(|example| &example.targets);
        let targets = targets.map(|target| *target as i32).collect();
        let words = self.bert.look_up(&batch);
        let logits = self
            .bert
            .logits(words.clone(), &batch, &mut self.dropout)
            .ok_or(Error::NoHead)?;
        let loss = cross_entropy(logits, targets);
        let value = values(loss.clone().inner())?[0];
        if !value.is_finite() {
            return Err(Error::NotFinite { step: step + 1 });
        }
        let mut gradients = loss.backward();
        // The graph shares the weights; they can be changed in place once it is gone.
        drop(loss);
        let by_words = match words.grad_remove(&mut gradients) {
            Some(gradient) => Rows::sum(
                batch.sub_tokens(),
                &values(gradient)?,
                self.config.hidden_size,
            ),
            None => Rows::default(),
        };
        let training = &self.options.training;
        let rates = Rates {
            learning_rate,
            weight_decay: training.weight_decay,
            step: step + 1,
        };
        let largest = training.max_grad_norm;
        self.optimizer
            .step(&mut self.bert, gradients, &by_words, largest, rates)?;
        Ok(value)
    }

    fn finish(mut self) -> Result<Bert, Error> {
        self.optimizer.finish(&mut self.bert)?;
        Ok(self.bert)
    }
}

/// The mean over the rows of -log softmax(logits)\[target\].
fn cross_entropy(logits: Tensor<2>, targets: Vec<i32>) -> Tensor<1> {
    let rows = targets.len();
    let data = TensorData::new(targets, [rows, 1]);
    let targets = Tensor::<2, Int>::from_data(data, &logits.device().inner());
    log_softmax(logits, 1).gather(1, targets).mean().neg()
}

#[cfg(test)]
mod tests;
