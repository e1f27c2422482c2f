//! `data inspect`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use fedner_model::corpus::{Inspection, inspect};
use fedner_shared::refusal::{Code, Refusal};

use super::Context;

/// Look at annotated text before it is trained on
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what a file holds and what is wrong with it, line by line
    Inspect {
        /// A file of CoNLL columns
        file: PathBuf,
    },
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Command::Inspect { file } = &arguments.command;
    let inspection = inspect(file)?;
    context.output.data(&inspection, text)?;
    if let Some(first) = inspection.problems.first() {
        let message = format!(
            "{}, line {}: {} ({} problems in all)",
            inspection.file,
            first.line,
            first.reason,
            inspection.problems.len()
        );
        return Err(Refusal::new(Code::CorpusInvalid, message).into());
    }
    if inspection.sentences == 0 {
        let message = format!("{} has no sentence", inspection.file);
        return Err(Refusal::new(Code::CorpusEmpty, message).into());
    }
    Ok(ExitCode::SUCCESS)
}

fn text(found: &Inspection) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<12}{value}");
    };
    line("file", found.file.clone());
    line(
        "format",
        format!(
            "{}, {:?}, {} columns",
            found.format, found.scheme, found.columns
        )
        .to_lowercase(),
    );
    line("sentences", found.sentences.to_string());
    line("documents", found.documents.to_string());
    line("persons", found.persons.to_string());
    line("words", found.words.to_string());
    let lengths = found.lengths;
    line(
        "lengths",
        format!(
            "{} to {} words, median {}, 95 % up to {}",
            lengths.min, lengths.max, lengths.median, lengths.p95
        ),
    );
    for (label, count) in &found.entities {
        line("entities", format!("{count:>8}  {label}"));
    }
    for (tag, count) in &found.tags {
        line("tags", format!("{count:>8}  {tag}"));
    }
    for problem in &found.problems {
        line(
            "problem",
            format!("line {}: {}", problem.line, problem.reason),
        );
    }
    text
}
