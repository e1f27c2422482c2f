//! Words to sub-tokens, with the `tokenizers` crate.

use std::path::Path;

use rayon::prelude::*;
use tokenizers::EncodeInput;
use tokenizers::InputSequence::PreTokenizedOwned;

use crate::{Error, Sentence};

/// A Hugging Face tokenizer.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
}

/// A sentence as the model reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Sub-tokens, `[CLS]` and `[SEP]` included.
    pub ids: Vec<u32>,
    /// The position in `ids` of each word's first sub-token. `None` for a word of which none is
    /// left: one that the normaliser deletes, or one cut off by the length limit.
    pub first: Vec<Option<usize>>,
}

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
        let mut inner = tokenizers::Tokenizer::from_bytes(json)
            .map_err(|error| Error::Tokenizer(error.to_string()))?;
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| Error::Tokenizer(error.to_string()))?;
        Ok(Self { inner })
    }

    /// How many word pieces there are, added ones included.
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Encodes a sentence, cut to `max_tokens` sub-tokens with the special ones.
    pub fn encode(&self, words: &[String], max_tokens: usize) -> Result<Encoded, Error> {
        let input = EncodeInput::Single(PreTokenizedOwned(words.into()));
        let encoding = self
            .inner
            .encode(input, true)
            .map_err(|error| Error::Encode {
                words: words.join(" "),
                reason: error.to_string(),
            })?;
        let mut ids = encoding.get_ids().to_vec();
        let origins = encoding.get_word_ids();
        // The special tokens at the end stay when the words before them are cut off.
        let suffix = origins.iter().rev().take_while(|o| o.is_none()).count();
        let kept = ids.len().min(max_tokens.max(suffix)) - suffix;
        let cut = ids.len() - suffix;
        ids.drain(kept..cut);
        let mut first = vec![None; words.len()];
        for (position, origin) in origins[..kept].iter().enumerate() {
            let Some(word) = *origin else { continue };
            first[word as usize].get_or_insert(position);
        }
        Ok(Encoded { ids, first })
    }

    /// Encodes sentences on all cores.
    pub(crate) fn encode_all<'a>(
        &self,
        sentences: impl IntoParallelIterator<Item = &'a [String], Iter: IndexedParallelIterator>,
        max_tokens: usize,
    ) -> Result<Vec<Encoded>, Error> {
        sentences
            .into_par_iter()
            .map(|words| self.encode(words, max_tokens))
            .collect()
    }

    pub(crate) fn encode_sentences(
        &self,
        sentences: &[Sentence],
        max_tokens: usize,
    ) -> Result<Vec<Encoded>, Error> {
        self.encode_all(sentences.par_iter().map(|s| s.words.as_slice()), max_tokens)
    }
}
