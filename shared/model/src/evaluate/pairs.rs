//! Entities that are there beside those that were found: which belong together, and how they
//! differ.

use fedner_shared::score::{self, Span};
use serde::Serialize;

/// An entity of the corpus, the one that the model gave for it, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) gold: Option<Span>,
    pub(super) predicted: Option<Span>,
}

/// How a prediction is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mistake {
    /// The entity was not found.
    Missed,
    /// There is no entity.
    Spurious,
    /// The right words with another type.
    Type,
    /// The right type, but not quite the right words.
    Boundary,
    /// Another type, and not quite the right words.
    TypeAndBoundary,
}

impl Pair {
    pub(super) fn same_words(&self) -> bool {
        let words = |span: &Option<Span>| span.as_ref().map(|span| (span.start, span.end));
        words(&self.gold) == words(&self.predicted)
    }

    /// `None` for an entity that was found as it is.
    pub(super) fn mistake(&self) -> Option<Mistake> {
        let (gold, predicted) = match (&self.gold, &self.predicted) {
            (Some(gold), Some(predicted)) => (gold, predicted),
            (Some(_), None) => return Some(Mistake::Missed),
            (None, _) => return Some(Mistake::Spurious),
        };
        match (self.same_words(), gold.label == predicted.label) {
            (true, true) => None,
            (true, false) => Some(Mistake::Type),
            (false, true) => Some(Mistake::Boundary),
            (false, false) => Some(Mistake::TypeAndBoundary),
        }
    }
}

/// Pairs the entities of a sentence: first those of the same words, then each that is left with
/// the one that shares most words with it, of the same type rather than of another.
pub(super) fn pairs(gold: &[String], predicted: &[String]) -> Vec<Pair> {
    let mut free = score::entities(predicted);
    let mut pairs: Vec<Pair> = score::entities(gold)
        .into_iter()
        .map(|gold| {
            let same = |span: &Span| (span.start, span.end) == (gold.start, gold.end);
            let predicted = free.iter().position(same).map(|index| free.remove(index));
            Pair {
                gold: Some(gold),
                predicted,
            }
        })
        .collect();
    for pair in pairs.iter_mut().filter(|pair| pair.predicted.is_none()) {
        let Some(gold) = &pair.gold else { continue };
        let closeness = |span: &Span| {
            let shared = span
                .end
                .min(gold.end)
                .saturating_sub(span.start.max(gold.start));
            (shared, span.label == gold.label)
        };
        // Of equals the first: `max_by_key` would take the last.
        let best = (0..free.len())
            .rev()
            .max_by_key(|index| closeness(&free[*index]));
        if let Some(index) = best.filter(|index| closeness(&free[*index]).0 > 0) {
            pair.predicted = Some(free.remove(index));
        }
    }
    pairs.extend(free.into_iter().map(|span| Pair {
        gold: None,
        predicted: Some(span),
    }));
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(gold: &str, predicted: &str) -> Vec<Option<Mistake>> {
        let tags = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let pairs = pairs(&tags(gold), &tags(predicted));
        pairs.iter().map(Pair::mistake).collect()
    }

    #[test]
    fn every_entity_is_in_one_pair() {
        use Mistake::{Boundary, Missed, Spurious, Type, TypeAndBoundary};
        let cases = [
            ("B-X I-X O", "B-X I-X O", vec![None]),
            ("B-X I-X O", "O O O", vec![Some(Missed)]),
            ("O O O", "O B-X O", vec![Some(Spurious)]),
            ("B-X I-X O", "B-Y I-Y O", vec![Some(Type)]),
            ("B-X I-X O", "B-X I-X I-X", vec![Some(Boundary)]),
            ("B-X I-X O", "B-Y O O", vec![Some(TypeAndBoundary)]),
            (
                "B-X I-X I-X",
                "B-Y B-X O",
                vec![Some(Boundary), Some(Spurious)],
            ),
            (
                "B-X I-X I-X",
                "B-Y I-Y B-X",
                vec![Some(TypeAndBoundary), Some(Spurious)],
            ),
            ("B-X B-X O", "B-X I-X O", vec![Some(Boundary), Some(Missed)]),
            // The same words come first, were they of another type.
            ("B-X I-X B-Y", "O B-X B-X", vec![Some(Boundary), Some(Type)]),
        ];
        for (gold, predicted, expected) in cases {
            assert_eq!(mistakes(gold, predicted), expected, "{gold} / {predicted}");
        }
    }
}
