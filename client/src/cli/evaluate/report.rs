//! Scores as they are printed.

use std::collections::BTreeMap;

use fedner_host::output::table;
use fedner_model::{Averages, TagCounts, TokenReport};
use fedner_shared::score::{Counts, Scores};
use serde::Serialize;

/// Exactly matched entities, as seqeval and conlleval count them.
#[derive(Debug, PartialEq, Serialize)]
pub(in crate::cli) struct Entities {
    by_type: BTreeMap<String, EntityScore>,
    micro: EntityScore,
    #[serde(rename = "macro")]
    macro_average: TagCounts,
    weighted: TagCounts,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct EntityScore {
    #[serde(flatten)]
    score: TagCounts,
    true_positives: u64,
    false_positives: u64,
    false_negatives: u64,
}

/// Words by tag, `O` included.
#[derive(Debug, Serialize)]
pub(super) struct Tokens {
    by_tag: BTreeMap<String, TagCounts>,
    accuracy: f64,
    #[serde(flatten)]
    averages: Averages,
}

impl EntityScore {
    fn of(counts: Counts) -> Self {
        Self {
            score: TagCounts::from_counts(counts),
            true_positives: counts.true_positives,
            false_positives: counts.false_positives,
            false_negatives: counts.false_negatives,
        }
    }
}

impl Entities {
    pub(in crate::cli) fn of(scores: &Scores) -> Self {
        let averages = Averages::from_counts(&scores.by_type);
        let by_type = scores.by_type.iter();
        Self {
            by_type: by_type
                .map(|(label, counts)| (label.clone(), EntityScore::of(*counts)))
                .collect(),
            micro: EntityScore::of(scores.total()),
            macro_average: averages.macro_average,
            weighted: averages.weighted,
        }
    }

    pub(in crate::cli) fn table(&self) -> String {
        self.table_called("ENTITY")
    }

    pub(super) fn table_called(&self, name: &str) -> String {
        let types = self.by_type.iter();
        let types = types.map(|(label, of)| (label.as_str(), of.score));
        let averages = Averages {
            micro: self.micro.score,
            macro_average: self.macro_average,
            weighted: self.weighted,
        };
        scores_table(name, types, &averages)
    }
}

impl Tokens {
    pub(super) fn from_report(report: &TokenReport) -> Self {
        let averages = Averages::from_counts(&report.by_tag);
        Self {
            by_tag: report
                .rows()
                .map(|(tag, counts)| (tag.to_owned(), counts))
                .collect(),
            accuracy: averages.micro.f1,
            averages,
        }
    }

    pub(super) fn table(&self) -> String {
        let tags = self
            .by_tag
            .iter()
            .map(|(tag, score)| (tag.as_str(), *score));
        scores_table("TAG", tags, &self.averages)
    }
}

/// A row a type or tag, and one an average.
fn scores_table<'a>(
    name: &str,
    scores: impl Iterator<Item = (&'a str, TagCounts)>,
    averages: &Averages,
) -> String {
    let averages = [
        ("micro avg", averages.micro),
        ("macro avg", averages.macro_average),
        ("weighted avg", averages.weighted),
    ];
    let figure = |x: f64| format!("{x:.4}");
    let rows = scores.chain(averages).map(|(name, score)| {
        [
            name.to_owned(),
            figure(score.precision),
            figure(score.recall),
            figure(score.f1),
            score.support.to_string(),
        ]
    });
    let head = [name, "PRECISION", "RECALL", "F1", "SUPPORT"];
    table(head, &[1, 2, 3, 4], rows)
}
