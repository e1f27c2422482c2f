//! A corpus, dealt to institutions that annotate some of its types.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use fedner_model::{Corpus, Sentence};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Types with the most words that are asked for.
const TYPES: usize = 11;

#[derive(Debug)]
pub(crate) struct Corpora {
    /// In an order of their own.
    train: Vec<Sentence>,
    /// Annotated in full.
    pub(crate) test: Vec<Sentence>,
    /// Those with the most words first.
    pub(crate) types: Vec<String>,
}

impl Corpora {
    pub(crate) fn read(folder: &Path, seed: u64) -> Result<Self> {
        let mut train = Corpus::read(&folder.join("train.tsv"))?.sentences;
        let types = most_frequent(&train);
        ensure!(types.len() == TYPES, "the corpus has {} types", types.len());
        train.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let test = Corpus::read(&folder.join("test.tsv"))?.sentences;
        Ok(Self {
            test: test.iter().map(|s| annotating(s, &types, None)).collect(),
            train,
            types,
        })
    }

    /// Every `of`th sentence from that number on, and of these the part of one member of so many.
    pub(crate) fn part(
        &self,
        (number, of): (usize, usize),
        (member, members): (usize, usize),
    ) -> Vec<Sentence> {
        let own = self.train.iter().skip(number).step_by(of);
        own.skip(member).step_by(members).cloned().collect()
    }
}

fn most_frequent(text: &[Sentence]) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for tag in text.iter().flat_map(|sentence| &sentence.tags) {
        if let Some((_, label)) = tag.split_once('-') {
            *counts.entry(label).or_default() += 1;
        }
    }
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let labels = sorted.into_iter().take(TYPES);
    labels.map(|(label, _)| label.to_owned()).collect()
}

/// What an institution that annotates `types` alone would have of the text, and declare.
pub(crate) fn annotated(text: &[Sentence], types: &[String]) -> Vec<Sentence> {
    let declared: Arc<[String]> = types.to_vec().into();
    let one = |sentence| annotating(sentence, types, Some(&declared));
    text.iter().map(one).collect()
}

/// The sentence with the tags of some types.
fn annotating(sentence: &Sentence, types: &[String], declared: Option<&Arc<[String]>>) -> Sentence {
    let mut sentence = sentence.clone();
    for tag in &mut sentence.tags {
        let is_own = |(_, label): (&str, &str)| types.iter().any(|own| own == label);
        if !tag.split_once('-').is_some_and(is_own) {
            "O".clone_into(tag);
        }
    }
    sentence.annotated = declared.cloned();
    sentence
}
