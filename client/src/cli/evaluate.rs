//! `evaluate`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use fedner_model::{TagCounts, TokenReport};
use fedner_shared::plan::Training;
use fedner_shared::score::{Counts, Scores};
use serde::Serialize;

use super::Context;
use super::models::{HfModel, read_sentences};
use super::output::table;
use crate::training::{self, Stop};

/// Count how well a model tags annotated text
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Hugging Face directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Annotated text
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    /// Longer sentences are cut to this many sub-tokens; what is cut off counts as tagged O
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_tokens: usize,
    /// Sentences at a time
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch_size: usize,
    /// Where to compute
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
}

#[derive(Debug, Serialize)]
struct Report {
    sentences: usize,
    words: usize,
    entities: Entities,
    tokens: Tokens,
}

/// Exactly matched entities, as seqeval and conlleval count them.
#[derive(Debug, Serialize)]
pub(super) struct Entities {
    by_type: BTreeMap<String, EntityScore>,
    micro: EntityScore,
    #[serde(rename = "macro")]
    macro_average: Average,
    weighted: Average,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct EntityScore {
    precision: f64,
    recall: f64,
    f1: f64,
    support: u64,
    true_positives: u64,
    false_positives: u64,
    false_negatives: u64,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Average {
    precision: f64,
    recall: f64,
    f1: f64,
    support: u64,
}

/// Words by tag, `O` included.
#[derive(Debug, Serialize)]
struct Tokens {
    by_tag: BTreeMap<String, TagCounts>,
    accuracy: f64,
    micro: TagCounts,
    #[serde(rename = "macro")]
    macro_average: TagCounts,
    weighted: TagCounts,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (material, tags) = HfModel::tagger(&arguments.model)?;
    let sentences = read_sentences(&arguments.data)?;
    let settings = Training {
        batch_size: arguments.batch_size.max(1),
        max_tokens: arguments.max_tokens,
        device: arguments.device.clone(),
        ..Training::default()
    };
    let stop = Stop::default();
    let found = training::evaluate(&material, &sentences, &tags, &settings, &stop)?;
    let report = Report {
        sentences: sentences.len(),
        words: sentences.iter().map(|sentence| sentence.words.len()).sum(),
        entities: Entities::of(&found.scores),
        tokens: Tokens::of(&found.tokens),
    };
    context.output.data(&report, text)?;
    Ok(ExitCode::SUCCESS)
}

impl EntityScore {
    fn of(counts: Counts) -> Self {
        Self {
            precision: counts.precision(),
            recall: counts.recall(),
            f1: counts.f1(),
            support: counts.support(),
            true_positives: counts.true_positives,
            false_positives: counts.false_positives,
            false_negatives: counts.false_negatives,
        }
    }
}

impl Entities {
    pub(super) fn of(scores: &Scores) -> Self {
        let by_type: BTreeMap<String, EntityScore> = scores
            .by_type
            .iter()
            .map(|(label, counts)| (label.clone(), EntityScore::of(*counts)))
            .collect();
        Self {
            micro: EntityScore::of(scores.total()),
            macro_average: average(by_type.values(), |_| 1.0),
            weighted: average(by_type.values(), |score| score.support as f64),
            by_type,
        }
    }

    pub(super) fn table(&self) -> String {
        let types = self.by_type.iter().map(|(label, score)| {
            row(
                label,
                score.precision,
                score.recall,
                score.f1,
                score.support,
            )
        });
        let micro = self.micro;
        let averages = [
            ("macro avg", self.macro_average),
            ("weighted avg", self.weighted),
        ];
        let rows = types
            .chain([row(
                "micro avg",
                micro.precision,
                micro.recall,
                micro.f1,
                micro.support,
            )])
            .chain(averages.map(|(name, a)| row(name, a.precision, a.recall, a.f1, a.support)));
        table(
            ["ENTITY", "PRECISION", "RECALL", "F1", "SUPPORT"],
            &[1, 2, 3, 4],
            rows,
        )
    }
}

fn average<'a>(
    scores: impl Iterator<Item = &'a EntityScore>,
    weight: impl Fn(&EntityScore) -> f64,
) -> Average {
    let mut mean = Average {
        precision: 0.0,
        recall: 0.0,
        f1: 0.0,
        support: 0,
    };
    let mut weights = 0.0;
    for score in scores {
        let weight = weight(score);
        weights += weight;
        mean.precision += weight * score.precision;
        mean.recall += weight * score.recall;
        mean.f1 += weight * score.f1;
        mean.support += score.support;
    }
    if weights > 0.0 {
        mean.precision /= weights;
        mean.recall /= weights;
        mean.f1 /= weights;
    }
    mean
}

impl Tokens {
    fn of(report: &TokenReport) -> Self {
        Self {
            by_tag: report
                .rows()
                .map(|(tag, counts)| (tag.to_owned(), counts))
                .collect(),
            accuracy: report.micro().f1,
            micro: report.micro(),
            macro_average: report.macro_average(),
            weighted: report.weighted(),
        }
    }

    fn table(&self) -> String {
        let of = |name: &str, c: TagCounts| row(name, c.precision, c.recall, c.f1, c.support);
        let tags = self.by_tag.iter().map(|(tag, counts)| of(tag, *counts));
        let averages = [
            of("micro avg", self.micro),
            of("macro avg", self.macro_average),
            of("weighted avg", self.weighted),
        ];
        let head = ["TAG", "PRECISION", "RECALL", "F1", "SUPPORT"];
        table(head, &[1, 2, 3, 4], tags.chain(averages))
    }
}

fn row(name: &str, precision: f64, recall: f64, f1: f64, support: u64) -> [String; 5] {
    let figure = |x: f64| format!("{x:.4}");
    [
        name.to_owned(),
        figure(precision),
        figure(recall),
        figure(f1),
        support.to_string(),
    ]
}

fn text(report: &Report) -> String {
    format!(
        "{} sentences, {} words\n\n{}\n\n{}",
        report.sentences,
        report.words,
        report.entities.table(),
        report.tokens.table()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures of seqeval's `classification_report` for these counts.
    #[test]
    fn averages_are_those_of_seqeval() {
        let mut scores = Scores::default();
        let counts = |true_positives, false_positives, false_negatives| Counts {
            true_positives,
            false_positives,
            false_negatives,
        };
        scores.by_type.insert("A".into(), counts(3, 1, 0));
        scores.by_type.insert("B".into(), counts(1, 0, 1));
        let entities = Entities::of(&scores);
        let near = |found: f64, expected: f64| {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        };
        near(entities.micro.f1, 0.8);
        near(entities.macro_average.precision, 0.875);
        near(entities.macro_average.recall, 0.75);
        near(entities.weighted.precision, (3.0 * 0.75 + 2.0) / 5.0);
        assert_eq!(entities.weighted.support, 5);
    }
}
