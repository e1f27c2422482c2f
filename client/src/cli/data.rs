//! `data inspect`.

mod convert;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use fedner_host::progress::Progress;
use fedner_model::Tokenizer;
use fedner_model::corpus::{
    FileInspection, InspectOptions, Inspection, LabelCheck, Lengths, Shared, SubTokens, inspect,
};
use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint;
use fedner_shared::refusal::{Code, Refusal};

use super::Context;
use super::reading::ReadArguments;
use crate::training::{self, code_of_problem};

/// Look at annotated text before it is trained on, or write it in another format
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Inspect(Inspect),
    Convert(convert::Convert),
}

/// Say what files hold and what is wrong with them, line by line
///
/// Ends with status 1 where anything is wrong. Nothing leaves the machine.
#[derive(Debug, clap::Args)]
struct Inspect {
    /// Annotated text: CoNLL columns, JSON lines, BRAT files or a folder of them
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    reading: ReadArguments,
    /// Hugging Face directory, for counts of sub-tokens
    #[arg(long, value_name = "HF_DIR")]
    model: Option<PathBuf>,
    /// A plan whose labels are compared, and whose `max_tokens` applies
    #[arg(long, value_name = "PLAN.toml")]
    plan: Option<PathBuf>,
    /// The longest window in sub-tokens [default: the plan's, else the model's]
    #[arg(long, value_name = "N", requires = "model")]
    max_tokens: Option<usize>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let arguments = match &arguments.command {
        Command::Convert(arguments) => return convert::run(context, arguments),
        Command::Inspect(arguments) => arguments,
    };
    let plan = match &arguments.plan {
        Some(file) => Some(super::train::read_plan(file)?),
        None => None,
    };
    let model = arguments.model.as_deref().map(read_tokenizer).transpose()?;
    let most = model.as_ref().map_or(usize::MAX, |(_, most)| *most);
    let planned = plan.as_ref().map(|plan| plan.training.max_tokens);
    let options = InspectOptions {
        reader: arguments.reading.reader(),
        tokenizer: model.as_ref().map(|(tokenizer, _)| tokenizer),
        max_tokens: arguments.max_tokens.or(planned).unwrap_or(most).min(most),
        labels: plan.as_ref().map(|plan| plan.labels.as_slice()),
    };
    let mut shown = Progress::new("sentences");
    let found = inspect(&arguments.files, &options, &mut |read| {
        shown.at(read, read, String::new);
    })?;
    drop(shown);
    context.output.data(&found, text)?;
    match refusal(&found) {
        Some(refusal) => Err(refusal.into()),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The tokenizer, and the longest window of its model.
fn read_tokenizer(directory: &std::path::Path) -> anyhow::Result<(Tokenizer, usize)> {
    let config = checkpoint::directory::config(directory).map_err(checkpoint::Error::from)?;
    let config = BertConfig::parse(&config).map_err(checkpoint::Error::from)?;
    let most = config.max_position_embeddings;
    let json = checkpoint::directory::tokenizer(directory).map_err(checkpoint::Error::from)?;
    let tokenizer = Tokenizer::parse(&json).map_err(training::Error::from)?;
    tokenizer
        .check_vocabulary(config.vocab_size)
        .map_err(training::Error::from)?;
    Ok((tokenizer, most))
}

/// What keeps the files from being trained on.
fn refusal(found: &Inspection) -> Option<Refusal> {
    let problems: usize = found.files.iter().map(|file| file.problem_count).sum();
    if let Some(first) = found.files.iter().find_map(|file| file.problems.first()) {
        let message = format!("{first} ({problems} problems in all)");
        return Some(Refusal::new(code_of_problem(first), message));
    }
    if let Some(file) = found.files.iter().find(|file| file.sentences == 0) {
        let message = format!("{} has no sentence", file.file);
        return Some(Refusal::new(Code::CorpusEmpty, message));
    }
    let unknown = found.labels.as_ref()?.unknown.first()?;
    let message = format!(
        "{}, line {}: an entity of the type {}, which the plan lacks",
        unknown.file, unknown.line, unknown.label
    );
    Some(Refusal::new(Code::LabelsMismatch, message))
}

fn text(found: &Inspection) -> String {
    let mut text = String::new();
    for file in &found.files {
        of_file(&mut text, file);
        text.push('\n');
    }
    for shared in &found.shared {
        of_shared(&mut text, shared);
    }
    if let Some(labels) = &found.labels {
        of_labels(&mut text, labels);
    }
    text
}

fn line(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "{name:<12}{value}");
}

fn of_file(text: &mut String, found: &FileInspection) {
    line(text, "file", &found.file);
    let columns = match found.columns {
        0 => String::new(),
        columns => format!(", {columns} columns"),
    };
    let scheme = found.scheme.to_string().to_lowercase();
    let format = format!("{}, {scheme}{columns}", found.format);
    line(text, "format", &format);
    line(text, "sentences", &found.sentences.to_string());
    line(text, "documents", &found.documents.to_string());
    line(text, "persons", &found.persons.to_string());
    line(text, "words", &found.words.to_string());
    line(text, "lengths", &of_lengths(found.lengths, "words"));
    if let Some(sub_tokens) = &found.sub_tokens {
        of_sub_tokens(text, sub_tokens);
    }
    line(text, "repeated", &format!("{} sentences", found.repeated));
    for (label, count) in &found.entities {
        line(text, "entities", &format!("{count:>8}  {label}"));
    }
    for (tag, count) in &found.tags {
        line(text, "tags", &format!("{count:>8}  {tag}"));
    }
    for notice in &found.notices {
        line(text, "notice", notice);
    }
    for problem in &found.problems {
        line(text, "problem", &problem.to_string());
    }
    let others = found.problem_count - found.problems.len();
    if others > 0 {
        line(text, "problem", &format!("{others} more"));
    }
}

fn of_lengths(lengths: Lengths, of: &str) -> String {
    format!(
        "{} to {} {of}, median {}, 95 % up to {}, 99 % up to {}",
        lengths.min, lengths.max, lengths.median, lengths.p95, lengths.p99
    )
}

fn of_sub_tokens(text: &mut String, found: &SubTokens) {
    line(text, "sub-tokens", &found.total.to_string());
    line(text, "", &of_lengths(found.lengths, "a sentence"));
    let unknown = format!(
        "{} unknown ({:.3} %), {} words of which nothing is left",
        found.unknown,
        100.0 * found.unknown_rate,
        found.empty_words
    );
    line(text, "", &unknown);
    let longer = format!(
        "{} sentences longer than {}, with {} words past it; all are read, in {} windows",
        found.longer_sentences, found.max_tokens, found.words_past, found.windows
    );
    line(text, "", &longer);
}

fn of_shared(text: &mut String, shared: &Shared) {
    let summary = format!(
        "{} sentences of {} stand in {} too",
        shared.sentences, shared.second, shared.first
    );
    line(text, "shared", &summary);
    for example in &shared.examples {
        line(
            text,
            "",
            &format!("line {}: {}", example.line, example.text),
        );
    }
}

fn of_labels(text: &mut String, labels: &LabelCheck) {
    for unknown in &labels.unknown {
        let place = format!("first in {}, line {}", unknown.file, unknown.line);
        let summary = format!("the plan lacks {}: {place}", unknown.label);
        line(text, "labels", &summary);
    }
    for label in &labels.absent {
        line(text, "labels", &format!("no file has {label}"));
    }
    if labels.unknown.is_empty() && labels.absent.is_empty() {
        line(text, "labels", "those of the plan");
    }
}
