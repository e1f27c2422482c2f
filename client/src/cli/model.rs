//! `model`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use fedner_shared::checkpoint::{ModelCard, companions};
use fedner_shared::onnx::{self, Precision};
use fedner_shared::refusal::{Code, Refusal};
use serde::Serialize;

use super::Context;
use super::models::HfModel;

/// Write a model for other programs
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Export(Export),
}

/// Write a model that tags as ONNX, with its tokenizer and a model card
///
/// Runtimes that know nothing of fedner give the tags that `predict` gives. A head that looks at neighbours or
/// chooses the tags of a sentence together asks for one more input; the card says which.
#[derive(Debug, Args)]
struct Export {
    /// Hugging Face directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// New directory
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// What the model is written as
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    format: Format,
    /// Weights in 8 bits: about a quarter of the size, and some words get another tag
    #[arg(long)]
    int8: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Format {
    #[default]
    Onnx,
}

#[derive(Debug, Serialize)]
struct Report {
    to: PathBuf,
    format: Format,
    int8: bool,
    /// Of the model's file.
    bytes: usize,
    tags: Vec<String>,
    /// The graph is told where words begin, and chooses the tags.
    chooses_tags: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Command::Export(arguments) = &arguments.command;
    let to = &arguments.to;
    if to.join(onnx::FILE).exists() || to.join("config.json").exists() {
        let message = format!("{} holds a model already", to.display());
        return Err(Refusal::new(Code::AlreadyExists, message).into());
    }
    let model = HfModel::read(&arguments.model)?;
    let (tags, types) = model.named_tags(&arguments.model)?;
    let precision = if arguments.int8 {
        Precision::Int8
    } else {
        Precision::Float32
    };
    let bytes = onnx::write(&model.checkpoint, &tags, precision)
        .map_err(|error| Refusal::new(Code::CheckpointInvalid, error.to_string()))?;
    let head = &model.checkpoint.config.head;
    let card = card(&arguments.model, types.types, onnx::card(head, precision));
    let positions = model.checkpoint.config.max_position_embeddings;
    let mut files = companions(&model.tokenizer_json, positions);
    files.push(("tokenizer.json", model.tokenizer_json));
    files.push(("README.md", card.into_bytes()));
    let size = bytes.len();
    files.push((onnx::FILE, bytes));
    // config.json last: a directory that has it is whole.
    files.push(("config.json", model.config_json.into_bytes()));
    std::fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    for (name, contents) in &files {
        let path = to.join(name);
        fedner_host::files::write_secret(&path, contents)
            .with_context(|| format!("write {}", path.display()))?;
    }
    let report = Report {
        to: to.clone(),
        format: arguments.format,
        int8: arguments.int8,
        bytes: size,
        tags,
        chooses_tags: onnx::chooses_tags(head),
    };
    context.output.data(&report, text)?;
    Ok(ExitCode::SUCCESS)
}

/// The card of the model with what is to be known of the file; another where it came without one.
fn card(from: &Path, labels: Vec<String>, of_file: String) -> String {
    if let Ok(known) = std::fs::read_to_string(from.join("README.md")) {
        return format!("{}\n\n{of_file}", known.trim_end());
    }
    let name = from.file_name().unwrap_or(from.as_os_str());
    let card = ModelCard {
        name: name.to_string_lossy().into_owned(),
        labels,
        onnx: Some(of_file),
        privacy: vec![
            "the model came without a card: ask its maker what it was trained on".to_owned(),
        ],
        ..ModelCard::default()
    };
    card.to_markdown()
}

fn text(report: &Report) -> String {
    let kind = if report.int8 { "int8" } else { "float32" };
    let inputs = if report.chooses_tags {
        "input_ids, attention_mask and words; it gives logits and tags"
    } else {
        "input_ids and attention_mask; it gives logits"
    };
    format!(
        "wrote {} ({kind}, {} bytes, {} tags)\nits inputs are {inputs}; README.md beside it says more",
        report.to.join(onnx::FILE).display(),
        report.bytes,
        report.tags.len()
    )
}
