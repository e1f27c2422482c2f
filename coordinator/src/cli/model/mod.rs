//! `model`: versions, their lineage and names, in and out.

mod card;
mod compare;
mod export;
mod prune;
mod show;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use fedner_host::output::{Output, or_dash, table};
use fedner_proto::{CHUNK_BYTES, convert, v1};
use fedner_shared::checkpoint::{self, Directory};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::scheme::HeadTags;
use fedner_shared::version::Origin;
use fedner_shared::view::VersionView;

use super::failed::Failed;
use super::{connect, lists};
use crate::config::Paths;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Register a Hugging Face directory: config.json, tokenizer.json or vocab.txt, and
    /// model.safetensors or its parts
    Import {
        #[arg(long, value_name = "HF_DIR")]
        from: PathBuf,
        /// The model's name; the version will be NAME@1, NAME@2, …
        #[arg(long)]
        name: String,
        /// Leave out the tagging head: what was fine-tuned to other labels, on public text perhaps, is
        /// then a base for any plan
        #[arg(long)]
        encoder_only: bool,
    },
    /// All versions
    List,
    /// One version: NAME@NUMBER, an alias, or a digest
    Show { version: String },
    /// A version and its ancestors, newest first
    Lineage { version: String },
    /// Two versions side by side, by type and by institution
    Compare(compare::Arguments),
    /// Give a version a movable name
    Tag { version: String, alias: String },
    /// Move `champion` (or another alias) back to an earlier version
    Rollback {
        #[arg(long, value_name = "VERSION")]
        to: String,
        #[arg(long, default_value = "champion")]
        alias: String,
    },
    /// Let go of the updates and files of older versions; what has an alias or is under way stays
    Prune(prune::Arguments),
    /// Write a version as a directory that Hugging Face transformers loads
    Export(export::Arguments),
}

pub(super) async fn run(command: Command, paths: &Paths, output: &Output) -> Result<(), Failed> {
    match command {
        Command::Import {
            from,
            name,
            encoder_only,
        } => import(&from, name, encoder_only, paths, output).await,
        Command::List => {
            let models = lists::models(connect::monitoring(paths).await?).await?;
            show_all(models, output)
        }
        Command::Lineage { version } => {
            let line = lists::lineage(connect::monitoring(paths).await?, version).await?;
            show_all(line, output)
        }
        Command::Show { version } => show::run(version, paths, output).await,
        Command::Compare(arguments) => compare::run(arguments, paths, output).await,
        Command::Tag { version, alias } => move_alias(alias, version, false, paths, output).await,
        Command::Rollback { to, alias } => move_alias(alias, to, true, paths, output).await,
        Command::Prune(arguments) => prune::run(arguments, paths, output).await,
        Command::Export(arguments) => export::run(arguments, paths, output).await,
    }
}

async fn import(
    from: &Path,
    name: String,
    encoder_only: bool,
    paths: &Paths,
    output: &Output,
) -> Result<(), Failed> {
    let directory = read_directory(from).await?;
    let mut operations = connect::operations(paths).await?;
    let config = if encoder_only {
        // A coordinator leaves out the head of a model without tags.
        checkpoint::config_without_labels(&directory.config_json)
            .map_err(|error| Failed::refuse(Code::CheckpointInvalid, error.to_string()))?
    } else {
        say_tags(&directory.config_json)?;
        directory.config_json
    };
    let config = operations.put_object(chunks(config.into_bytes())).await?;
    let tokenizer = operations
        .put_object(chunks(directory.tokenizer_json))
        .await?;
    let weights = operations.put_object(chunks(directory.weights)).await?;
    let request = v1::ImportModelRequest {
        name,
        config: config.into_inner().digest,
        tokenizer: tokenizer.into_inner().digest,
        weights: weights.into_inner().digest,
    };
    let view = convert::version_from_wire(operations.import_model(request).await?.into_inner())?;
    output.data(&view, |view| {
        format!("imported {} {}", view.version.name, view.digest)
    })?;
    Ok(())
}

async fn read_directory(from: &Path) -> Result<Directory, Failed> {
    let from = from.to_owned();
    let read = tokio::task::spawn_blocking(move || Directory::read(&from)).await;
    let read = read.map_err(|error| Failed::fault(error.to_string()))?;
    read.map_err(|error| Failed::refuse(Code::CheckpointInvalid, error.to_string()))
}

/// Says what the tags of the head mean, or refuses a model of another task.
fn say_tags(config_json: &str) -> Result<(), Failed> {
    let refuse = |message: String| Failed::refuse(Code::CheckpointInvalid, message);
    if let Some(other) = checkpoint::directory::other_task(config_json) {
        return Err(refuse(format!(
            "config.json is of a {other}, no tagger of words: import it with --encoder-only"
        )));
    }
    let tags = checkpoint::tags_of_config(config_json);
    let tags = tags.map_err(|error| refuse(error.to_string()))?;
    if let Some(head) = tags.as_deref().map(HeadTags::read).and_then(Result::ok) {
        tracing::info!(
            "the head's tags: {}, {}",
            head.scheme,
            head.types.join(", ")
        );
    }
    Ok(())
}

/// The contents in pieces, as they are sent.
fn chunks(contents: Vec<u8>) -> impl futures::Stream<Item = v1::Chunk> + Send + 'static {
    let mut at = 0;
    let next = move || {
        let end = contents.len().min(at + CHUNK_BYTES);
        let data = contents
            .get(at..end)
            .filter(|data| !data.is_empty())?
            .to_vec();
        at = end;
        Some(v1::Chunk { data })
    };
    futures::stream::iter(std::iter::from_fn(next))
}

async fn move_alias(
    alias: String,
    version: String,
    rollback: bool,
    paths: &Paths,
    output: &Output,
) -> Result<(), Failed> {
    let request = v1::MoveAliasRequest {
        alias: alias.clone(),
        version,
        rollback,
    };
    let view = convert::version_from_wire(
        connect::operations(paths)
            .await?
            .move_alias(request)
            .await?
            .into_inner(),
    )?;
    output.data(&view, |view| {
        format!("{alias} is {} {}", view.version.name, view.digest.short())
    })?;
    Ok(())
}

fn show_all(models: Vec<v1::ModelVersion>, output: &Output) -> Result<(), Failed> {
    let views = models.into_iter().map(convert::version_from_wire);
    let views: Vec<VersionView> = views.collect::<Result<_, Refusal>>()?;
    let none =
        "there is no model yet; next: fedner-coordinator model import --from DIR --name NAME";
    output.list(&views, none, |views| {
        let row = |view: &VersionView| {
            let round = view.version.round();
            let epsilon = round.and_then(|round| {
                round
                    .participants
                    .iter()
                    .filter_map(|p| p.epsilon)
                    .max_by(f64::total_cmp)
            });
            [
                view.version.name.to_string(),
                view.digest.short(),
                origin(&view.version.origin),
                or_dash(view.version.parent.map(|parent| parent.short())),
                or_dash(round.map(|round| round.participants.len())),
                or_dash(epsilon.map(round_up)),
                or_dash(view.f1.map(|f1| format!("{f1:.4}"))),
                view.aliases
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(" "),
                or_dash(view.pruned),
            ]
        };
        table(
            [
                "version",
                "digest",
                "origin",
                "parent",
                "institutions",
                "ε",
                "F1",
                "aliases",
                "pruned",
            ],
            &[4, 5, 6],
            views.iter().map(row),
        )
    })?;
    Ok(())
}

/// Two decimals, never rounded down.
fn round_up(epsilon: f64) -> String {
    format!("{:.2}", (epsilon * 100.0).ceil() / 100.0)
}

fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Import => "import".to_owned(),
        Origin::Head { .. } => "new head".to_owned(),
        Origin::Prepared { .. } => "made ready".to_owned(),
        Origin::Round(round) => format!("{} round {}", round.run, round.round),
    }
}
