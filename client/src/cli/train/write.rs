//! What a training leaves: a Hugging Face directory, or adapters for Python PEFT.

use std::path::Path;

use anyhow::Context as _;
use fedner_shared::checkpoint::{Checkpoint, ModelCard, companions};
use fedner_shared::plan::Plan;
use fedner_shared::score::Scores;

use super::{Arguments, Report};
use crate::cli::figures::epsilon;

pub(super) fn write_model(
    arguments: &Arguments,
    config: &str,
    tokenizer: &[u8],
    checkpoint: &Checkpoint,
) -> anyhow::Result<()> {
    let weights = checkpoint.to_safetensors()?;
    let companions = companions(tokenizer, checkpoint.config.max_position_embeddings);
    let mut files: Vec<(&str, &[u8])> = vec![
        ("tokenizer.json", tokenizer),
        ("model.safetensors", &weights),
    ];
    files.extend(
        companions
            .iter()
            .map(|(name, contents)| (*name, contents.as_slice())),
    );
    // config.json last: a directory that has it is whole.
    files.push(("config.json", config.as_bytes()));
    write(&arguments.to, &files)
}

pub(super) fn write_adapter(arguments: &Arguments, checkpoint: &Checkpoint) -> anyhow::Result<()> {
    let base = arguments.model.to_string_lossy();
    let files = checkpoint
        .to_peft(Some(&base))?
        .context("the trained model has no adapters")?;
    let files: [(&str, &[u8]); 2] = [
        ("adapter_model.safetensors", &files.weights),
        ("adapter_config.json", files.config.as_bytes()),
    ];
    write(&arguments.to, &files)
}

fn write(to: &Path, files: &[(&str, &[u8])]) -> anyhow::Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    for (name, contents) in files {
        let path = to.join(name);
        fedner_host::files::write_secret(&path, contents)
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// The model card, once the scores are known.
pub(super) fn write_card(
    arguments: &Arguments,
    plan: &Plan,
    report: &Report,
    (scores, in_transformers): (Option<&Scores>, bool),
) -> anyhow::Result<()> {
    let base = arguments.model.to_string_lossy().into_owned();
    let privacy = match &report.privacy {
        Some(privacy) => format!(
            "ε = {} (δ = {:e}) for each {} of {}, by `--private`",
            epsilon(privacy.epsilon),
            privacy.delta,
            privacy.unit,
            privacy.units
        ),
        None => "no ε covers the text that it was trained on".to_owned(),
    };
    let name = arguments.to.file_name().unwrap_or(arguments.to.as_os_str());
    let card = ModelCard {
        name: name.to_string_lossy().into_owned(),
        base: Some(base),
        labels: plan.labels.clone(),
        in_transformers,
        onnx: None,
        scores: scores.map(|scores| ("held-out text".to_owned(), scores.clone())),
        training: vec![
            format!(
                "method {}, {} epochs, {} steps",
                report.method, report.epochs, report.steps
            ),
            format!("{} sentences, {} words", report.sentences, report.words),
        ],
        privacy: vec![privacy],
        audits: Vec::new(),
    };
    write(
        &arguments.to,
        &[("README.md", card.to_markdown().as_bytes())],
    )
}
