//! Tagging of many sentences: cut to windows, batched by length, put together again.

use std::ops::ControlFlow;

use fedner_shared::scheme::HeadTags;

use crate::{Encoded, Error, Model, Tagged, Tokenizer};

/// A model with what it needs to tag words.
#[derive(Debug, Clone, Copy)]
pub struct Tagger<'a> {
    pub model: &'a Model,
    pub tokenizer: &'a Tokenizer,
    /// Of the model's head, in order.
    pub tags: &'a [String],
    /// Longer sentences are read in overlapping windows of this many sub-tokens, or of as many as
    /// the model can read.
    pub max_tokens: usize,
    /// Windows tagged together.
    pub batch: usize,
}

impl Tagger<'_> {
    /// Tags every word of every sentence; `None` for a word without a sub-token. `observer` is
    /// told how many windows are done, of how many, and may stop the work.
    pub fn tag(
        &self,
        sentences: &[&[String]],
        observer: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<Option<Tagged>>>, Error> {
        let (expected, found) = (self.tags.len(), self.model.tags());
        if expected != found {
            return Err(Error::Tags { expected, found });
        }
        let limit = self.max_tokens.min(self.model.max_tokens());
        let windows = self.tokenizer.windows_of_all(sentences.to_vec(), limit)?;
        let counts: Vec<usize> = windows.iter().map(Vec::len).collect();
        let windows: Vec<Encoded> = windows.into_iter().flatten().collect();
        let mut tagged = self.tag_windows(&windows, observer)?.into_iter();
        let sentence = |count| tagged.by_ref().take(count).flatten().collect();
        Ok(counts.into_iter().map(sentence).collect())
    }

    fn tag_windows(
        &self,
        windows: &[Encoded],
        observer: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<Option<Tagged>>>, Error> {
        let mut order: Vec<usize> = (0..windows.len()).collect();
        order.sort_by_key(|index| windows[*index].ids.len());
        let mut tagged = vec![Vec::new(); windows.len()];
        let mut done = 0;
        for indices in order.chunks(self.batch.max(1)) {
            let batch: Vec<&Encoded> = indices.iter().map(|index| &windows[*index]).collect();
            for (index, words) in indices.iter().zip(self.model.tag(&batch)?) {
                tagged[*index] = words;
            }
            done += indices.len();
            if observer(done, windows.len()).is_break() {
                let (step, steps) = (done, windows.len());
                return Err(Error::Stopped { step, steps });
            }
        }
        Ok(tagged)
    }

    /// The tags of a sentence's words: `O` for a word without a sub-token, and in IOB2 where the
    /// head's scheme is another.
    pub(crate) fn names(&self, words: &[Option<Tagged>], head: Option<&HeadTags>) -> Vec<String> {
        let name = |word: &Option<Tagged>| match word {
            Some(word) => self.tags[word.tag].clone(),
            None => "O".to_owned(),
        };
        let mut names: Vec<String> = words.iter().map(name).collect();
        if let Some(head) = head {
            head.to_iob2(&mut names);
        }
        names
    }
}
