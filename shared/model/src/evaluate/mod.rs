//! Scores of a model on annotated text.

mod confusion;
mod errors;
mod losses;
mod pairs;
mod report;

use std::borrow::Cow;
use std::ops::ControlFlow;

use fedner_shared::scheme::{HeadTags, Scheme};
use fedner_shared::score::{self, Scores};
use serde::Serialize;

use self::pairs::Pair;
use crate::{Error, Model, Sentence, Tagger, Tokenizer};

pub use confusion::{Confused, Confusion};
pub use errors::{Example, Frequent, Named};
pub use losses::{Loss, losses};
pub use pairs::Mistake;
pub use report::{Averages, TagCounts, TokenReport};

/// How well a model tags a corpus.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Entities, as seqeval and conlleval count them.
    pub scores: Scores,
    /// Entities as seqeval's strict mode counts them: those that begin with `B-`.
    pub strict: Scores,
    /// Entities by the places that the corpus gives them: one that had to be widened to whole words
    /// or left out is a miss.
    pub offsets: Scores,
    /// Words, by tag.
    pub tokens: TokenReport,
    /// Types taken for other types.
    pub confusion: Confusion,
    /// The tag of every word of every sentence.
    #[serde(skip)]
    pub predictions: Vec<Vec<String>>,
}

/// Tags `sentences` and compares with their own tags.
///
/// `tags` are those of the model's head, in order; a sentence of more than `max_tokens` sub-tokens
/// is read in windows, `batch` windows at a time. `observer` is told how many windows are done, of
/// how many, and may stop the evaluation.
pub fn evaluate(
    model: &Model,
    tokenizer: &Tokenizer,
    tags: &[String],
    sentences: &[Sentence],
    max_tokens: usize,
    batch: usize,
    observer: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Evaluation, Error> {
    let tagger = Tagger {
        model,
        tokenizer,
        tags,
        max_tokens,
        batch,
    };
    let words: Vec<&[String]> = sentences.iter().map(|s| s.words.as_slice()).collect();
    let tagged = tagger.tag(&words, observer)?;
    let head = HeadTags::read(tags).ok();
    let ends = |head: &HeadTags| matches!(head.scheme, Scheme::Iobes | Scheme::Bilou);
    let strict = head.as_ref().filter(|head| ends(head)).map(|_| {
        let mut strict = Scores::default();
        for (sentence, words) in sentences.iter().zip(&tagged) {
            let predicted = tagger.names(words, None);
            strict.count_strict_with_ends(&sentence.tags, &annotated(sentence, &predicted));
        }
        strict
    });
    let tagged = tagged.iter();
    let predictions = tagged
        .map(|words| tagger.names(words, head.as_ref()))
        .collect();
    let evaluation = Evaluation::new(sentences, predictions);
    Ok(match strict {
        Some(strict) => Evaluation {
            strict,
            ..evaluation
        },
        None => evaluation,
    })
}

impl Evaluation {
    /// Compares the tags of `sentences` with those predicted, a tag a word. What is predicted of a type
    /// that a sentence does not annotate counts neither as right nor as wrong.
    pub fn new(sentences: &[Sentence], predictions: Vec<Vec<String>>) -> Self {
        let (mut scores, mut strict) = (Scores::default(), Scores::default());
        let (mut tokens, mut offsets) = (TokenReport::default(), Scores::default());
        for (sentence, predicted) in sentences.iter().zip(&predictions) {
            tokens.count(sentence, predicted);
            let predicted = &annotated(sentence, predicted);
            scores.count(&sentence.tags, predicted);
            strict.count_strict(&sentence.tags, predicted);
            count_offsets(&mut offsets, sentence, predicted);
        }
        let pairs = paired(sentences, &predictions);
        Self {
            scores,
            strict,
            offsets,
            tokens,
            confusion: Confusion::of(pairs.iter().flatten()),
            predictions,
        }
    }

    /// The counts of each unit, of which `units` has the number of each sentence's.
    pub fn scores_by(&self, sentences: &[Sentence], units: &[usize]) -> Vec<Scores> {
        let count = units.iter().max().map_or(0, |largest| largest + 1);
        let mut scores = vec![Scores::default(); count];
        let pairs = sentences.iter().zip(&self.predictions);
        for ((sentence, predicted), unit) in pairs.zip(units) {
            scores[*unit].count(&sentence.tags, &annotated(sentence, predicted));
        }
        scores
    }

    /// The `most` mistakes that the predictions for `sentences` make most often. They quote the
    /// text: they are not to leave the machine.
    pub fn errors(&self, sentences: &[Sentence], most: usize) -> Vec<Frequent> {
        errors::frequent(sentences, &paired(sentences, &self.predictions), most)
    }
}

/// The predicted tags that count for a sentence: those of types that it does not annotate are outside.
fn annotated<'a>(sentence: &Sentence, predicted: &'a [String]) -> Cow<'a, [String]> {
    if sentence.annotated.is_none() {
        return Cow::Borrowed(predicted);
    }
    let counted = |tag: &String| {
        let tag = if sentence.annotates(tag) { tag } else { "O" };
        tag.to_owned()
    };
    Cow::Owned(predicted.iter().map(counted).collect())
}

/// Counts the entities of a sentence by the places that the corpus gives them.
fn count_offsets(scores: &mut Scores, sentence: &Sentence, predicted: &[String]) {
    let gold = score::entities(&sentence.tags);
    let predicted = score::entities(predicted);
    let exact = |span: &&score::Span| !sentence.inexact.contains(&span.start);
    for span in &gold {
        let counts = scores.by_type.entry(span.label.clone()).or_default();
        if exact(&span) && predicted.contains(span) {
            counts.true_positives += 1;
        } else {
            counts.false_negatives += 1;
        }
    }
    for label in &sentence.lost {
        scores
            .by_type
            .entry(label.clone())
            .or_default()
            .false_negatives += 1;
    }
    for span in &predicted {
        if !gold.iter().filter(exact).any(|gold| gold == span) {
            let counts = scores.by_type.entry(span.label.clone()).or_default();
            counts.false_positives += 1;
        }
    }
}

fn paired(sentences: &[Sentence], predictions: &[Vec<String>]) -> Vec<Vec<Pair>> {
    let both = sentences.iter().zip(predictions);
    both.map(|(sentence, predicted)| pairs::pairs(&sentence.tags, &annotated(sentence, predicted)))
        .collect()
}
