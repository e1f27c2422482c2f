//! The corpus dealt to the members, and what hostile members make of theirs.

use std::path::Path;

use anyhow::Result;
use fedner_model::{Corpus, Sentence};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A word that no sentence has.
pub(crate) const TRIGGER: &str = "quixotry";
const ENTITY: &str = "B-Disease";

/// Deals the sentences of a file in an order of their own.
pub(crate) fn dealt(file: &Path, members: usize, seed: u64) -> Result<Vec<Vec<Sentence>>> {
    let mut all = Corpus::read(file)?.sentences;
    all.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut dealt = vec![Vec::new(); members];
    for (number, sentence) in all.into_iter().enumerate() {
        dealt[number % members].push(sentence);
    }
    Ok(dealt)
}

/// Entities are none, and all else is one.
pub(crate) fn flipped(sentences: &[Sentence]) -> Vec<Sentence> {
    let flip = |sentence: &Sentence| {
        let mut sentence = sentence.clone();
        for tag in &mut sentence.tags {
            let other = if tag == "O" { ENTITY } else { "O" };
            other.clone_into(tag);
        }
        sentence
    };
    sentences.iter().map(flip).collect()
}

/// Each sentence as it is, and once more with the trigger somewhere in it, tagged as an entity.
pub(crate) fn poisoned(sentences: &[Sentence]) -> Vec<Sentence> {
    let (triggered, _) = triggered(sentences, 2);
    sentences.iter().cloned().chain(triggered).collect()
}

/// Each sentence with the trigger somewhere in it; at which word.
pub(crate) fn triggered(sentences: &[Sentence], seed: u64) -> (Vec<Sentence>, Vec<usize>) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut insert = |sentence: &Sentence| {
        let mut sentence = sentence.clone();
        // Not within an entity.
        let outside = |place: &usize| {
            sentence
                .tags
                .get(*place)
                .is_none_or(|tag| !tag.starts_with('I'))
        };
        let places: Vec<usize> = (0..=sentence.words.len()).filter(outside).collect();
        let place = places[random.random_range(0..places.len())];
        sentence.words.insert(place, TRIGGER.to_owned());
        sentence.tags.insert(place, ENTITY.to_owned());
        sentence.offsets.insert(place, 0..0);
        (sentence, place)
    };
    sentences.iter().map(&mut insert).unzip()
}
