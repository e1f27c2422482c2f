//! A model to tag with.

use std::sync::Arc;

use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::Checkpoint;

use crate::bert::{Batch, Bert, Dropout, values};
use crate::crf::Crf;
use crate::device::Device;
use crate::inference::{Encoder, Head};
use crate::tagged::{Tagged, most_probable};
use crate::{Encoded, Error, words};

/// What gives words their scores.
#[derive(Debug, Clone)]
enum Scorer {
    /// On the processor.
    Processor(Arc<(Encoder, Head)>),
    /// On any other device.
    Tensors(Box<Bert>),
}

/// An encoder with a tagging head, ready to tag.
#[derive(Debug, Clone)]
pub struct Model {
    config: BertConfig,
    scorer: Scorer,
    crf: Option<Crf>,
    /// Chooses the tags of a sentence together: the CRF, or what keeps to IOB2.
    decoder: Option<Crf>,
    tags: usize,
    device: Device,
}

impl Model {
    /// Builds the model of a checkpoint that has a head, adapters merged into the weights: what an
    /// export of the checkpoint says.
    pub fn load(checkpoint: &Checkpoint, device: Device) -> Result<Self, Error> {
        let merged;
        let checkpoint = if checkpoint.config.adapters.is_some() {
            merged = checkpoint.clone().merged();
            &merged
        } else {
            checkpoint
        };
        let tags = checkpoint.tags().ok_or(Error::NoHead)?;
        let crf = Crf::from_checkpoint(checkpoint)?;
        let decoder = if checkpoint.config.head.iob2 {
            let field = crf.clone().unwrap_or_else(|| Crf::indifferent(tags));
            Some(field.keeping_to_iob2())
        } else {
            crf.clone()
        };
        let scorer = if device == Device::Cpu {
            let (encoder, head) = (Encoder::load(checkpoint)?, Head::load(checkpoint)?);
            Scorer::Processor(Arc::new((encoder, head)))
        } else {
            Scorer::Tensors(Box::new(Bert::load(checkpoint, &device.plain())?))
        };
        Ok(Self {
            config: checkpoint.config.clone(),
            tags,
            scorer,
            crf,
            decoder,
            device,
        })
    }

    /// How many tags the head has.
    pub fn tags(&self) -> usize {
        self.tags
    }

    pub(crate) fn crf(&self) -> Option<&Crf> {
        self.crf.as_ref()
    }

    pub(crate) fn config(&self) -> &BertConfig {
        &self.config
    }

    /// The longest sentence the model can read, in sub-tokens with the special ones.
    pub fn max_tokens(&self) -> usize {
        self.config.max_position_embeddings
    }

    /// The scores of each tag before softmax or CRF, for the words of each sentence that have a
    /// sub-token: row-major [words, tags].
    pub fn logits(&self, sentences: &[&Encoded]) -> Result<Vec<f32>, Error> {
        check_ids(sentences, &self.config)?;
        match &self.scorer {
            Scorer::Processor(model) => {
                let (encoder, head) = model.as_ref();
                Ok(head.scores(sentences, &encoder.features(sentences)))
            }
            Scorer::Tensors(bert) => {
                let padding = self.config.pad_token_id;
                let batch = Batch::new(sentences, padding, &self.device.plain());
                if batch.count == 0 {
                    return Ok(Vec::new());
                }
                let logits = bert.logits(bert.begin(&batch), &batch, &mut Dropout::none());
                values(logits.ok_or(Error::NoHead)?)
            }
        }
    }

    /// Tags every word of every sentence; `None` for a word without a sub-token.
    pub fn tag(&self, sentences: &[&Encoded]) -> Result<Vec<Vec<Option<Tagged>>>, Error> {
        let logits = self.logits(sentences)?;
        let counts = sentences.iter().map(|sentence| sentence.words());
        let own = words::by_sentence(counts, &logits, self.tags);
        let tagged = sentences.iter().zip(own).map(|(sentence, own)| {
            let mut own = self.choose(own).into_iter();
            let words = sentence.first.iter();
            words.map(|first| first.and_then(|_| own.next())).collect()
        });
        Ok(tagged.collect())
    }

    /// The tags of a sentence's words from their [scores](Self::logits).
    pub fn choose(&self, scores: &[f32]) -> Vec<Tagged> {
        match &self.decoder {
            Some(decoder) => decoder.most_probable(scores),
            None => scores.chunks_exact(self.tags).map(most_probable).collect(),
        }
    }
}

/// A sentence that is too long, or an id that the model has no embedding for, comes from another
/// model's tokenizer or limit.
pub(crate) fn check_ids(sentences: &[&Encoded], config: &BertConfig) -> Result<(), Error> {
    let (vocabulary, expected) = (config.vocab_size, config.max_position_embeddings);
    for Encoded { ids, .. } in sentences {
        if ids.len() > expected {
            let found = ids.len();
            return Err(Error::Length { found, expected });
        }
        if let Some(found) = ids.iter().find(|id| **id as usize >= vocabulary) {
            let found = *found;
            return Err(Error::Vocabulary { found, vocabulary });
        }
    }
    Ok(())
}
