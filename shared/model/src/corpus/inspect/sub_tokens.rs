//! How a tokenizer cuts the words of a file.

use rayon::prelude::*;
use serde::Serialize;

use super::super::Error;
use super::lengths::{Histogram, Lengths};
use crate::Tokenizer;

/// Sub-tokens of a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SubTokens {
    /// Without the special ones.
    pub total: usize,
    /// Those that stand for a word, or a part of one, that the vocabulary cannot spell.
    pub unknown: usize,
    /// `unknown` by `total`.
    pub unknown_rate: f64,
    /// Words of which the tokenizer leaves nothing.
    pub empty_words: usize,
    /// Sub-tokens a sentence, with the special ones.
    pub lengths: Lengths,
    /// The limit that the next figures refer to.
    pub max_tokens: usize,
    /// Sentences that are longer, which are read in several windows.
    pub longer_sentences: usize,
    /// Windows that all sentences are read in.
    pub windows: usize,
    /// Words past the limit, which a reader without windows would cut off.
    pub words_past: usize,
}

/// Sentences encoded together, on all cores.
const TOGETHER: usize = 1024;

/// Counts sub-tokens.
pub(super) struct Counter<'a> {
    tokenizer: &'a Tokenizer,
    pending: Vec<Vec<String>>,
    lengths: Histogram,
    found: SubTokens,
    failed: Option<crate::Error>,
}

impl<'a> Counter<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, max_tokens: usize) -> Self {
        Self {
            tokenizer,
            pending: Vec::with_capacity(TOGETHER),
            lengths: Histogram::default(),
            found: SubTokens {
                total: 0,
                unknown: 0,
                unknown_rate: 0.0,
                empty_words: 0,
                lengths: Lengths::default(),
                max_tokens,
                longer_sentences: 0,
                windows: 0,
                words_past: 0,
            },
            failed: None,
        }
    }

    pub(super) fn add(&mut self, words: Vec<String>) {
        self.pending.push(words);
        if self.pending.len() == TOGETHER {
            self.flush();
        }
    }

    pub(super) fn finish(mut self) -> Result<SubTokens, Error> {
        self.flush();
        if let Some(error) = self.failed {
            return Err(Error::Tokenize(Box::new(error)));
        }
        let found = &mut self.found;
        found.lengths = self.lengths.lengths();
        found.unknown_rate = found.unknown as f64 / found.total.max(1) as f64;
        Ok(self.found)
    }

    fn flush(&mut self) {
        let sentences = std::mem::take(&mut self.pending);
        let limit = self.found.max_tokens;
        let measured: Result<Vec<Measured>, crate::Error> = sentences
            .par_iter()
            .map(|words| Measured::of(self.tokenizer, words, limit))
            .collect();
        match measured {
            Ok(measured) => measured.iter().for_each(|sentence| self.count(sentence)),
            Err(error) => {
                self.failed.get_or_insert(error);
            }
        }
    }

    fn count(&mut self, sentence: &Measured) {
        let found = &mut self.found;
        self.lengths.add(sentence.length);
        found.total += sentence.length - self.tokenizer.special();
        found.unknown += sentence.unknown;
        found.empty_words += sentence.empty_words;
        found.longer_sentences += usize::from(sentence.length > found.max_tokens);
        found.windows += sentence.windows;
        found.words_past += sentence.words_past;
    }
}

/// The figures of one sentence.
struct Measured {
    /// With the special tokens.
    length: usize,
    unknown: usize,
    empty_words: usize,
    windows: usize,
    words_past: usize,
}

impl Measured {
    fn of(tokenizer: &Tokenizer, words: &[String], limit: usize) -> Result<Self, crate::Error> {
        let whole = tokenizer.encode(words, usize::MAX)?;
        let length = whole.ids.len();
        let unknown = |id: &&u32| **id == tokenizer.unknown();
        let empty = |first: &[Option<usize>]| first.iter().filter(|f| f.is_none()).count();
        let empty_words = empty(&whole.first);
        let (windows, words_past) = if length > limit {
            let cut = tokenizer.encode(words, limit)?;
            let windows = tokenizer.windows(words, limit)?;
            (windows.len(), empty(&cut.first) - empty_words)
        } else {
            (1, 0)
        };
        Ok(Self {
            length,
            unknown: whole.ids.iter().filter(unknown).count(),
            empty_words,
            windows,
            words_past,
        })
    }
}
