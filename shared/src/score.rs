//! Entity-level scores, counted as seqeval and conlleval count them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::scheme::{self, Position};

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
        let part = u128::from(self.true_positives);
        ratio(part, part + u128::from(self.false_positives))
    }

    /// The part of the real entities that were found; 0 where there are none.
    pub fn recall(&self) -> f64 {
        let part = u128::from(self.true_positives);
        ratio(part, part + u128::from(self.false_negatives))
    }

    /// The harmonic mean of precision and recall.
    pub fn f1(&self) -> f64 {
        // Of any counts whatever: four numbers of 64 bits fit into one of 128.
        let doubled = 2 * u128::from(self.true_positives);
        let wrong = u128::from(self.false_positives) + u128::from(self.false_negatives);
        ratio(doubled, doubled + wrong)
    }

    /// The standard deviation of F1, to first order, where each of the three counts has noise of deviation
    /// `sigma` of its own (delta method; Casella and Berger 2002, section 5.5.4). With D = 2 TP + FP + FN the
    /// derivatives are 2 (FP + FN) / D² in TP, and -2 TP / D² in FP and FN.
    pub fn f1_deviation(&self, sigma: f64) -> f64 {
        let hit = self.true_positives as f64;
        let wrong = self.false_positives as f64 + self.false_negatives as f64;
        let whole = 2.0 * hit + wrong;
        if whole <= 0.0 {
            return 0.0;
        }
        2.0 * sigma * (wrong * wrong + 2.0 * hit * hit).sqrt() / (whole * whole)
    }

    /// How many entities there really are; at the largest number where they are more than fit.
    pub fn support(&self) -> u64 {
        self.true_positives.saturating_add(self.false_negatives)
    }

    /// How many entities were predicted; at the largest number where they are more than fit.
    pub fn predicted(&self) -> u64 {
        self.true_positives.saturating_add(self.false_positives)
    }

    pub fn add(&mut self, other: Self) {
        self.true_positives = self.true_positives.saturating_add(other.true_positives);
        self.false_positives = self.false_positives.saturating_add(other.false_positives);
        self.false_negatives = self.false_negatives.saturating_add(other.false_negatives);
    }
}

/// The median; of an even number of values, the mean of the two in the middle.
///
/// One value among three or more cannot take it out of the range of the others.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// F1 of several corpora: of all counts added up, and the median of each one's own; `None` of none. One of
/// which no type was counted says nothing.
pub fn pooled_and_median<'a>(scores: impl IntoIterator<Item = &'a Scores>) -> Option<(f64, f64)> {
    let (mut all, mut each) = (Counts::default(), Vec::new());
    for scores in scores.into_iter().filter(|scores| !scores.is_empty()) {
        let total = scores.total();
        all.add(total);
        each.push(total.f1());
    }
    Some((all.f1(), median(each)?))
}

fn ratio(part: u128, whole: u128) -> f64 {
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

    /// Whether no type was counted.
    pub fn is_empty(&self) -> bool {
        self.by_type.is_empty()
    }

    /// Those of one type; none where it was not counted.
    pub fn of(&self, label: &str) -> Counts {
        self.by_type.get(label).copied().unwrap_or_default()
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

/// The entities of a tag sequence, as seqeval's strict mode reads IOBES and BILOU (`seqeval.scheme`):
/// `S-` alone, or `B-`, any `I-` and `E-` of one type. All else is in no entity.
pub fn strict_entities_with_ends<S: AsRef<str>>(tags: &[S]) -> Vec<Span> {
    let mut found = Vec::new();
    let mut open: Option<(&str, usize)> = None;
    for (index, tag) in tags.iter().map(AsRef::as_ref).enumerate() {
        let Some((position, label)) = scheme::split(tag) else {
            open = None;
            continue;
        };
        let goes_on = open.filter(|(current, _)| *current == label);
        let (start, closed) = match position {
            Position::Begin => (Some(index), false),
            Position::Single => (Some(index), true),
            Position::Inside => (goes_on.map(|(_, start)| start), false),
            Position::End => (goes_on.map(|(_, start)| start), true),
        };
        if let Some(start) = start.filter(|_| closed) {
            let label = label.to_owned();
            found.push(Span {
                label,
                start,
                end: index + 1,
            });
        }
        open = start.filter(|_| !closed).map(|start| (label, start));
    }
    found
}

impl Scores {
    /// Counts one sentence of IOB2 with predictions whose entities have ends, as seqeval's strict mode
    /// does.
    pub fn count_strict_with_ends<S: AsRef<str>, T: AsRef<str>>(
        &mut self,
        gold: &[S],
        predicted: &[T],
    ) {
        let predicted = strict_entities_with_ends(predicted);
        self.count_entities(&strict_entities(gold), &predicted);
    }

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
    use proptest::prelude::*;

    use super::*;

    /// Any number, and often one at an end of what there is.
    fn any_count() -> impl Strategy<Value = u64> {
        let edge = prop::sample::select(vec![0, 1, 1 << 63, (1 << 63) - 1, u64::MAX - 1, u64::MAX]);
        prop_oneof![any::<u64>(), edge]
    }

    proptest! {
        #[test]
        fn figures_of_any_counts_are_numbers_from_0_to_1(
            counts in prop::collection::vec((any_count(), any_count(), any_count()), 1..5),
        ) {
            let mut scores = Scores::default();
            let counts = counts.into_iter().map(|(true_positives, false_positives, false_negatives)| {
                Counts { true_positives, false_positives, false_negatives }
            });
            for counts in counts {
                let one = Scores { by_type: [("X".to_owned(), counts)].into() };
                scores.merge(&one);
                for total in [counts, scores.total()] {
                    for figure in [total.f1(), total.precision(), total.recall()] {
                        prop_assert!((0.0..=1.0).contains(&figure), "{total:?}: {figure}");
                    }
                    let most = total.true_positives.max(total.false_negatives);
                    prop_assert!(total.support() >= most && total.predicted() >= total.true_positives);
                }
            }
        }

        #[test]
        fn one_value_does_not_take_the_median_out_of_the_others(
            honest in prop::collection::vec(0.0f64..1.0, 2..8), liar in -1e300f64..1e300,
        ) {
            let found = median(honest.iter().copied().chain([liar])).expect("a median");
            let least = honest.iter().copied().fold(f64::INFINITY, f64::min);
            let most = honest.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!((least..=most).contains(&found));
        }
    }

    #[test]
    fn medians_are_those_of_the_textbook() {
        assert_eq!(median([]), None);
        assert_eq!(median([0.5]), Some(0.5));
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

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

    /// The expected spans are those of seqeval 1.2.2, `Entities(tags, IOBES)` and `BILOU`.
    #[test]
    fn strict_entities_with_ends_are_those_of_seqeval() {
        let cases = [
            ("B-X I-X E-X S-X", "X:0-3 X:3-4"),
            ("B-X O S-Y", "Y:2-3"),
            ("B-X I-X", ""),
            ("I-X E-X", ""),
            ("B-X E-Y", ""),
            ("B-X B-X E-X", "X:1-3"),
            ("B-X S-X E-X", "X:1-2"),
            ("B-X I-Y E-X", ""),
            ("B-X L-X U-Y I-Y", "X:0-2 Y:2-3"),
        ];
        for (tags, expected) in cases {
            let tags: Vec<&str> = tags.split(' ').collect();
            let found = strict_entities_with_ends(&tags).into_iter();
            let found = found.map(|s| format!("{}:{}-{}", s.label, s.start, s.end));
            let found = found.collect::<Vec<_>>().join(" ");
            assert_eq!(found, expected, "{tags:?}");
        }
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
