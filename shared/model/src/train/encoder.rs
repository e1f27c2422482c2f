//! Training through the encoder: every weight of it that is not frozen, or its adapters.

use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::Trainable;

use super::TrainOptions;
use super::adamw::Rates;
use super::course::Learner;
use super::examples::Example;
use super::loss::Loss;
use super::optimizer::{Gradient, Optimizer};
use super::pass::Pass;
use super::state::State;
use crate::Error;
use crate::bert::{Bert, Dropout};
use crate::device::Device;

pub(super) struct EncoderLearner<'a> {
    examples: &'a [Example],
    options: &'a TrainOptions,
    config: &'a BertConfig,
    pub(super) bert: Bert,
    loss: Loss,
    optimizer: Optimizer,
    dropout: Dropout,
    device: Device,
}

impl<'a> EncoderLearner<'a> {
    pub(super) fn new(
        base: &'a Checkpoint,
        examples: &'a [Example],
        options: &'a TrainOptions,
        trainable: &Trainable,
        tags: &[String],
        device: Device,
    ) -> Result<Self, Error> {
        let (config, training) = (&base.config, &options.training);
        let bert = Bert::load_to_train(base, &device.plain().autodiff(), trainable)?;
        let mut bert = bert.with(device.precision(training.precision)?);
        let hidden = training.dropout.unwrap_or(config.hidden_dropout_prob);
        let attention = training
            .dropout
            .unwrap_or(config.attention_probs_dropout_prob);
        Ok(Self {
            examples,
            options,
            config,
            optimizer: Optimizer::new(&mut bert, training.proximal_mu)?,
            bert,
            loss: Loss::new(training, tags),
            dropout: Dropout::new(hidden, attention, options.seed),
            device,
        })
    }

    /// The loss of a batch in a step of weight `total`, and its gradient.
    pub(super) fn gradient(
        &mut self,
        examples: &[&Example],
        total: f64,
        step: usize,
    ) -> Result<(f32, Gradient), Error> {
        let settings = (self.config, self.device);
        let pass = Pass::run(
            &self.bert,
            &self.loss,
            examples,
            total,
            settings,
            &mut self.dropout,
        )?;
        if !pass.loss.is_finite() {
            return Err(Error::NotFinite { step });
        }
        let Pass {
            loss,
            gradients,
            by_words,
        } = pass;
        let gradient = Gradient::take(&mut self.bert, gradients, by_words)?;
        Ok((loss, gradient))
    }
}

impl Learner for EncoderLearner<'_> {
    fn step(&mut self, batches: &[Vec<usize>], rates: Rates) -> Result<f32, Error> {
        let all = self.examples;
        let targets = batches.iter().flatten();
        let targets = targets.flat_map(|index| all[*index].targets.iter().copied());
        let total = self.loss.total(targets);
        let (mut loss, mut sum) = (0.0, None::<Gradient>);
        for batch in batches {
            let examples: Vec<&Example> = batch.iter().map(|index| &all[*index]).collect();
            let (value, gradient) = self.gradient(&examples, total, rates.step)?;
            loss += value;
            match &mut sum {
                None => sum = Some(gradient),
                Some(sum) => sum.add(&gradient),
            }
        }
        let largest = self.options.training.max_grad_norm;
        if let Some(gradient) = sum {
            self.optimizer
                .step(&mut self.bert, gradient, largest, rates)?;
        }
        Ok(loss)
    }

    fn weights(&mut self, manifest: &Manifest) -> Result<Vec<f32>, Error> {
        self.optimizer.settle(&mut self.bert)?;
        self.bert.weights(manifest)
    }

    fn save(&mut self, state: &mut State) -> Result<(), Error> {
        state.put_number("masks", self.dropout.drawn());
        self.optimizer.save(&mut self.bert, state)
    }

    fn restore(&mut self, state: &State) -> Result<(), Error> {
        self.dropout.skip_to(state.number("masks")?);
        self.optimizer.restore(&mut self.bert, state)
    }
}

#[cfg(test)]
pub(super) mod tests;
