//! One forward and one backward pass of a model over a batch.

use burn::tensor::Gradients;
use fedner_shared::bert::BertConfig;

use super::adamw::Rows;
use super::examples::Example;
use super::loss::Loss;
use crate::bert::{Batch, Bert, Dropout, values};
use crate::device::Device;
use crate::{Encoded, Error};

/// What a pass gave.
pub(super) struct Pass {
    pub(super) loss: f32,
    /// By all that is on the tape.
    pub(super) gradients: Gradients,
    /// By the word embedding; empty where that is frozen.
    pub(super) by_words: Rows,
}

impl Pass {
    /// The examples' part of the loss of a step whose words weigh `total`.
    pub(super) fn run(
        bert: &Bert,
        loss: &Loss,
        examples: &[&Example],
        total: f64,
        (config, device): (&BertConfig, Device),
        dropout: &mut Dropout,
    ) -> Result<Self, Error> {
        let encoded: Vec<&Encoded> = examples.iter().map(|example| &example.encoded).collect();
        let batch = Batch::new(&encoded, config.pad_token_id, &device.plain());
        let targets = examples.iter().flat_map(|example| &example.targets);
        let targets: Vec<usize> = targets.copied().collect();
        let words = bert.look_up(&batch);
        let logits = bert.logits(words.clone(), &batch, dropout);
        let loss = loss.of_logits(logits.ok_or(Error::NoHead)?, &targets, total);
        let value = values(loss.clone().inner())?[0];
        let mut gradients = loss.backward();
        // The graph shares the weights; they can be changed in place once it is gone.
        drop(loss);
        let by_words = match words.grad_remove(&mut gradients) {
            Some(gradient) => Rows::sum(batch.sub_tokens(), &values(gradient)?, config.hidden_size),
            None => Rows::default(),
        };
        Ok(Self {
            loss: value,
            gradients,
            by_words,
        })
    }
}
