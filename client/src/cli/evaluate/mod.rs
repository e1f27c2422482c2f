//! `evaluate`.

mod mistakes;
mod report;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use fedner_model::corpus::{Scheme, escaped};
use fedner_model::{Confusion, Sentence};
use fedner_shared::plan::Training;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::scheme::HeadTags;
use serde::Serialize;

use self::mistakes::{Mistaken, confusion_table, mistakes};
pub(super) use self::report::Entities;
use self::report::Tokens;
use super::Context;
use super::models::HfModel;
use super::reading::ReadArguments;
use crate::training::{self, Stop};

/// Count how well a model tags annotated text
///
/// Entities are counted as seqeval does, in its default mode and in its strict IOB2 mode, words as
/// scikit-learn's classification_report does. Nothing leaves the machine.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Hugging Face directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Annotated text: CoNLL columns, JSON lines, BRAT files or a folder of them
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    #[command(flatten)]
    reading: ReadArguments,
    /// Longer sentences are read in overlapping windows of this many sub-tokens
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_tokens: usize,
    /// Windows at a time
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch_size: usize,
    /// Show the N most frequent mistakes, with sentences of the text
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    errors: usize,
    /// New file for every word with its own tag and the one given, in CoNLL columns
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Where to compute
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
}

#[derive(Debug, Serialize)]
struct Report {
    sentences: usize,
    words: usize,
    /// As seqeval counts them in its default mode.
    entities: Entities,
    /// As seqeval counts them with `mode="strict", scheme=IOB2`.
    entities_strict: Entities,
    /// By the offsets of the corpus, where some of its entities do not stand on whole words or share
    /// them; the same as `entities` otherwise.
    entities_offsets: Entities,
    /// As scikit-learn counts them.
    tokens: Tokens,
    head: Head,
    confusion: Confusion,
    /// The most frequent mistakes; empty unless asked for.
    errors: Vec<Mistaken>,
}

/// What the tags of the model's head mean, beside those of the text.
#[derive(Debug, Serialize)]
struct Head {
    scheme: Scheme,
    types: Vec<String>,
    /// Types that no entity of the text has.
    only_in_model: Vec<String>,
    /// Types of the text that the model cannot give.
    only_in_text: Vec<String>,
}

impl Head {
    fn of(tags: &HeadTags, sentences: &[Sentence]) -> Self {
        let words = sentences.iter().flat_map(|sentence| &sentence.tags);
        let labels = words.filter_map(|tag| tag.strip_prefix("B-"));
        let lost = sentences.iter().flat_map(|sentence| &sentence.lost);
        let found: BTreeSet<&str> = labels.chain(lost.map(String::as_str)).collect();
        let types = tags.types.clone();
        let known = |label: &&str| types.iter().any(|known| known == label);
        Self {
            scheme: tags.scheme,
            only_in_text: found
                .iter()
                .filter(|l| !known(l))
                .map(|l| (*l).to_owned())
                .collect(),
            only_in_model: types
                .iter()
                .filter(|l| !found.contains(l.as_str()))
                .cloned()
                .collect(),
            types,
        }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "the model's tags: {}, {}",
            self.scheme,
            self.types.join(", ")
        );
        for (types, place) in [
            (&self.only_in_model, "in no entity of the text"),
            (&self.only_in_text, "in the text, but not of the model"),
        ] {
            if !types.is_empty() {
                let _ = write!(text, "\n{place}: {}", types.join(", "));
            }
        }
        text
    }
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let Some(file) = arguments.predictions.as_ref().filter(|file| file.exists()) {
        let message = format!("{} would be written over", file.display());
        return Err(Refusal::new(Code::AlreadyExists, message).into());
    }
    let (material, tags, head) = HfModel::tagger(&arguments.model)?;
    let reader = arguments.reading.reader();
    let corpora = training::read_sentences(&arguments.data, reader)?;
    let sentences = &corpora.sentences;
    let settings = Training {
        batch_size: arguments.batch_size.max(1),
        max_tokens: arguments.max_tokens,
        device: arguments.device.clone(),
        ..Training::default()
    };
    let stop = Stop::default();
    let found = training::evaluate(&material, sentences, &tags, &settings, &stop)?;
    if let Some(file) = &arguments.predictions {
        let columns = columns(sentences, &found.predictions);
        fedner_host::files::write_secret(file, columns.as_bytes())
            .with_context(|| format!("write {}", file.display()))?;
    }
    let report = Report {
        sentences: sentences.len(),
        words: sentences.iter().map(|sentence| sentence.words.len()).sum(),
        entities: Entities::of(&found.scores),
        entities_strict: Entities::of(&found.strict),
        entities_offsets: Entities::of(&found.offsets),
        tokens: Tokens::from_report(&found.tokens),
        head: Head::of(&head, sentences),
        errors: mistakes(found.errors(sentences, arguments.errors), &corpora),
        confusion: found.confusion,
    };
    context.output.data(&report, text)?;
    Ok(ExitCode::SUCCESS)
}

/// Word, tag and tag given, as conlleval reads them.
fn columns(sentences: &[Sentence], predictions: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (sentence, predicted) in sentences.iter().zip(predictions) {
        let tags = sentence.tags.iter().zip(predicted);
        for (word, (tag, given)) in sentence.words.iter().zip(tags) {
            text.extend([&*escaped(word), "\t", tag, "\t", given, "\n"]);
        }
        text.push('\n');
    }
    text
}

fn text(report: &Report) -> String {
    // What a head without ends of entities gives is counted as IOB2.
    let strict = match report.head.scheme {
        scheme @ (Scheme::Iobes | Scheme::Bilou) => scheme,
        Scheme::Iob1 | Scheme::Iob2 | Scheme::Ioe1 | Scheme::Ioe2 | Scheme::Plain => Scheme::Iob2,
    };
    let mut parts = vec![
        format!("{} sentences, {} words", report.sentences, report.words),
        report.head.text(),
        report.entities.table(),
        report
            .entities_strict
            .table_called(&format!("ENTITY, STRICT {strict}")),
        report.tokens.table(),
    ];
    if report.entities_offsets != report.entities {
        parts.insert(
            4,
            report.entities_offsets.table_called("ENTITY, BY OFFSETS"),
        );
    }
    parts.extend(confusion_table(&report.confusion));
    parts.extend(report.errors.iter().map(Mistaken::text));
    parts.join("\n\n")
}
