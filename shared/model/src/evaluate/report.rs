//! Precision, recall and F1 by name, and their averages: seqeval's for entities, those of
//! scikit-learn's `classification_report` for words, `O` included.

use std::collections::BTreeMap;

use fedner_shared::score::Counts;
use serde::Serialize;

use crate::Sentence;

/// Words by tag.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct TokenReport {
    /// Every tag that a word has or was given.
    pub by_tag: BTreeMap<String, Counts>,
}

/// Precision, recall and F1 of a type, a tag or an average.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct TagCounts {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
    /// How many there really are.
    pub support: u64,
}

/// The averages over types or tags.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Averages {
    /// All together. Of tags, of which each word has one, precision, recall and F1 are all the
    /// accuracy.
    pub micro: TagCounts,
    /// The mean.
    #[serde(rename = "macro")]
    pub macro_average: TagCounts,
    /// The mean, each as often as it really is there.
    pub weighted: TagCounts,
}

impl TokenReport {
    /// Counts one sentence. A word outside of every entity that is given a type which the sentence does not
    /// annotate is left out: nothing says whether that is right.
    pub fn count(&mut self, sentence: &Sentence, predicted: &[String]) {
        for (gold, predicted) in sentence.tags.iter().zip(predicted) {
            let known = sentence.annotates(predicted);
            if gold == predicted {
                self.tag(gold).true_positives += 1;
            } else if known || gold.contains('-') {
                self.tag(gold).false_negatives += 1;
                if known {
                    self.tag(predicted).false_positives += 1;
                }
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
            .map(|(tag, counts)| (tag.as_str(), TagCounts::from_counts(*counts)))
    }
}

impl TagCounts {
    pub fn from_counts(counts: Counts) -> Self {
        Self {
            precision: counts.precision(),
            recall: counts.recall(),
            f1: counts.f1(),
            support: counts.support(),
        }
    }
}

impl Averages {
    pub fn from_counts(counts: &BTreeMap<String, Counts>) -> Self {
        let mut total = Counts::default();
        for counts in counts.values() {
            total.add(*counts);
        }
        Self {
            micro: TagCounts::from_counts(total),
            macro_average: mean(counts, |_| 1.0),
            weighted: mean(counts, |own| own.support as f64),
        }
    }
}

fn mean(counts: &BTreeMap<String, Counts>, weight: impl Fn(&TagCounts) -> f64) -> TagCounts {
    let mut mean = TagCounts::default();
    let mut weights = 0.0;
    for own in counts
        .values()
        .map(|counts| TagCounts::from_counts(*counts))
    {
        let weight = weight(&own);
        weights += weight;
        mean.precision += weight * own.precision;
        mean.recall += weight * own.recall;
        mean.f1 += weight * own.f1;
        mean.support += own.support;
    }
    if weights > 0.0 {
        mean.precision /= weights;
        mean.recall /= weights;
        mean.f1 /= weights;
    }
    mean
}
