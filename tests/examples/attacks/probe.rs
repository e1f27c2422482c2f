//! What a frozen encoder makes of held-out text, once for all heads that are scored on it.
//!
//! A head whose weight is the identity has the features for scores, so that they come from the model
//! itself.

use anyhow::{Context, Result};
use fedner_model::device::Device;
use fedner_model::{Encoded, Model, Sentence, Tagged, Tokenizer};
use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::plan::Plan;

/// Sentences that run through the encoder together.
const TOGETHER: usize = 16;

/// The features of each sentence's words.
#[derive(Debug)]
pub(crate) struct Features {
    width: usize,
    sentences: Vec<Vec<f32>>,
    /// For each word of each sentence, whether it has features.
    present: Vec<Vec<bool>>,
}

impl Features {
    /// `checkpoint` has the head of the plan.
    pub(crate) fn new(
        checkpoint: &Checkpoint,
        tokenizer: &Tokenizer,
        sentences: &[Sentence],
        plan: &Plan,
    ) -> Result<Self> {
        let width = checkpoint.config.head_width();
        let probe = checkpoint.clone().with_new_head(width, 0);
        let manifest = probe.config.manifest(&plan.trainable(), width);
        let mut identity = Vec::with_capacity(manifest.dimension());
        for spec in &manifest.tensors {
            if spec.name == "classifier.weight" {
                let one = |place| f32::from(u8::from(place % (width + 1) == 0));
                identity.extend((0..width * width).map(one));
            } else {
                identity.resize(identity.len() + spec.len(), 0.0);
            }
        }
        let model = Model::load(&probe.with_weights(&manifest, &identity)?, Device::Cpu)?;
        let encoded = sentences
            .iter()
            .map(|s| tokenizer.encode(&s.words, plan.training.max_tokens));
        let encoded: Vec<Encoded> = encoded.collect::<Result<_, _>>()?;
        let mut order: Vec<usize> = (0..encoded.len()).collect();
        order.sort_by_key(|index| encoded[*index].ids.len());
        let mut all = vec![Vec::new(); encoded.len()];
        for indices in order.chunks(TOGETHER) {
            let batch: Vec<&Encoded> = indices.iter().map(|index| &encoded[*index]).collect();
            let features = model.logits(&batch)?;
            let mut rest = features.as_slice();
            for index in indices {
                let words = encoded[*index].first.iter().flatten().count();
                let (own, others) = rest.split_at(words * width);
                all[*index] = own.to_vec();
                rest = others;
            }
        }
        let present = encoded
            .iter()
            .map(|e| e.first.iter().map(Option::is_some).collect());
        Ok(Self {
            width,
            sentences: all,
            present: present.collect(),
        })
    }

    /// The tags that a head gives, as `model`, whose head is of the same shape, chooses them.
    pub(crate) fn tags(
        &self,
        model: &Model,
        weight: &[f32],
        bias: &[f32],
        tags: &[String],
    ) -> Result<Vec<Vec<String>>> {
        let mut all = Vec::with_capacity(self.sentences.len());
        for (rows, present) in self.sentences.iter().zip(&self.present) {
            let scores = rows.chunks_exact(self.width).flat_map(|row| {
                let of = weight.chunks_exact(self.width).zip(bias);
                of.map(move |(w, b)| b + w.iter().zip(row).map(|(w, x)| w * x).sum::<f32>())
            });
            let chosen: Vec<Tagged> = model.choose(&scores.collect::<Vec<_>>());
            let mut chosen = chosen.into_iter();
            let mut own = Vec::with_capacity(present.len());
            for present in present {
                let tag = if *present {
                    chosen.next().context("a word without a tag")?.tag
                } else {
                    0
                };
                own.push(tags[tag].clone());
            }
            all.push(own);
        }
        Ok(all)
    }
}
