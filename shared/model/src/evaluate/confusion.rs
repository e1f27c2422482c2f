//! Which types are taken for which.

use std::collections::BTreeMap;

use serde::Serialize;

use super::pairs::Pair;

/// Entities by the type they have and the type they were given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Confusion {
    pub cells: Vec<Confused>,
}

/// The entities of one type that were given one type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confused {
    /// `None` where there is no entity.
    pub gold: Option<String>,
    /// `None` where none was found.
    pub predicted: Option<String>,
    pub count: u64,
    /// Those of them that are of exactly the same words; the others overlap.
    pub same_words: u64,
}

type Cells = BTreeMap<(Option<String>, Option<String>), (u64, u64)>;

impl Confusion {
    pub(super) fn of<'a>(pairs: impl Iterator<Item = &'a Pair>) -> Self {
        let mut cells = Cells::new();
        for pair in pairs {
            let label = |span: &Option<fedner_shared::score::Span>| {
                span.as_ref().map(|span| span.label.clone())
            };
            let key = (label(&pair.gold), label(&pair.predicted));
            let (count, same_words) = cells.entry(key).or_default();
            *count += 1;
            *same_words += u64::from(pair.same_words());
        }
        let cell = |((gold, predicted), (count, same_words))| Confused {
            gold,
            predicted,
            count,
            same_words,
        };
        Self {
            cells: cells.into_iter().map(cell).collect(),
        }
    }
}
