//! Scores of a model on annotated text.

mod report;

use std::ops::ControlFlow;

use fedner_shared::score::Scores;
use serde::Serialize;

use crate::{Encoded, Error, Model, Sentence, Tokenizer};

pub use report::{TagCounts, TokenReport};

/// How well a model tags a corpus.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Entities, as seqeval and conlleval count them.
    pub scores: Scores,
    /// Words, by tag.
    pub tokens: TokenReport,
    /// The tag of every word of every sentence.
    #[serde(skip)]
    pub predictions: Vec<Vec<String>>,
}

/// Tags `sentences` and compares with their own tags.
///
/// `tags` are those of the model's head, in order; sentences are cut to `max_tokens` sub-tokens,
/// and a word that is cut off counts as tagged `O`. `observer` is told how many sentences are
/// done, of how many, and may stop the evaluation.
pub fn evaluate(
    model: &Model,
    tokenizer: &Tokenizer,
    tags: &[String],
    sentences: &[Sentence],
    max_tokens: usize,
    batch: usize,
    observer: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Evaluation, Error> {
    let encoded = tokenizer.encode_sentences(sentences, max_tokens.min(model.max_tokens()))?;
    let predictions = predict(model, tags, &encoded, batch, observer)?;
    let mut scores = Scores::default();
    let mut tokens = TokenReport::default();
    for (sentence, predicted) in sentences.iter().zip(&predictions) {
        scores.count(&sentence.tags, predicted);
        tokens.count(&sentence.tags, predicted);
    }
    Ok(Evaluation {
        scores,
        tokens,
        predictions,
    })
}

/// The tag of each word, sentence by sentence.
fn predict(
    model: &Model,
    tags: &[String],
    encoded: &[Encoded],
    batch: usize,
    observer: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Vec<Vec<String>>, Error> {
    if model.tags() != tags.len() {
        return Err(Error::Tags {
            expected: tags.len(),
            found: model.tags(),
        });
    }
    let mut order: Vec<usize> = (0..encoded.len()).collect();
    order.sort_by_key(|index| encoded[*index].ids.len());
    let mut predictions = vec![Vec::new(); encoded.len()];
    let mut done = 0;
    for indices in order.chunks(batch.max(1)) {
        let sentences: Vec<&Encoded> = indices.iter().map(|index| &encoded[*index]).collect();
        for (index, words) in indices.iter().zip(model.tag(&sentences)?) {
            predictions[*index] = words
                .into_iter()
                .map(|word| word.map_or_else(|| "O".to_owned(), |word| tags[word.tag].clone()))
                .collect();
        }
        done += indices.len();
        if observer(done, encoded.len()).is_break() {
            return Err(Error::Stopped {
                step: done,
                steps: encoded.len(),
            });
        }
    }
    Ok(predictions)
}
