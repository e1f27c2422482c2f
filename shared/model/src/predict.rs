//! Entities in plain text.

use std::ops::Range;

use fedner_shared::score;
use serde::Serialize;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use crate::{Encoded, Error, Model, Tagged, Tokenizer};

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

/// Sentences tagged together.
const BATCH: usize = 16;

/// Finds the entities of a plain text.
///
/// Words are split at white space and around punctuation, as BERT's own pre-tokeniser does, and
/// the text is read sentence by sentence; a sentence longer than `max_tokens` sub-tokens is read
/// in parts.
pub fn predict_text(
    model: &Model,
    tokenizer: &Tokenizer,
    tags: &[String],
    text: &str,
    max_tokens: usize,
) -> Result<Vec<Entity>, Error> {
    if model.tags() != tags.len() {
        let (expected, found) = (tags.len(), model.tags());
        return Err(Error::Tags { expected, found });
    }
    let words = words(text)?;
    let limit = max_tokens.min(model.max_tokens());
    let mut parts = Vec::new();
    for sentence in sentences(text, &words) {
        split_to_fit(tokenizer, &words, sentence, limit, &mut parts)?;
    }
    let mut tagged = Vec::with_capacity(words.len());
    for batch in parts.chunks(BATCH) {
        let encoded: Vec<&Encoded> = batch.iter().collect();
        tagged.extend(model.tag(&encoded)?);
    }
    let mut entities = Vec::new();
    let mut first = 0;
    for part in &tagged {
        let words = &words[first..first + part.len()];
        first += part.len();
        entities.extend(entities_of(text, words, part, tags));
    }
    Ok(entities)
}

/// A word of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    text: String,
    /// In bytes.
    bytes: Range<usize>,
    /// In characters.
    start: usize,
    end: usize,
}

fn words(text: &str) -> Result<Vec<Word>, Error> {
    let fault = |error: tokenizers::Error| Error::Encode {
        words: text.chars().take(80).collect(),
        reason: error.to_string(),
    };
    let mut split = PreTokenizedString::from(text);
    BertPreTokenizer.pre_tokenize(&mut split).map_err(fault)?;
    let mut words = Vec::new();
    // Characters up to `counted` bytes into the text.
    let (mut characters, mut counted) = (0, 0);
    for (word, (from, to), _) in split.get_splits(OffsetReferential::Original, OffsetType::Byte) {
        characters += text[counted..from].chars().count();
        let end = characters + text[from..to].chars().count();
        words.push(Word {
            text: word.to_owned(),
            bytes: from..to,
            start: characters,
            end,
        });
        (characters, counted) = (end, to);
    }
    Ok(words)
}

/// Ranges of words that are sentences: up to a line's end, or up to `.`, `!` or `?` before white
/// space and a word that does not begin in lower case.
fn sentences(text: &str, words: &[Word]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for (index, pair) in words.windows(2).enumerate() {
        let between = &text[pair[0].bytes.end..pair[1].bytes.start];
        let stop = matches!(pair[0].text.as_str(), "." | "!" | "?") && !between.is_empty();
        let begins = !pair[1].text.starts_with(char::is_lowercase);
        if between.contains('\n') || (stop && begins) {
            found.push(start..index + 1);
            start = index + 1;
        }
    }
    if start < words.len() {
        found.push(start..words.len());
    }
    found
}

/// Encodes a sentence whole, or in halves of halves that fit.
fn split_to_fit(
    tokenizer: &Tokenizer,
    words: &[Word],
    range: Range<usize>,
    limit: usize,
    parts: &mut Vec<Encoded>,
) -> Result<(), Error> {
    let texts: Vec<String> = words[range.clone()]
        .iter()
        .map(|w| w.text.clone())
        .collect();
    let whole = tokenizer.encode(&texts, usize::MAX)?;
    if whole.ids.len() > limit && range.len() > 1 {
        let middle = range.start + range.len() / 2;
        split_to_fit(tokenizer, words, range.start..middle, limit, parts)?;
        return split_to_fit(tokenizer, words, middle..range.end, limit, parts);
    }
    parts.push(if whole.ids.len() > limit {
        tokenizer.encode(&texts, limit)?
    } else {
        whole
    });
    Ok(())
}

fn entities_of<'a>(
    text: &'a str,
    words: &'a [Word],
    tagged: &'a [Option<Tagged>],
    tags: &[String],
) -> impl Iterator<Item = Entity> + use<'a> {
    let own: Vec<&str> = tagged
        .iter()
        .map(|word| word.map_or("O", |word| tags[word.tag].as_str()))
        .collect();
    score::entities(&own).into_iter().map(move |span| {
        let (first, last) = (&words[span.start], &words[span.end - 1]);
        let probabilities = tagged[span.start..span.end].iter().flatten();
        let sum: f32 = probabilities.map(|word| word.probability).sum();
        Entity {
            label: span.label,
            start: first.start,
            end: last.end,
            text: text[first.bytes.start..last.bytes.end].to_owned(),
            score: sum / (span.end - span.start) as f32,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_sentences_keep_their_places() {
        let text = "Früh: Zöliakie (type-2). Then\u{a0}e.g. flu!\nEnd";
        let words = words(text).expect("words");
        let texts: Vec<&str> = words.iter().map(|w| w.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "Früh",
                ":",
                "Zöliakie",
                "(",
                "type",
                "-",
                "2",
                ")",
                ".",
                "Then",
                "e",
                ".",
                "g",
                ".",
                "flu",
                "!",
                "End"
            ]
        );
        let characters: Vec<char> = text.chars().collect();
        for word in &words {
            assert_eq!(
                characters[word.start..word.end].iter().collect::<String>(),
                word.text
            );
            assert_eq!(&text[word.bytes.clone()], word.text);
        }
        assert_eq!(sentences(text, &words), [0..9, 9..16, 16..17]);
        assert_eq!(super::words("").expect("none"), []);
    }
}
