//! One forward and one backward pass of a model over a batch.

use burn::tensor::{Gradients, Tensor, TensorData};
use fedner_shared::bert::BertConfig;

use super::adamw::Rows;
use super::examples::Example;
use super::frozen_layers::FrozenLayers;
use super::loss::Loss;
use super::tag_sets::TagSets;
use crate::bert::{Batch, Bert, Dropout, values};
use crate::crf::Crf;
use crate::device::Device;
use crate::{Encoded, Error};

/// What passes are over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) examples: &'a [Example],
    /// What the frozen layers made of it, if any did.
    pub(super) lower: Option<&'a FrozenLayers>,
    pub(super) config: &'a BertConfig,
    pub(super) device: Device,
}

/// What a pass gave.
pub(super) struct Pass {
    pub(super) loss: f32,
    /// By all that is on the tape.
    pub(super) gradients: Gradients,
    /// By the word embedding; empty where that is frozen.
    pub(super) by_words: Rows,
}

impl Pass {
    /// The part that the examples `chosen` have in the loss of a step whose words weigh `total`.
    pub(super) fn run(
        bert: &Bert,
        loss: &Loss,
        text: Text<'_>,
        chosen: &[usize],
        total: f64,
        dropout: &mut Dropout,
    ) -> Result<Self, Error> {
        let examples = chosen.iter().map(|index| &text.examples[*index]);
        let encoded: Vec<&Encoded> = examples.clone().map(|e| &e.encoded).collect();
        let config = text.config;
        let batch = Batch::new(&encoded, config.pad_token_id, &text.device.plain());
        let (words, hidden) = if let Some(lower) = text.lower {
            (None, lower.hidden(chosen, &batch)?)
        } else {
            let words = bert.look_up(&batch);
            let hidden = bert.embed(words.clone(), &batch, dropout);
            (Some(words), hidden)
        };
        let logits = bert.logits(hidden, &batch, dropout);
        let logits = logits.ok_or(Error::NoHead)?;
        let targets = examples.map(|example| example.targets.as_slice());
        let targets: Vec<&[usize]> = targets.collect();
        let (value, slope) = if let Some(crf) = bert.crf()? {
            of_sentences(bert, &crf, logits, (&targets, loss.sets()), total)?
        } else {
            let loss = loss.of_logits(logits, &targets.concat(), total);
            (values(loss.clone().inner())?[0], loss)
        };
        let mut gradients = slope.backward();
        // The graph shares the weights; they can be changed in place once it is gone.
        drop(slope);
        let by_words = words.and_then(|words| words.grad_remove(&mut gradients));
        let by_words = match by_words {
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

/// The loss of sentences under a CRF, and what has its gradient: the gradient is known, so that
/// the loss itself need not be on the tape.
fn of_sentences(
    bert: &Bert,
    crf: &Crf,
    logits: Tensor<2>,
    (targets, sets): (&[&[usize]], &TagSets),
    total: f64,
) -> Result<(f32, Tensor<1>), Error> {
    let (shape, device) = (logits.dims(), logits.device().inner());
    let mut scores = values(logits.clone().inner())?;
    let (loss, by_weights) = crf.gradients(&mut scores, targets, sets, total);
    let by_logits = Tensor::<2>::from_data(TensorData::new(scores, shape), &device);
    let slope = (logits * by_logits).sum();
    let along = bert.along_crf(&by_weights).ok_or(Error::NoHead)?;
    Ok((loss, slope + along))
}
