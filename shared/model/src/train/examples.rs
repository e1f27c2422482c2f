//! What is learnt from: encoded sentences and the tags of their words.

use fedner_shared::bert::BertConfig;
use fedner_shared::plan::Training;

use super::tag_sets::TagSets;
use crate::{Encoded, Error, Sentence, Tokenizer};

/// A sentence, or a window of a long one, with the tags to learn.
#[derive(Debug)]
pub(crate) struct Example {
    /// Its number in the corpus.
    pub(crate) sentence: usize,
    pub(crate) encoded: Encoded,
    /// One a word that has a sub-token, as the [`TagSets`] have them.
    pub(crate) targets: Vec<usize>,
}

/// What there is to learn from a corpus. One sentence that cannot be encoded, and there is nothing.
pub(crate) fn examples(
    config: &BertConfig,
    tokenizer: &Tokenizer,
    sets: &TagSets,
    corpus: &[Sentence],
    training: &Training,
) -> Result<Vec<Example>, Error> {
    let limit = training.max_tokens.min(config.max_position_embeddings);
    let windows = tokenizer.windows_of_sentences(corpus, limit)?;
    let mut examples = Vec::with_capacity(corpus.len());
    for (number, (sentence, windows)) in corpus.iter().zip(windows).enumerate() {
        add(&mut examples, (number, sentence), windows, (config, sets))?;
    }
    Ok(examples)
}

/// The same, but a sentence that cannot be encoded is left out: what one unit's text does must change
/// nothing about what others add.
pub(super) fn sound_examples(
    config: &BertConfig,
    tokenizer: &Tokenizer,
    sets: &TagSets,
    corpus: &[Sentence],
    training: &Training,
) -> Vec<Example> {
    if let Ok(examples) = examples(config, tokenizer, sets, corpus, training) {
        return examples;
    }
    let limit = training.max_tokens.min(config.max_position_embeddings);
    let (mut all, mut left_out) = (Vec::with_capacity(corpus.len()), 0usize);
    for (number, sentence) in corpus.iter().enumerate() {
        let windows = tokenizer.windows_of_sentences(std::slice::from_ref(sentence), limit);
        let windows = windows.map(|windows| windows.into_iter().flatten().collect());
        let mut own = Vec::new();
        let added =
            windows.and_then(|windows| add(&mut own, (number, sentence), windows, (config, sets)));
        match added {
            Ok(()) => all.append(&mut own),
            Err(_) => left_out += 1,
        }
    }
    tracing::warn!("sentences that cannot be encoded, left out of training: {left_out}");
    all
}

fn add(
    examples: &mut Vec<Example>,
    (number, sentence): (usize, &Sentence),
    windows: Vec<Encoded>,
    (config, sets): (&BertConfig, &TagSets),
) -> Result<(), Error> {
    let mut targets = targets(sentence, sets)?.into_iter();
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
    Ok(())
}

/// What each word may be tagged with.
fn targets(sentence: &Sentence, sets: &TagSets) -> Result<Vec<usize>, Error> {
    let tags = sets.tags();
    let target = |tag: &String| {
        let found = tags.iter().position(|known| known == tag);
        let found = found.map(|tag| sets.target(tag, sentence));
        found.ok_or_else(|| Error::UnknownTag {
            tag: tag.clone(),
            line: sentence.line,
            expected: tags.to_vec(),
        })
    };
    sentence.tags.iter().map(target).collect()
}
