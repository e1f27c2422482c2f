//! `predict`.

mod sink;
mod source;
mod tagging;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use fedner_host::progress::Progress;
use fedner_model::Tagger;
use fedner_shared::refusal::{Code, Refusal};

use self::sink::Sink;
pub(super) use self::source::Source;
pub(super) use self::source::TOGETHER;
use self::source::Text;
pub(super) use self::tagging::{Tagging, TaggingArguments};
use super::Context;
use crate::training::Error;

/// Find the entities of plain text: `--text`, `--file`, `--folder`, or stdin
///
/// Offsets count characters from the beginning of the text. Nothing leaves the machine.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    tagging: TaggingArguments,
    #[command(flatten)]
    source: SourceArguments,
    /// How the entities are written [default: a table or a JSON list; JSON lines for several texts]
    #[arg(long = "as", value_name = "FORMAT", value_enum)]
    format: Option<Written>,
    /// New files in this directory, one a text, instead of stdout
    #[arg(long, value_name = "DIR", requires = "files", requires = "format")]
    to: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct SourceArguments {
    /// The text itself
    #[arg(long, value_name = "TEXT", conflicts_with = "files")]
    text: Option<String>,
    /// Files of UTF-8 text
    #[arg(long, value_name = "FILE", num_args = 1.., group = "files")]
    file: Vec<PathBuf>,
    /// Every `.txt` file in a folder and in the folders in it
    #[arg(long, value_name = "DIR", group = "files")]
    folder: Option<PathBuf>,
    /// Each line is a text of its own, whose entities are written as soon as it is read
    #[arg(long, conflicts_with = "folder")]
    lines: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Written {
    /// A JSON object a text: `document_id`, `text`, `entities`
    Jsonl,
    /// A word and its tag a line
    Conll,
    /// Standoff annotations: an `.ann` file beside a copy of the text
    Brat,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut source = Source::open(&arguments.source)?;
    let format = match arguments.format {
        None if source.is_several() => Some(Written::Jsonl),
        format => format,
    };
    if format == Some(Written::Brat) && source.is_several() && arguments.to.is_none() {
        let message = "BRAT annotations are a file a text: expected `--to DIR` with several texts";
        return Err(Refusal::new(Code::RequestInvalid, message).into());
    }
    let mut sink = Sink::open(format, arguments.to.as_deref(), &source)?;
    let tagging = arguments.tagging.open()?;
    let tagger = tagging.tagger();
    let mut shown = Progress::new("predicting");
    let mut done = 0;
    while let Some(texts) = source.next_group()? {
        predict(&tagger, &texts, &mut sink)?;
        done += texts.len();
        if let Some(all) = source.known_length() {
            shown.at(done, all, String::new);
        }
    }
    drop(shown);
    sink.finish(&context.output)?;
    match source.unread() {
        Some(refusal) => Err(refusal.into()),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn predict(tagger: &Tagger, texts: &[Text], sink: &mut Sink) -> anyhow::Result<()> {
    let contents: Vec<&str> = texts.iter().map(|text| text.contents.as_str()).collect();
    let mut observer = |_, _| ControlFlow::Continue(());
    let predictions = tagger
        .predict(&contents, &mut observer)
        .map_err(Error::Model)?;
    for (text, prediction) in texts.iter().zip(predictions) {
        sink.write(text, prediction)?;
    }
    Ok(())
}
