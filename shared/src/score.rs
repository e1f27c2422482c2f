//! Entity-level scores, counted as seqeval and conlleval count them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Entities of one type: matched exactly, predicted wrongly, missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    pub true_positives: u64,
    pub false_positives: u64,
    pub false_negatives: u64,
}

impl Counts {
    /// The part of the predicted entities that are right; 0 where nothing was predicted.
    pub fn precision(&self) -> f64 {
        ratio(
            self.true_positives,
            self.true_positives + self.false_positives,
        )
    }

    /// The part of the real entities that were found; 0 where there are none.
    pub fn recall(&self) -> f64 {
        ratio(self.true_positives, self.support())
    }

    /// The harmonic mean of precision and recall.
    pub fn f1(&self) -> f64 {
        let doubled = 2 * self.true_positives;
        ratio(
            doubled,
            doubled + self.false_positives + self.false_negatives,
        )
    }

    /// How many entities there really are.
    pub fn support(&self) -> u64 {
        self.true_positives + self.false_negatives
    }

    pub fn add(&mut self, other: Self) {
        self.true_positives = self.true_positives.saturating_add(other.true_positives);
        self.false_positives = self.false_positives.saturating_add(other.false_positives);
        self.false_negatives = self.false_negatives.saturating_add(other.false_negatives);
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// Counts for each entity type.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scores {
    pub by_type: BTreeMap<String, Counts>,
}

impl Scores {
    /// All types together: the micro average.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        for counts in self.by_type.values() {
            total.add(*counts);
        }
        total
    }

    /// Counts of several corpora together.
    pub fn merge(&mut self, other: &Self) {
        for (label, counts) in &other.by_type {
            self.by_type.entry(label.clone()).or_default().add(*counts);
        }
    }
}

/// An entity in a sentence: its type and its words, `start` up to but not including `end`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    pub label: String,
    pub start: usize,
    pub end: usize,
}

/// The entities of a tag sequence, as seqeval's default mode reads it (`seqeval.metrics.sequence_labeling.get_entities`):
/// an `I-` that follows no tag of its type begins an entity too.
pub fn entities<S: AsRef<str>>(tags: &[S]) -> Vec<Span> {
    let mut found: Vec<Span> = Vec::new();
    let mut open: Option<(&str, usize)> = None;
    for (index, tag) in tags.iter().map(AsRef::as_ref).enumerate() {
        let (prefix, label) = tag.split_once('-').unwrap_or(("O", ""));
        let continues = prefix == "I" && open.is_some_and(|(current, _)| current == label);
        if continues {
            continue;
        }
        if let Some((label, start)) = open.take() {
            found.push(Span {
                label: label.to_owned(),
                start,
                end: index,
            });
        }
        if prefix != "O" {
            open = Some((label, index));
        }
    }
    if let Some((label, start)) = open {
        found.push(Span {
            label: label.to_owned(),
            start,
            end: tags.len(),
        });
    }
    found
}

/// The entities of a tag sequence, as seqeval's strict mode reads it (`seqeval.scheme.IOB2`):
/// those that begin with `B-`; an `I-` that follows no tag of its type is in no entity.
pub fn strict_entities<S: AsRef<str>>(tags: &[S]) -> Vec<Span> {
    let mut found = entities(tags);
    found.retain(|span| tags[span.start].as_ref().starts_with("B-"));
    found
}

impl Scores {
    /// Counts one sentence: `gold` and `predicted` hold a tag for each word.
    pub fn count<S: AsRef<str>, T: AsRef<str>>(&mut self, gold: &[S], predicted: &[T]) {
        self.count_entities(&entities(gold), &entities(predicted));
    }

    /// Counts one sentence as seqeval's strict mode does.
    pub fn count_strict<S: AsRef<str>, T: AsRef<str>>(&mut self, gold: &[S], predicted: &[T]) {
        self.count_entities(&strict_entities(gold), &strict_entities(predicted));
    }

    fn count_entities(&mut self, gold: &[Span], predicted: &[Span]) {
        for span in gold {
            let counts = self.by_type.entry(span.label.clone()).or_default();
            if predicted.contains(span) {
                counts.true_positives += 1;
            } else {
                counts.false_negatives += 1;
            }
        }
        for span in predicted.iter().filter(|span| !gold.contains(span)) {
            self.by_type
                .entry(span.label.clone())
                .or_default()
                .false_positives += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(tags: &[&str]) -> Vec<(String, usize, usize)> {
        entities(tags)
            .into_iter()
            .map(|s| (s.label, s.start, s.end))
            .collect()
    }

    #[test]
    fn entities_are_those_of_seqeval() {
        let x = |start, end| ("X".to_owned(), start, end);
        let y = |start, end| ("Y".to_owned(), start, end);
        assert_eq!(spans(&["O", "B-X", "I-X", "O"]), [x(1, 3)]);
        assert_eq!(spans(&["B-X", "B-X", "I-X"]), [x(0, 1), x(1, 3)]);
        assert_eq!(spans(&["I-X", "I-X"]), [x(0, 2)]);
        assert_eq!(spans(&["B-X", "I-Y", "I-X"]), [x(0, 1), y(1, 2), x(2, 3)]);
        assert_eq!(spans(&["O", "O"]), []);
        assert_eq!(spans(&["O", "I-X"]), [x(1, 2)]);
        assert_eq!(spans(&["B-A-B", "I-A-B"]), [("A-B".to_owned(), 0, 2)]);
    }

    #[test]
    fn strict_entities_begin_with_b() {
        let found = strict_entities(&["I-X", "B-X", "I-X", "I-Y", "B-Y", "B-X"]);
        let places: Vec<_> = found
            .iter()
            .map(|s| (s.label.as_str(), s.start..s.end))
            .collect();
        assert_eq!(places, [("X", 1..3), ("Y", 4..5), ("X", 5..6)]);
        let mut scores = Scores::default();
        scores.count_strict(&["B-X", "O", "I-X"], &["B-X", "O", "I-X"]);
        assert_eq!(scores.total().support(), 1);
    }

    #[test]
    fn counts_give_precision_recall_and_f1() {
        let mut scores = Scores::default();
        scores.count(&["B-X", "I-X", "O", "B-Y"], &["B-X", "I-X", "B-X", "O"]);
        assert_eq!(
            scores.by_type["X"],
            Counts {
                true_positives: 1,
                false_positives: 1,
                false_negatives: 0
            }
        );
        assert_eq!(
            scores.by_type["Y"],
            Counts {
                true_positives: 0,
                false_positives: 0,
                false_negatives: 1
            }
        );
        assert!((scores.total().f1() - 0.5).abs() < 1e-12);
        assert!(Counts::default().f1().abs() < 1e-12);
    }
}
