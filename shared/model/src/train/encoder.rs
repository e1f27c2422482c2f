//! Training through the encoder: every weight of it that is not frozen, or its adapters.

use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::Trainable;

use super::adamw::Rates;
use super::loss::Loss;
use super::optimizer::{Gradient, Optimizer};
use super::options::TrainOptions;
use super::pass::{Pass, Text};
use super::state::State;
use super::tag_sets::TagSets;
use super::training_loop::Learner;
use crate::Error;
use crate::bert::{Bert, Dropout};

pub(super) struct EncoderLearner<'a> {
    text: Text<'a>,
    options: &'a TrainOptions,
    pub(super) bert: Bert,
    loss: Loss,
    optimizer: Optimizer,
    dropout: Dropout,
}

impl<'a> EncoderLearner<'a> {
    pub(super) fn new(
        base: &'a Checkpoint,
        text: Text<'a>,
        options: &'a TrainOptions,
        trainable: &Trainable,
        sets: &TagSets,
    ) -> Result<Self, Error> {
        let (config, training, device) = (&base.config, &options.training, text.device);
        let bert = Bert::load_to_train(base, &device.plain().autodiff(), trainable)?;
        let mut bert = bert.with_precision(device.precision(training.precision)?);
        let (hidden, attention) = options.dropout(config, false);
        let head_rate = training.head_rate().unwrap_or(1.0);
        Ok(Self {
            text,
            options,
            optimizer: Optimizer::new(&mut bert, training.proximal_mu, head_rate)?,
            bert,
            loss: Loss::new(training, sets),
            dropout: Dropout::new(hidden, attention, options.seed),
        })
    }

    /// The loss of a batch in a step of weight `total`, and its gradient.
    pub(super) fn gradient(
        &mut self,
        chosen: &[usize],
        total: f64,
        step: usize,
    ) -> Result<(f32, Gradient), Error> {
        let (bert, text, dropout) = (&self.bert, self.text, &mut self.dropout);
        let pass = Pass::run(bert, &self.loss, text, chosen, total, dropout)?;
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
        let all = self.text.examples;
        let targets = batches.iter().flatten();
        let targets = targets.flat_map(|index| all[*index].targets.iter().copied());
        let total = self.loss.total(targets);
        let (mut loss, mut sum) = (0.0, None::<Gradient>);
        for batch in batches {
            let (value, gradient) = self.gradient(batch, total, rates.step)?;
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
