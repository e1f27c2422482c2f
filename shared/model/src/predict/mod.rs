//! Entities in plain text.

mod write;

use std::ops::{ControlFlow, Range};

use fedner_shared::scheme::HeadTags;
use fedner_shared::score;
use serde::Serialize;

use crate::split::{Word, sentences, words};
use crate::{Error, Model, Sentence, Tagged, Tagger, Tokenizer};

pub use write::{brat, conll, json_line};

/// An entity found in a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entity {
    pub label: String,
    /// Where it begins, in characters (Unicode scalar values) from the start of the text.
    pub start: usize,
    /// Where it ends: the position after its last character.
    pub end: usize,
    pub text: String,
    /// The mean over its words of the probability of the tag given.
    pub score: f32,
}

/// A text as a model reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The words with the tags given, rewritten as IOB2 where the model's are not.
    pub sentences: Vec<Sentence>,
    pub entities: Vec<Entity>,
}

/// Windows tagged together by [`predict_text`].
const BATCH: usize = 16;

/// Finds the entities of one plain text; see [`Tagger::predict`].
pub fn predict_text(
    model: &Model,
    tokenizer: &Tokenizer,
    tags: &[String],
    text: &str,
    max_tokens: usize,
) -> Result<Vec<Entity>, Error> {
    let tagger = Tagger {
        model,
        tokenizer,
        tags,
        max_tokens,
        batch: BATCH,
    };
    let predictions = tagger.predict(&[text], &mut |_, _| ControlFlow::Continue(()))?;
    Ok(predictions.into_iter().flat_map(|p| p.entities).collect())
}

impl Tagger<'_> {
    /// Finds the entities of plain texts, whose sentences are tagged in common batches.
    ///
    /// Words and sentences are those that corpora of plain text are read in: see [`crate::corpus`].
    /// Long sentences are read in windows.
    pub fn predict<T: AsRef<str>>(
        &self,
        texts: &[T],
        observer: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<Prediction>, Error> {
        let read = |text: &T| Read::of(text.as_ref());
        let read = texts.iter().map(read).collect::<Result<Vec<_>, Error>>()?;
        let words: Vec<Vec<String>> = read.iter().flat_map(Read::sentence_words).collect();
        let words: Vec<&[String]> = words.iter().map(Vec::as_slice).collect();
        let mut tagged = self.tag(&words, observer)?.into_iter();
        let head = HeadTags::read(self.tags).ok();
        let predict = |(text, read): (&T, &Read)| {
            let own: Vec<_> = tagged.by_ref().take(read.sentences.len()).collect();
            self.prediction(text.as_ref(), read, &own, head.as_ref())
        };
        Ok(texts.iter().zip(&read).map(predict).collect())
    }

    fn prediction(
        &self,
        text: &str,
        read: &Read,
        tagged: &[Vec<Option<Tagged>>],
        head: Option<&HeadTags>,
    ) -> Prediction {
        let mut prediction = Prediction {
            sentences: Vec::with_capacity(tagged.len()),
            entities: Vec::new(),
        };
        for (range, tagged) in read.sentences.iter().zip(tagged) {
            let words = &read.words[range.clone()];
            let given = self.names(tagged, head);
            let mut tags = vec!["O".to_owned(); words.len()];
            for span in score::entities(&given) {
                tags[span.start] = format!("B-{}", span.label);
                tags[span.start + 1..span.end].fill(format!("I-{}", span.label));
                let (first, last) = (&words[span.start], &words[span.end - 1]);
                prediction.entities.push(Entity {
                    start: first.characters.start,
                    end: last.characters.end,
                    text: text[first.bytes.start..last.bytes.end].to_owned(),
                    score: mean(&tagged[span.start..span.end]),
                    label: span.label,
                });
            }
            prediction.sentences.push(Sentence {
                words: words.iter().map(|word| word.text.clone()).collect(),
                offsets: words.iter().map(|word| word.characters.clone()).collect(),
                tags,
                ..Sentence::default()
            });
        }
        prediction
    }
}

fn mean(tagged: &[Option<Tagged>]) -> f32 {
    let probabilities = tagged.iter().flatten().map(|word| word.probability);
    probabilities.sum::<f32>() / tagged.len() as f32
}

/// A text split into words and sentences.
struct Read {
    words: Vec<Word>,
    sentences: Vec<Range<usize>>,
}

impl Read {
    fn of(text: &str) -> Result<Self, Error> {
        let words = words(text)?;
        Ok(Self {
            sentences: sentences(text, &words),
            words,
        })
    }

    fn sentence_words(&self) -> impl Iterator<Item = Vec<String>> {
        let words = |range: &Range<usize>| {
            let own = self.words[range.clone()].iter();
            own.map(|word| word.text.clone()).collect()
        };
        self.sentences.iter().map(words)
    }
}
