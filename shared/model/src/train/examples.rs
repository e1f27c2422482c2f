//! What is learnt from: encoded sentences and the tags of their words.

use fedner_shared::bert::BertConfig;
use fedner_shared::plan::Training;

use crate::{Encoded, Error, Sentence, Tokenizer};

/// A sentence, or a window of a long one, with the tags to learn.
#[derive(Debug)]
pub(crate) struct Example {
    /// Its number in the corpus.
    pub(crate) sentence: usize,
    pub(crate) encoded: Encoded,
    /// One a word that has a sub-token, as an index into the tags.
    pub(crate) targets: Vec<usize>,
}

pub(crate) fn examples(
    config: &BertConfig,
    tokenizer: &Tokenizer,
    tags: &[String],
    corpus: &[Sentence],
    training: &Training,
) -> Result<Vec<Example>, Error> {
    let limit = training.max_tokens.min(config.max_position_embeddings);
    let windows = tokenizer.windows_of_sentences(corpus, limit)?;
    let mut examples = Vec::with_capacity(corpus.len());
    for (number, (sentence, windows)) in corpus.iter().zip(windows).enumerate() {
        let mut targets = targets(sentence, tags)?.into_iter();
        for encoded in windows {
            crate::model::check_ids(&[&encoded], config)?;
            let own = encoded.first.iter().zip(targets.by_ref());
            let kept = own.filter_map(|(first, target)| first.map(|_| target));
            let targets: Vec<usize> = kept.collect();
            // A window without a word that the tokenizer knows has nothing to learn from.
            if !targets.is_empty() {
                examples.push(Example {
                    sentence: number,
                    encoded,
                    targets,
                });
            }
        }
    }
    Ok(examples)
}

/// The tag of each word, as an index into the tags.
fn targets(sentence: &Sentence, tags: &[String]) -> Result<Vec<usize>, Error> {
    let target = |tag: &String| {
        let found = tags.iter().position(|known| known == tag);
        found.ok_or_else(|| Error::UnknownTag {
            tag: tag.clone(),
            line: sentence.line,
            expected: tags.to_vec(),
        })
    };
    sentence.tags.iter().map(target).collect()
}
