//! Splitting a real corpus between institutions.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fedner_shared::score::entities;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A corpus folder's files, found by name.
#[derive(Debug, Clone)]
pub struct Folder {
    pub train: PathBuf,
    pub devel: PathBuf,
    pub test: PathBuf,
}

impl Folder {
    pub fn find(directory: &Path) -> Result<Self> {
        let entries =
            fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
        let files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.is_file())
            .collect();
        let find = |names: &[&str]| {
            let named = |path: &&PathBuf| {
                let stem = path
                    .file_stem()
                    .and_then(|stem| stem.to_str())
                    .unwrap_or_default()
                    .to_lowercase();
                names
                    .iter()
                    .any(|name| stem == *name || stem.ends_with(&format!(".{name}")))
            };
            files.iter().find(named).cloned().with_context(|| {
                format!(
                    "{} has no file called {}",
                    directory.display(),
                    names.join(" or ")
                )
            })
        };
        Ok(Self {
            train: find(&["train"])?,
            devel: find(&["devel", "dev", "valid", "validation"])?,
            test: find(&["test"])?,
        })
    }
}

/// A sentence as its lines of CoNLL text.
pub type Sentence = Vec<String>;

/// The sentences of a CoNLL file, their comments left out.
pub fn sentences(path: &Path) -> Result<Vec<Sentence>> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let mut all = Vec::new();
    let mut open: Sentence = Vec::new();
    for line in text.lines().map(str::trim_end) {
        let comment = line.starts_with("# ") && line.contains(" = ");
        if line.is_empty() || line.starts_with("-DOCSTART-") || comment {
            if !open.is_empty() {
                all.push(std::mem::take(&mut open));
            }
        } else {
            open.push(line.to_owned());
        }
    }
    if !open.is_empty() {
        all.push(open);
    }
    if all.is_empty() {
        bail!("{} has no sentences", path.display());
    }
    Ok(all)
}

/// The entity types of the sentences.
pub fn labels(sentences: &[Sentence]) -> BTreeSet<String> {
    sentences
        .iter()
        .flat_map(|sentence| types(sentence.as_slice()))
        .collect()
}

fn types(sentence: &[String]) -> Vec<String> {
    let tags: Vec<&str> = sentence
        .iter()
        .filter_map(|line| line.split_whitespace().next_back())
        .collect();
    entities(&tags).into_iter().map(|span| span.label).collect()
}

/// Deals the sentences to `parts` institutions in an order drawn from `seed`.
///
/// `skew` from 0 to 1 is the part of the sentences that goes to the institution to which the
/// sentence's first entity type, or its having none, is assigned; the rest is dealt evenly.
pub fn split(mut all: Vec<Sentence>, parts: usize, skew: f64, seed: u64) -> Vec<Vec<Sentence>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    all.shuffle(&mut rng);
    let known: Vec<String> = labels(&all).into_iter().collect();
    let mut dealt = vec![Vec::new(); parts];
    let mut next = 0;
    for sentence in all {
        let first = types(&sentence).into_iter().next();
        let home = first
            .and_then(|label| known.iter().position(|known| *known == label))
            .map_or(0, |index| index + 1);
        if rng.random::<f64>() < skew {
            dealt[home % parts].push(sentence);
        } else {
            dealt[next % parts].push(sentence);
            next += 1;
        }
    }
    dealt
}

/// Writes sentences as CoNLL text.
pub fn write(path: &Path, sentences: &[Sentence]) -> Result<()> {
    let mut text = String::new();
    for sentence in sentences {
        for line in sentence {
            text.push_str(line);
            text.push('\n');
        }
        text.push('\n');
    }
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Sentence> {
        let sentence =
            |n: usize| vec![format!("word{n}\tO"), format!("x\tB-{}", ["A", "B"][n % 2])];
        (0..100).map(sentence).collect()
    }

    #[test]
    fn a_split_loses_nothing_and_follows_its_seed() {
        let parts = split(sample(), 3, 0.0, 7);
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [34, 33, 33]);
        assert_eq!(parts, split(sample(), 3, 0.0, 7));
        assert_ne!(parts, split(sample(), 3, 0.0, 8));
        let mut all: Vec<Sentence> = parts.concat();
        all.sort();
        let mut original = sample();
        original.sort();
        assert_eq!(all, original);
    }

    #[test]
    fn a_full_skew_gives_each_type_one_home() {
        let parts = split(sample(), 2, 1.0, 7);
        for part in parts {
            assert_eq!(labels(&part).len(), 1);
        }
    }
}
