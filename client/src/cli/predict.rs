//! `predict`.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use fedner_model::{Entity, Model, predict_text};

use super::Context;
use super::models::HfModel;
use super::output::table;
use crate::training;

/// Find the entities of a plain text: `--text`, `--file`, or stdin
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Hugging Face directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The text itself
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    text: Option<String>,
    /// A file of UTF-8 text
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Longer sentences are read in parts of this many sub-tokens
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_tokens: usize,
    /// Where to compute
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let text = read_text(arguments)?;
    let (material, tags) = HfModel::tagger(&arguments.model)?;
    let entities = predict(&material, &tags, &text, arguments).map_err(training::Error::from)?;
    context.output.data(&entities, |entities| {
        let rows = entities.iter().map(|entity| {
            [
                entity.label.clone(),
                entity.start.to_string(),
                entity.end.to_string(),
                format!("{:.3}", entity.score),
                entity.text.clone(),
            ]
        });
        table(["TYPE", "START", "END", "SCORE", "TEXT"], &[1, 2, 3], rows)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn predict(
    material: &training::Material,
    tags: &[String],
    text: &str,
    arguments: &Arguments,
) -> Result<Vec<Entity>, fedner_model::Error> {
    let device = arguments.device.parse()?;
    let model = Model::load(&material.checkpoint, device)?;
    predict_text(
        &model,
        &material.tokenizer,
        tags,
        text,
        arguments.max_tokens,
    )
}

fn read_text(arguments: &Arguments) -> anyhow::Result<String> {
    if let Some(text) = &arguments.text {
        return Ok(text.clone());
    }
    if let Some(file) = &arguments.file {
        let bytes = training::read_file(file)?;
        return String::from_utf8(bytes)
            .with_context(|| format!("read {} as UTF-8", file.display()));
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("read text from stdin")?;
    Ok(text)
}
