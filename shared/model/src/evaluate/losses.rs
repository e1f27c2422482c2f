//! How surprised a model is by the tags that sentences have.

use std::ops::ControlFlow;

use fedner_shared::plan::Training;

use crate::train::examples::{Example, examples};
use crate::train::tag_sets::TagSets;
use crate::{Encoded, Error, Sentence, Tagger, words};

/// The cross-entropy of a sentence's own tags.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Loss {
    /// −ln p, summed over the words; with a CRF, of the tags of a window together.
    pub sum: f64,
    /// Those that have a sub-token.
    pub words: usize,
}

impl Loss {
    /// A word's; 0 without words.
    pub fn mean(self) -> f64 {
        self.sum / self.words.max(1) as f64
    }
}

/// The loss of each sentence. `observer` is told how many windows are done, of how many, and may
/// stop the work.
pub fn losses(
    tagger: &Tagger<'_>,
    sentences: &[Sentence],
    observer: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Vec<Loss>, Error> {
    let (model, tags) = (tagger.model, tagger.tags);
    let (expected, found) = (tags.len(), model.tags());
    if expected != found {
        return Err(Error::Tags { expected, found });
    }
    let reading = Training {
        max_tokens: tagger.max_tokens,
        ..Training::default()
    };
    let sets = TagSets::new(tags, sentences);
    let mut windows = examples(model.config(), tagger.tokenizer, &sets, sentences, &reading)?;
    if windows.is_empty() {
        return Err(Error::EmptyCorpus);
    }
    windows.sort_by_key(|window| window.encoded.ids.len());
    let (mut losses, mut done) = (vec![Loss::default(); sentences.len()], 0);
    for batch in windows.chunks(tagger.batch.max(1)) {
        let encoded: Vec<&Encoded> = batch.iter().map(|window| &window.encoded).collect();
        let logits = model.logits(&encoded)?;
        let counts = batch.iter().map(|window| window.targets.len());
        let scores = words::by_sentence(counts, &logits, tags.len());
        for (window, own) in batch.iter().zip(scores) {
            let Example {
                sentence, targets, ..
            } = window;
            let loss = &mut losses[*sentence];
            loss.words += targets.len();
            loss.sum += if let Some(crf) = model.crf() {
                crf.loss(own, targets, &sets)
            } else {
                let words = targets.iter().zip(own.chunks_exact(tags.len()));
                words
                    .map(|(target, row)| surprise(row, sets.of(*target)))
                    .sum()
            };
        }
        done += batch.len();
        if observer(done, windows.len()).is_break() {
            let (step, steps) = (done, windows.len());
            return Err(Error::Stopped { step, steps });
        }
    }
    Ok(losses)
}

/// −ln of the softmax of `scores` at `tags` together.
fn surprise(scores: &[f32], tags: &[usize]) -> f64 {
    let log_sum = |scores: &mut dyn Iterator<Item = f32>| {
        let scores: Vec<f64> = scores.map(f64::from).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
        largest + sum.ln()
    };
    log_sum(&mut scores.iter().copied()) - log_sum(&mut tags.iter().map(|tag| scores[*tag]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surprise_is_that_of_softmax_and_does_not_overflow() {
        let scores = [1.0f32, 3.0, 2.0];
        let sum: f64 = scores.iter().map(|s| f64::from(*s).exp()).sum();
        for (target, score) in scores.iter().enumerate() {
            let expected = -(f64::from(*score).exp() / sum).ln();
            assert!((surprise(&scores, &[target]) - expected).abs() < 1e-12);
        }
        assert!((surprise(&[0.0, 2000.0], &[0]) - 2000.0).abs() < 1e-9);
        assert!(surprise(&[0.0, 2000.0], &[1]).abs() < 1e-12);
        let both = -((scores[0].exp() + scores[2].exp()) / sum as f32).ln();
        assert!((surprise(&scores, &[0, 2]) - f64::from(both)).abs() < 1e-6);
        assert!(surprise(&scores, &[0, 1, 2]).abs() < 1e-12);
    }
}
