//! Words counted by tag, `O` included, as scikit-learn's `classification_report` does.

use std::collections::BTreeMap;

use fedner_shared::score::Counts;
use serde::Serialize;

/// Words by tag.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct TokenReport {
    /// Every tag that a word has or was given.
    pub by_tag: BTreeMap<String, Counts>,
}

/// Precision, recall and F1 of a tag or of an average.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct TagCounts {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
    /// How many words have the tag.
    pub support: u64,
}

impl TokenReport {
    /// Counts one sentence.
    pub fn count(&mut self, gold: &[String], predicted: &[String]) {
        for (gold, predicted) in gold.iter().zip(predicted) {
            if gold == predicted {
                self.tag(gold).true_positives += 1;
            } else {
                self.tag(gold).false_negatives += 1;
                self.tag(predicted).false_positives += 1;
            }
        }
    }

    fn tag(&mut self, tag: &str) -> &mut Counts {
        self.by_tag.entry(tag.to_owned()).or_default()
    }

    /// Each tag with its scores.
    pub fn rows(&self) -> impl Iterator<Item = (&str, TagCounts)> {
        self.by_tag
            .iter()
            .map(|(tag, counts)| (tag.as_str(), TagCounts::of(*counts)))
    }

    /// All words together. Every word has one tag, so that precision, recall and F1 are all the
    /// accuracy.
    pub fn micro(&self) -> TagCounts {
        let mut total = Counts::default();
        self.by_tag.values().for_each(|counts| total.add(*counts));
        TagCounts::of(total)
    }

    /// The mean over the tags.
    pub fn macro_average(&self) -> TagCounts {
        self.average(|_| 1.0)
    }

    /// The mean over the tags, each as often as words have it.
    pub fn weighted(&self) -> TagCounts {
        self.average(|tag| tag.support as f64)
    }

    fn average(&self, weight: impl Fn(&TagCounts) -> f64) -> TagCounts {
        let mut mean = TagCounts::default();
        let mut weights = 0.0;
        for (_, tag) in self.rows() {
            let weight = weight(&tag);
            weights += weight;
            mean.precision += weight * tag.precision;
            mean.recall += weight * tag.recall;
            mean.f1 += weight * tag.f1;
            mean.support += tag.support;
        }
        if weights > 0.0 {
            mean.precision /= weights;
            mean.recall /= weights;
            mean.f1 /= weights;
        }
        mean
    }
}

impl TagCounts {
    fn of(counts: Counts) -> Self {
        Self {
            precision: counts.precision(),
            recall: counts.recall(),
            f1: counts.f1(),
            support: counts.support(),
        }
    }
}
