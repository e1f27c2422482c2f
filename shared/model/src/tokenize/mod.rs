//! Words to sub-tokens, with the `tokenizers` crate.

mod closed;
mod pieces;
mod windows;

use std::path::Path;
use std::sync::Arc;

use fedner_shared::tokenizer;
use rayon::prelude::*;
use tokenizers::EncodeInput;
use tokenizers::InputSequence::PreTokenizedOwned;

use self::pieces::Pieces;
use crate::{Error, Sentence};

/// A Hugging Face tokenizer.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    /// The special tokens before the words: `[CLS]`.
    prefix: Vec<u32>,
    /// Those after them: `[SEP]`.
    suffix: Vec<u32>,
    unknown: u32,
    pieces: Arc<Pieces>,
}

/// A sentence, or a window of it, as the model reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Sub-tokens, `[CLS]` and `[SEP]` included.
    pub ids: Vec<u32>,
    /// The position in `ids` of the first sub-token of each word that is to be tagged here.
    /// `None` for a word of which none is left: one that the normaliser deletes, or one cut off
    /// by the length limit.
    pub first: Vec<Option<usize>>,
}

impl Encoded {
    /// How many words are to be tagged.
    pub(crate) fn words(&self) -> usize {
        self.first.iter().flatten().count()
    }
}

/// Parts of a file that encoding does without.
const UNUSED: [&str; 3] = ["decoder", "padding", "truncation"];

impl Tokenizer {
    /// Reads `tokenizer.json`.
    pub fn read(path: &Path) -> Result<Self, Error> {
        match std::fs::read(path) {
            Ok(json) => Self::parse(&json),
            Err(error) => Err(Error::Tokenizer(format!("{}: {error}", path.display()))),
        }
    }

    /// Reads the contents of `tokenizer.json`. Truncation and padding of its own are dropped:
    /// they are set for another task, and the limit here comes from plan and model.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let fault = |error: tokenizers::Error| Error::Tokenizer(error.to_string());
        tokenizer::check(json, None).map_err(|error| Error::Tokenizer(error.to_string()))?;
        let mut file: serde_json::Value =
            serde_json::from_slice(json).map_err(|error| Error::Tokenizer(error.to_string()))?;
        if let Some(parts) = file.as_object_mut() {
            // What is not used is not handed on, so that nothing in it can go wrong.
            parts.retain(|part, _| !UNUSED.contains(&part.as_str()));
        }
        let inner = tokenizers::Tokenizer::from_bytes(file.to_string()).map_err(fault)?;
        let unknown = closed::check(&inner)?;
        let (prefix, suffix) = special_tokens(&inner)?;
        Ok(Self {
            unknown,
            inner: Arc::new(inner),
            prefix,
            suffix,
            pieces: Arc::default(),
        })
    }

    /// How many word pieces there are, added ones included.
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Refuses a tokenizer with a number that a model of so many word embeddings lacks: it would fail
    /// where that word piece occurs.
    pub fn check_vocabulary(&self, vocabulary: usize) -> Result<(), Error> {
        let largest = self.inner.get_vocab(true).into_values().max().unwrap_or(0);
        if (largest as usize) < vocabulary {
            return Ok(());
        }
        let found = largest;
        Err(Error::Vocabulary { found, vocabulary })
    }

    /// The word piece that stands for what the vocabulary cannot spell.
    pub fn unknown(&self) -> u32 {
        self.unknown
    }

    /// How many special tokens a sentence has.
    pub fn special(&self) -> usize {
        self.prefix.len() + self.suffix.len()
    }

    /// Encodes a sentence, cut to `max_tokens` sub-tokens with the special ones.
    pub fn encode(&self, words: &[String], max_tokens: usize) -> Result<Encoded, Error> {
        let (mut ids, mut first) = (self.prefix.clone(), Vec::with_capacity(words.len()));
        self.pieces
            .append(&self.inner, words, &mut ids, &mut first)?;
        let kept = max_tokens
            .saturating_sub(self.suffix.len())
            .max(self.prefix.len());
        if ids.len() > kept {
            ids.truncate(kept);
            for position in &mut first {
                *position = position.filter(|position| *position < kept);
            }
        }
        ids.extend_from_slice(&self.suffix);
        Ok(Encoded { ids, first })
    }

    /// Encodes a sentence, in overlapping windows where it has more than `max_tokens` sub-tokens
    /// with the special ones. Each word is to be tagged in one window, that in which it has most
    /// context, and the windows' words are those of the sentence in order.
    pub fn windows(&self, words: &[String], max_tokens: usize) -> Result<Vec<Encoded>, Error> {
        let least = self.special() + 1;
        if max_tokens < least {
            let found = max_tokens;
            return Err(Error::Window { found, least });
        }
        let whole = self.encode(words, usize::MAX)?;
        Ok(windows::cut(
            whole,
            max_tokens,
            self.prefix.len(),
            self.suffix.len(),
        ))
    }

    /// The windows of each sentence, made on all cores.
    pub fn windows_of_all<'a>(
        &self,
        sentences: impl IntoParallelIterator<Item = &'a [String], Iter: IndexedParallelIterator>,
        max_tokens: usize,
    ) -> Result<Vec<Vec<Encoded>>, Error> {
        let sentences = sentences.into_par_iter().with_min_len(64);
        sentences
            .map(|words| self.windows(words, max_tokens))
            .collect()
    }

    pub(crate) fn windows_of_sentences(
        &self,
        sentences: &[Sentence],
        max_tokens: usize,
    ) -> Result<Vec<Vec<Encoded>>, Error> {
        let words = sentences.par_iter().map(|s| s.words.as_slice());
        self.windows_of_all(words, max_tokens)
    }
}

/// The tokens that the post-processor puts before and after the words, as it does with one word.
fn special_tokens(inner: &tokenizers::Tokenizer) -> Result<(Vec<u32>, Vec<u32>), Error> {
    let probe = EncodeInput::Single(PreTokenizedOwned(vec!["a".to_owned()].into()));
    let encoding = inner
        .encode(probe, true)
        .map_err(|error| Error::Tokenizer(error.to_string()))?;
    let (ids, origins) = (encoding.get_ids(), encoding.get_word_ids());
    let special = |origin: &&Option<u32>| origin.is_none();
    let before = origins.iter().take_while(special).count();
    if before == ids.len() {
        let message = "it has no word piece for `a`, not even an unknown one";
        return Err(Error::Tokenizer(message.to_owned()));
    }
    let after = origins.iter().rev().take_while(special).count();
    Ok((ids[..before].to_vec(), ids[ids.len() - after..].to_vec()))
}
