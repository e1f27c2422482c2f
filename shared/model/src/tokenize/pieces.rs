//! The word pieces of each distinct word, found once.
//!
//! A pre-tokenised sentence is encoded word by word: normaliser, pre-tokeniser and model see one
//! word alone, so that its pieces are the same wherever it stands.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use tokenizers::EncodeInput;
use tokenizers::InputSequence::PreTokenizedOwned;

use crate::Error;

/// Distinct words that are remembered. Those of a large corpus come again and again; most of the
/// words after these would come once.
const REMEMBERED: usize = 1 << 18;

#[derive(Debug, Default)]
pub(super) struct Pieces {
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Where the pieces of a word stand in `ids`.
    words: HashMap<Box<str>, (u32, u32)>,
    ids: Vec<u32>,
}

impl Known {
    fn get(&self, word: &str) -> Option<&[u32]> {
        let (start, end) = *self.words.get(word)?;
        Some(&self.ids[start as usize..end as usize])
    }

    fn insert(&mut self, word: &str, pieces: &[u32]) {
        if self.words.len() >= REMEMBERED || self.words.contains_key(word) {
            return;
        }
        let start = self.ids.len() as u32;
        self.ids.extend_from_slice(pieces);
        let end = self.ids.len() as u32;
        self.words.insert(word.into(), (start, end));
    }
}

impl Pieces {
    /// Appends the pieces of all words to `ids`, and to `first` the position of each word's first.
    pub(super) fn append(
        &self,
        tokenizer: &tokenizers::Tokenizer,
        words: &[String],
        ids: &mut Vec<u32>,
        first: &mut Vec<Option<usize>>,
    ) -> Result<(), Error> {
        let mut done = 0;
        loop {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            while let Some(pieces) = words.get(done).and_then(|word| known.get(word)) {
                push(pieces, ids, first);
                done += 1;
            }
            drop(known);
            let Some(word) = words.get(done) else {
                return Ok(());
            };
            let pieces = pieces(tokenizer, word)?;
            push(&pieces, ids, first);
            done += 1;
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            known.insert(word, &pieces);
        }
    }
}

fn push(pieces: &[u32], ids: &mut Vec<u32>, first: &mut Vec<Option<usize>>) {
    first.push((!pieces.is_empty()).then_some(ids.len()));
    ids.extend_from_slice(pieces);
}

fn pieces(tokenizer: &tokenizers::Tokenizer, word: &str) -> Result<Vec<u32>, Error> {
    let input = EncodeInput::Single(PreTokenizedOwned(vec![word.to_owned()].into()));
    let encoding = tokenizer
        .encode_fast(input, false)
        .map_err(|error| Error::Encode {
            words: word.to_owned(),
            reason: error.to_string(),
        })?;
    Ok(encoding.get_ids().to_vec())
}
