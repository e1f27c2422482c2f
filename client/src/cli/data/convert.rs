//! `data convert`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::ValueEnum;
use fedner_model::Sentence;
use fedner_model::corpus::{
    Corpus, Format, ReadOptions, Reader, Scheme, to_brat, to_conll, to_json_text, to_json_tokens,
};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::score;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::reading::ReadArguments;
use crate::training;

/// Write annotated text of any readable format in another one, and read it back
///
/// Tags are written in IOB2. What reading changes or leaves out is said. Nothing leaves the machine.
#[derive(Debug, clap::Args)]
pub(super) struct Convert {
    /// Annotated text
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    reading: ReadArguments,
    /// The format to write
    #[arg(long = "as", value_name = "FORMAT", value_enum)]
    written: Written,
    /// New file, or new directory of BRAT files
    #[arg(long, value_name = "PATH")]
    to: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Written {
    /// A word and its tag a line
    Conll,
    /// A JSON object a sentence: `tokens`, `ner_tags`
    JsonTokens,
    /// A JSON object a document: `text`, `entities`
    JsonText,
    /// A `.txt` and an `.ann` file a document
    Brat,
}

impl Written {
    const fn format(self) -> Format {
        match self {
            Self::Conll => Format::Conll,
            Self::JsonTokens => Format::JsonTokens,
            Self::JsonText => Format::JsonText,
            Self::Brat => Format::Brat,
        }
    }

    /// Whether it keeps the words, and not the text alone.
    const fn keeps_words(self) -> bool {
        matches!(self, Self::Conll | Self::JsonTokens)
    }
}

#[derive(Debug, Serialize)]
struct Report {
    to: PathBuf,
    sentences: usize,
    words: usize,
    entities: BTreeMap<String, usize>,
    /// What was read back is what was written: the words and tags of formats that keep words, the
    /// entities of the others.
    same: bool,
}

pub(super) fn run(context: &Context, arguments: &Convert) -> anyhow::Result<ExitCode> {
    let to = &arguments.to;
    if to.exists() {
        let message = format!("{} would be written over", to.display());
        return Err(Refusal::new(Code::AlreadyExists, message).into());
    }
    let mut reader = arguments.reading.reader();
    let mut sentences = Vec::new();
    for file in &arguments.files {
        let corpus = reader.corpus(file).map_err(training::Error::from)?;
        for notice in corpus.summary.notices() {
            tracing::warn!("{}: {notice}", corpus.name);
        }
        sentences.extend(corpus.sentences);
    }
    if sentences.is_empty() {
        let message = "the files have no sentence".to_owned();
        return Err(Refusal::new(Code::CorpusEmpty, message).into());
    }
    let names = reader.document_names();
    let name = |number: u32| match names.get(&number) {
        Some(name) => file_stem(name),
        None => format!("document-{number}"),
    };
    write(arguments.written, &sentences, &name, to)?;
    let back = read_back(arguments.written, to)?;
    let same = if arguments.written.keeps_words() {
        let content = |s: &Sentence| (s.words.clone(), s.tags.clone());
        back.sentences
            .iter()
            .map(content)
            .eq(sentences.iter().map(content))
    } else {
        entities(&back.sentences) == entities(&sentences)
    };
    let report = Report {
        to: to.clone(),
        sentences: sentences.len(),
        words: sentences.iter().map(|sentence| sentence.words.len()).sum(),
        entities: entities(&sentences),
        same,
    };
    context.output.data(&report, text)?;
    Ok(if same {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The last part of a path, as BRAT's documents are called by their files.
fn file_stem(name: &str) -> String {
    let last = Path::new(name).file_name();
    last.map_or_else(
        || name.to_owned(),
        |last| last.to_string_lossy().into_owned(),
    )
}

fn write(
    format: Written,
    sentences: &[Sentence],
    name: &dyn Fn(u32) -> String,
    to: &Path,
) -> anyhow::Result<()> {
    let contents = match format {
        Written::Conll => to_conll(sentences, name),
        Written::JsonTokens => to_json_tokens(sentences, name),
        Written::JsonText => to_json_text(sentences, name),
        Written::Brat => {
            fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
            for (index, (name, text, annotations)) in
                to_brat(sentences, name).into_iter().enumerate()
            {
                // Numbers keep apart what has one name in two folders.
                let name = name
                    .unwrap_or_else(|| "text".to_owned())
                    .replace(['/', '\\'], "_");
                let stem = format!("{:05}-{name}", index + 1);
                for (ending, contents) in [("txt", text), ("ann", annotations)] {
                    let file = to.join(format!("{stem}.{ending}"));
                    fedner_host::files::write_secret(&file, contents.as_bytes())
                        .with_context(|| format!("write {}", file.display()))?;
                }
            }
            return Ok(());
        }
    };
    fedner_host::files::write_secret(to, contents.as_bytes())
        .with_context(|| format!("write {}", to.display()))
}

fn read_back(format: Written, to: &Path) -> anyhow::Result<Corpus> {
    let options = ReadOptions {
        format: Some(format.format()),
        scheme: format.keeps_words().then_some(Scheme::Iob2),
        ..ReadOptions::default()
    };
    Ok(Reader::new(options)
        .corpus(to)
        .map_err(training::Error::from)?)
}

fn entities(sentences: &[Sentence]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for span in sentences
        .iter()
        .flat_map(|sentence| score::entities(&sentence.tags))
    {
        *counts.entry(span.label).or_default() += 1;
    }
    counts
}

fn text(report: &Report) -> String {
    let entities = report.entities.iter();
    let entities: Vec<_> = entities
        .map(|(label, count)| format!("{label}: {count}"))
        .collect();
    let same = if report.same {
        "read back, it is the same"
    } else {
        "read back, it is NOT the same: entities end otherwise in the text that was put together"
    };
    format!(
        "{} sentences, {} words, {}\nwritten to {}; {same}",
        report.sentences,
        report.words,
        entities.join(", "),
        report.to.display()
    )
}
