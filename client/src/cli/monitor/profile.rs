//! What a model finds in text, as shares, and how far two such profiles lie apart.

use std::collections::BTreeMap;

use fedner_model::{Prediction, Tokenizer};
use serde::{Deserialize, Serialize};

/// The version of the format of kept profiles.
const FORMAT: u32 = 1;

/// Upper ends of the classes of sentence lengths, in words; longer ones are a class of their own.
const LENGTHS: [usize; 6] = [5, 10, 20, 40, 80, 160];
/// Classes of an entity's score, of the same width.
const SCORES: usize = 10;
/// Added to each share, so that none is zero.
const LEAST: f64 = 1e-4;

/// Counts by class, of words, sentences and entities. Nothing of the text itself is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    format: u32,
    /// Digest of the weights of the model that it was made with.
    pub(super) model: String,
    pub(super) sentences: u64,
    pub(super) words: u64,
    /// Words by the type that they were given; `O` for none.
    types: BTreeMap<String, u64>,
    /// Entities by their score: `SCORES` classes from 0 to 1.
    scores: Vec<u64>,
    /// Sub-tokens that the vocabulary has, and that it lacks.
    known: [u64; 2],
    /// Sentences by their length: `LENGTHS` and one class more.
    lengths: Vec<u64>,
}

/// How far a feature has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Band {
    Stable,
    Moderate,
    Large,
}

/// A feature and its population stability index.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Moved {
    pub(super) feature: &'static str,
    pub(super) psi: f64,
    pub(super) band: Band,
}

impl Band {
    /// The usual bands of the index (Siddiqi 2006, chapter 8): below 0.1, up to 0.25, above.
    fn new(psi: f64) -> Self {
        if psi < 0.1 {
            Self::Stable
        } else if psi <= 0.25 {
            Self::Moderate
        } else {
            Self::Large
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Moderate => "moderate",
            Self::Large => "large",
        }
    }
}

impl Profile {
    /// Of no text, by the model whose weights have that digest.
    pub(super) fn new(model: String) -> Self {
        Self {
            format: FORMAT,
            model,
            scores: vec![0; SCORES],
            lengths: vec![0; LENGTHS.len() + 1],
            ..Self::default()
        }
    }

    /// Whether a file that says so is of this format, and of as many classes.
    pub(super) fn is_sound(&self) -> bool {
        self.format == FORMAT
            && self.scores.len() == SCORES
            && self.lengths.len() == LENGTHS.len() + 1
    }

    pub(super) fn add(
        &mut self,
        prediction: &Prediction,
        tokenizer: &Tokenizer,
        max_tokens: usize,
    ) -> Result<(), fedner_model::Error> {
        for sentence in &prediction.sentences {
            let words = sentence.words.len();
            self.sentences += 1;
            self.words += words as u64;
            let class = LENGTHS.iter().position(|most| words <= *most);
            self.lengths[class.unwrap_or(LENGTHS.len())] += 1;
            for tag in &sentence.tags {
                let label = tag.split_once('-').map_or("O", |(_, label)| label);
                *self.types.entry(label.to_owned()).or_default() += 1;
            }
            let encoded = tokenizer.encode(&sentence.words, max_tokens)?;
            // Without the first and the last, which are no text.
            let inner = encoded.ids.len().saturating_sub(1);
            for id in encoded.ids.get(1..inner).unwrap_or_default() {
                self.known[usize::from(*id == tokenizer.unknown())] += 1;
            }
        }
        for entity in &prediction.entities {
            let class = (f64::from(entity.score) * SCORES as f64) as usize;
            self.scores[class.min(SCORES - 1)] += 1;
        }
        Ok(())
    }

    /// How far this one has moved from `reference`, feature by feature.
    pub(super) fn moved_from(&self, reference: &Self) -> Vec<Moved> {
        let labels: std::collections::BTreeSet<&String> =
            self.types.keys().chain(reference.types.keys()).collect();
        let types = |profile: &Self| -> Vec<u64> {
            let of = |label: &&String| profile.types.get(*label).copied().unwrap_or_default();
            labels.iter().map(of).collect()
        };
        let features = [
            ("predicted types", types(reference), types(self)),
            (
                "entity scores",
                reference.scores.clone(),
                self.scores.clone(),
            ),
            (
                "unknown sub-tokens",
                reference.known.to_vec(),
                self.known.to_vec(),
            ),
            (
                "sentence lengths",
                reference.lengths.clone(),
                self.lengths.clone(),
            ),
        ];
        let moved = features.into_iter().map(|(feature, before, now)| {
            let psi = stability_index(&before, &now);
            Moved {
                feature,
                psi,
                band: Band::new(psi),
            }
        });
        moved.collect()
    }

    /// The share of words by type, and that of unknown sub-tokens.
    pub(super) fn shares(&self) -> (BTreeMap<&str, f64>, f64) {
        let of = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        let types = self.types.iter();
        let types = types.map(|(label, count)| (label.as_str(), of(*count, self.words)));
        let [known, unknown] = self.known;
        (types.collect(), of(unknown, known + unknown))
    }
}

/// The population stability index, Σ (qᵢ − pᵢ) ln(qᵢ / pᵢ) over the shares of the classes (Siddiqi 2006,
/// chapter 8): the sum of both Kullback-Leibler divergences. 0 of equal shares; 0 where one side is empty,
/// of which nothing can be said.
fn stability_index(before: &[u64], now: &[u64]) -> f64 {
    let sums = [before, now].map(|counts| counts.iter().sum::<u64>());
    if sums.contains(&0) {
        return 0.0;
    }
    let share = |count: u64, sum: u64| (count as f64 / sum as f64).max(LEAST);
    let pairs = before.iter().zip(now);
    let terms = pairs.map(|(before, now)| {
        let (p, q) = (share(*before, sums[0]), share(*now, sums[1]));
        (q - p) * (q / p).ln()
    });
    terms.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_that_of_the_formula() {
        assert!(stability_index(&[10, 30], &[100, 300]).abs() < 1e-12);
        let expected = (0.5 - 0.25) * (0.5f64 / 0.25).ln() + (0.5 - 0.75) * (0.5f64 / 0.75).ln();
        assert!((stability_index(&[10, 30], &[7, 7]) - expected).abs() < 1e-12);
        // A class that is new is far away, and finite.
        let new = stability_index(&[10, 0], &[5, 5]);
        assert!(new > 0.25 && new.is_finite());
        assert!(stability_index(&[0, 0], &[5, 5]).abs() < f64::EPSILON);
        let bands = [0.0, 0.1, 0.25, 0.26].map(Band::new);
        assert_eq!(
            bands,
            [Band::Stable, Band::Moderate, Band::Moderate, Band::Large]
        );
    }
}
