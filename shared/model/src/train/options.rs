//! How to train.

use std::ops::Range;

use fedner_shared::bert::BertConfig;
use fedner_shared::plan::{Method, Trainable, Training};

/// How to train.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOptions {
    pub method: Method,
    pub training: Training,
    /// Decides shuffling and dropout: the same seed gives the same weights.
    pub seed: u64,
    /// The part of the learning-rate schedule that these epochs are, of 0 to 1. Round r of R is
    /// r/R..(r+1)/R.
    pub schedule: Range<f64>,
}

impl TrainOptions {
    /// Which weights of a model with this `config` are trained.
    pub(super) fn trainable(&self, config: &BertConfig) -> Trainable {
        let lora = config.adapters.as_ref().map(|adapters| &adapters.lora);
        Trainable::new(self.method, lora, &self.training)
    }

    /// With which probabilities hidden states and attention weights are dropped.
    pub(super) fn dropout(&self, config: &BertConfig, private: bool) -> (f64, f64) {
        match self.training.dropout {
            Some(probability) => (probability, probability),
            None if private => (0.0, 0.0),
            None => (
                config.hidden_dropout_prob,
                config.attention_probs_dropout_prob,
            ),
        }
    }
}
